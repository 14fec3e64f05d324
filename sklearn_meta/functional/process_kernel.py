"""The kernel of the Gaussian processes of many small tasks.

That of two rows is the product of their linear features plus a squared exponential of
their coordinates. Its gradient is written out, as are those of what follows from it
in `gaussian_process`.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["KernelRows", "kernel_diagonal", "kernel_matrix"]


class KernelRows(NamedTuple):
    """What the kernel reads of the rows of every task.

    Parameters
    ----------
    linear : Tensor of shape (n_tasks, n_rows, n_linear)
        Features whose products are the linear part of the kernel.
    coordinates : Tensor of shape (n_tasks, n_rows, n_coordinates)
        Coordinates of the squared exponential part, in length scales.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import KernelRows
    >>> rows = KernelRows(torch.zeros(2, 5, 3), torch.zeros(2, 5, 1))
    >>> [part.linear.shape[1] for part in rows.split(4)]
    [4, 1]
    """

    linear: Tensor
    coordinates: Tensor

    def split(self, n_first: int) -> tuple["KernelRows", "KernelRows"]:
        """Return the first rows of every task, and the others.

        Parameters
        ----------
        n_first : int
            Number of first rows.

        Returns
        -------
        first, rest : KernelRows
            Views.
        """
        first = KernelRows(self.linear[:, :n_first], self.coordinates[:, :n_first])
        rest = KernelRows(self.linear[:, n_first:], self.coordinates[:, n_first:])
        return first, rest


def kernel_matrix(a: KernelRows, b: KernelRows, log_variance: Tensor) -> Tensor:
    """Covariance of the function's values at two sets of rows.

    It is ``linear_a . linear_b + variance * exp(-|u_a - u_b|^2 / 2)``, u coordinates.

    Parameters
    ----------
    a : KernelRows of n_a rows per task
        Rows.
    b : KernelRows of n_b rows per task
        Rows.
    log_variance : Tensor of shape ()
        Logarithm of the variance of the squared exponential part. Without a gradient it
        may be each task's own, of shape (n_tasks, 1, 1).

    Returns
    -------
    Tensor of shape (n_tasks, n_a, n_b)
        Covariances. The gradient is explicit and cannot be differentiated again.

    References
    ----------
    C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning",
    MIT Press, 2006, equations 4.9 and 4.27.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import KernelRows, kernel_matrix
    >>> rows = KernelRows(torch.ones(1, 2, 1), torch.zeros(1, 2, 3))
    >>> kernel_matrix(rows, rows, torch.tensor(0.0))[0].tolist()
    [[2.0, 2.0], [2.0, 2.0]]
    """
    kernel: Tensor = _Kernel.apply(*a, *b, log_variance)
    return kernel


def kernel_diagonal(rows: KernelRows, log_variance: Tensor) -> Tensor:
    """Variance of the function's value at every row.

    Parameters
    ----------
    rows : KernelRows
        Rows.
    log_variance : Tensor of shape ()
        As of :func:`kernel_matrix`.

    Returns
    -------
    Tensor of shape (n_tasks, n_rows)
        The diagonal of the kernel of the rows.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import KernelRows, kernel_diagonal
    >>> rows = KernelRows(torch.ones(1, 2, 3), torch.zeros(1, 2, 1))
    >>> kernel_diagonal(rows, torch.tensor(0.0)).tolist()
    [[4.0, 4.0]]
    """
    return rows.linear.square().sum(-1) + log_variance.exp().view(-1, 1)


class _Kernel(torch.autograd.Function):
    """`kernel_matrix` with its gradient."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        linear_a, coordinates_a, linear_b, coordinates_b, log_variance = inputs
        origin = middle(coordinates_b)
        a = KernelRows(linear_a, coordinates_a - origin)
        b = KernelRows(linear_b, coordinates_b - origin)
        smooth = smooth_part(a, b, log_variance)
        ctx.save_for_backward(*a, *b, smooth)
        return torch.baddbmm(smooth, linear_a, linear_b.mT)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        linear_a, a, linear_b, b, smooth = ctx.saved_tensors
        to_smooth = gradient * smooth
        to_a, to_b = distance_gradients(to_smooth, a, b)
        to_linear_a, to_linear_b = gradient @ linear_b, gradient.mT @ linear_a
        return to_linear_a, to_a, to_linear_b, to_b, to_smooth.sum()


def middle(coordinates: Tensor) -> Tensor:
    """A point amid the rows of every task, (n_tasks, 1, n_coordinates).

    Distances from there are the same, but large coordinates no longer cancel in
    float32.
    """
    n_rows = max(coordinates.shape[1], 1)
    return coordinates.sum(1, keepdim=True) / n_rows


def smooth_part(a: KernelRows, b: KernelRows, log_variance: Tensor) -> Tensor:
    """Squared exponential part of the kernel of rows a and b, (n_tasks, n_a, n_b)."""
    squares_a = a.coordinates.square().sum(-1).unsqueeze(-1)
    squares_b = b.coordinates.square().sum(-1).unsqueeze(-2)
    distances = torch.baddbmm(
        squares_a + squares_b, a.coordinates, b.coordinates.mT, alpha=-2
    )
    return distances.clamp_min_(0).mul_(-0.5).add_(log_variance).exp_()


def distance_gradients(slope: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of two sets of coordinates from that of minus half their distances.

    The slope is of shape (n_tasks, n_a, n_b), they of (n_tasks, n_rows, n_coordinates).
    """
    by_a, by_b = slope.sum(2, keepdim=True), slope.sum(1).unsqueeze(-1)
    to_a = torch.baddbmm(by_a * a, slope, b, beta=-1)
    to_b = torch.baddbmm(by_b * b, slope.mT, a, beta=-1)
    return to_a, to_b
