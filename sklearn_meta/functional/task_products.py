"""Products of the rows of tasks with matrices that tasks share, or each task has.

Rows are of shape (n_tasks, n_rows, width): h are those that enter a layer, delta the
derivatives by what the layer gives. A matrix that tasks share is (n_out, n_in), one of
each task (n_tasks, n_out, n_in), where nothing else is said.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def affine(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Rows h through one layer, shared or of each task: (n_tasks, n_rows, n_out)."""
    if weight.ndim == 2:
        return F.linear(h, weight, bias)
    return torch.baddbmm(bias.unsqueeze(1), h, weight.mT)


def matmul(rows: Tensor, matrix: Tensor) -> Tensor:
    """``rows @ matrix``, the matrix (width, n) shared or of each task."""
    # for a stack of matrices `@` takes a dozen views before it comes to this
    return rows @ matrix if matrix.ndim == 2 else torch.bmm(rows, matrix)


def add_matmul_(total: Tensor, rows: Tensor, matrix: Tensor) -> None:
    """Add ``rows @ matrix`` in place, the matrix (width, n) shared or of each task."""
    if matrix.ndim == 2:
        total += rows @ matrix
    else:
        total.baddbmm_(rows, matrix)


def add_product(base: Tensor, delta: Tensor, h: Tensor, alpha: float) -> Tensor:
    """``base + alpha * delta^T h``, over all tasks if `base` is (n_out, n_in)."""
    if delta.shape[-1] > h.shape[-1]:
        # The longer axis last: products with a narrow last axis are slow.
        return add_product(base.mT, h, delta, alpha).mT
    if base.ndim == 2:
        delta, h = delta.flatten(0, 1), h.flatten(0, 1)
        return torch.addmm(base, delta.mT, h, alpha=alpha)
    return torch.baddbmm(base, delta.mT, h, alpha=alpha)


def add_product_(total: Tensor, delta: Tensor, h: Tensor, alpha: float) -> None:
    """The same as `add_product`, added to the total in place."""
    if delta.shape[-1] > h.shape[-1]:
        add_product_(total.mT, h, delta, alpha)
    elif total.ndim == 2:
        total.addmm_(delta.flatten(0, 1).mT, h.flatten(0, 1), alpha=alpha)
    else:
        total.baddbmm_(delta.mT, h, alpha=alpha)


def product(delta: Tensor, h: Tensor) -> Tensor:
    """``delta^T h`` of every task, (n_tasks, n_out, n_in), as `add_product`."""
    if delta.shape[-1] > h.shape[-1]:
        return torch.bmm(h.mT, delta).mT
    return torch.bmm(delta.mT, h)


def add_rows(base: Tensor, delta: Tensor, alpha: float) -> Tensor:
    """``base + alpha * sum of delta`` over rows, and tasks if `base` is (n_out,)."""
    axes = 1 if base.ndim == 2 else (0, 1)
    return torch.add(base, delta.sum(axes), alpha=alpha)
