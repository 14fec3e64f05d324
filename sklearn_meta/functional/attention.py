"""Reading a support set of any size: masked pooling and attention."""

import torch
from torch import Tensor
from torch.nn import functional as F


def masked_mean_pool(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of each task's real rows; zeros for an empty support.

    Parameters
    ----------
    values : Tensor of shape (n_tasks, n_rows, n_columns)
        Row representations. Padding must be finite.
    mask : Tensor of shape (n_tasks, n_rows), bool
        True for a real row.

    Returns
    -------
    Tensor of shape (n_tasks, n_columns)
        One representation a task.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import masked_mean_pool
    >>> values = torch.tensor([[[1.0], [3.0], [9.0]]])
    >>> masked_mean_pool(values, torch.tensor([[True, True, False]]))
    tensor([[2.]])
    """
    weights = mask.to(values).unsqueeze(1)  # (n_tasks, 1, n_rows)
    total = (weights @ values).squeeze(1)
    return total / mask.sum(1, keepdim=True).clamp_min(1)


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, n_heads: int = 1
) -> Tensor:
    """Multi-head scaled dot-product attention of queries to a masked support.

    Parameters
    ----------
    queries : Tensor of shape (n_tasks, n_query, n_columns)
        Projected queries; each is answered on its own.
    keys : Tensor of shape (n_tasks, n_support, n_columns)
        Projected keys.
    values : Tensor of shape (n_tasks, n_support, n_values)
        Projected values.
    mask : Tensor of shape (n_tasks, n_support), bool
        True for a row that may be attended to.
    n_heads : int, default=1
        Number of heads; divides n_columns and n_values.

    Returns
    -------
    Tensor of shape (n_tasks, n_query, n_values)
        Weighted means of the values, heads side by side; zeros for an empty support.

    Notes
    -----
    `scaled_dot_product_attention` never builds the (n_query, n_support) weights where
    it has a fused kernel, so that memory stays linear in the support.

    References
    ----------
    A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, equation 1.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import attend
    >>> queries, keys = torch.zeros(1, 1, 2), torch.zeros(1, 2, 2)
    >>> values = torch.tensor([[[1.0, 1.0], [3.0, 5.0]]])
    >>> attend(queries, keys, values, torch.tensor([[True, True]]))
    tensor([[[2., 3.]]])
    """
    if keys.shape[1] == 0:
        return queries.new_zeros(*queries.shape[:2], values.shape[2])
    any_row = mask.any(1)[:, None, None, None]
    # A softmax over nothing is NaN, and so is its gradient: an empty support attends
    # to its padding and is zeroed afterwards.
    allowed = mask[:, None, None, :] | ~any_row
    attended = F.scaled_dot_product_attention(
        _split_heads(queries, n_heads),
        _split_heads(keys, n_heads),
        _split_heads(values, n_heads),
        attn_mask=allowed,
    )
    return torch.where(any_row, attended, 0).transpose(1, 2).flatten(2)


def _split_heads(rows: Tensor, n_heads: int) -> Tensor:
    """(n_tasks, n_rows, n_columns) to (n_tasks, n_heads, n_rows, columns a head)."""
    return rows.unflatten(-1, (n_heads, -1)).transpose(1, 2)
