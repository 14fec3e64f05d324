"""Logits that start from what another model says of a row, kept in its last columns."""

from torch import Tensor


def last_columns(X: Tensor, n_columns: int) -> Tensor | None:
    """Last columns of rows, or None for none.

    Parameters
    ----------
    X : Tensor of shape (n_tasks, n_rows, n_features)
        Rows.
    n_columns : int
        How many, >= 0.

    Returns
    -------
    Tensor of shape (n_tasks, n_rows, n_columns) or None
        The columns, as a view.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import last_columns
    >>> last_columns(torch.arange(3.0).reshape(1, 1, 3), 2)
    tensor([[[1., 2.]]])
    """
    return X[..., -n_columns:] if n_columns else None


def add_offset(outputs: Tensor, offset: Tensor | None) -> Tensor:
    """Outputs counted from an offset, or as they are if there is none.

    Parameters
    ----------
    outputs : Tensor of shape (n_tasks, n_rows, n_outputs)
        Of a network.
    offset : Tensor of shape (n_tasks, n_rows, n_outputs) or None
        As of `last_columns`.

    Returns
    -------
    Tensor of shape (n_tasks, n_rows, n_outputs)
        Their sum.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import add_offset
    >>> add_offset(torch.ones(1, 1, 1), torch.ones(1, 1, 1)).item()
    2.0
    """
    return outputs if offset is None else outputs + offset
