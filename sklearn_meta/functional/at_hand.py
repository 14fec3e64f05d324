"""Numbers that are looked at only where that costs nothing.

A program on the CPU runs ahead of a GPU, and has to wait for it to read a number. So
code that saves work where it can does not ask a GPU, and does all of the work there.
"""

from torch import Tensor

__all__ = ["is_at_hand", "is_whole"]


def is_at_hand(values: Tensor) -> bool:
    """Whether the numbers of a tensor can be read without waiting for a GPU.

    Parameters
    ----------
    values : Tensor
        Any tensor.

    Returns
    -------
    bool
        True on the CPU.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional.at_hand import is_at_hand
    >>> is_at_hand(torch.zeros(2)), is_at_hand(torch.zeros(2, device="meta"))
    (True, False)
    """
    return values.is_cpu


def is_whole(mask: Tensor) -> bool:
    """Whether it is known that there is no padding; of a GPU it is not.

    Parameters
    ----------
    mask : Tensor of shape (n_tasks, n_rows), bool
        True for a real row.

    Returns
    -------
    bool
        True where every row is known to be real.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional.at_hand import is_whole
    >>> is_whole(torch.tensor([[True, True]])), is_whole(torch.tensor([[True, False]]))
    (True, False)
    """
    # numpy is as fast as torch on small masks, and faster on large ones
    return is_at_hand(mask) and bool(mask.numpy().all())
