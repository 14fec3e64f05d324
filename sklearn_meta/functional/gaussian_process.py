"""Exact Gaussian processes of many small tasks at once.

The kernel of two rows is the product of their linear features plus a squared
exponential of their coordinates. What training repeats thousands of times has its
gradient written out: with a handful of rows per task, walking the graph of an exact
solve takes longer than the solve.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sklearn_meta.functional.at_hand import is_whole
from sklearn_meta.functional.factors import stable_cholesky

__all__ = [
    "KernelRows",
    "condition_on_support",
    "inverse_factor",
    "kernel_diagonal",
    "kernel_matrix",
    "log_marginal_likelihood",
]


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


def inverse_factor(kernel: Tensor, noise: Tensor, mask: Tensor) -> Tensor:
    """Inverse of the Cholesky factor of the support's covariance with noise.

    Parameters
    ----------
    kernel : Tensor of shape (n_tasks, n_support, n_support)
        Covariance of the function at the support rows.
    noise : Tensor of shape (n_tasks, n_support)
        Variance of the noise of each row, > 0.
    mask : Tensor of shape (n_tasks, n_support), bool
        True for a real row; the factor of padding is that of the identity.

    Returns
    -------
    Tensor of shape (n_tasks, n_support, n_support)
        Lower triangular M with ``M' M`` the inverse of the covariance; NaN for a task
        whose covariance is not finite.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import inverse_factor
    >>> kernel, noise = torch.full((1, 1, 1), 3.0), torch.ones(1, 1)
    >>> inverse_factor(kernel, noise, noise > 0).tolist()
    [[[0.5]]]
    """
    if is_whole(mask):
        covariance = kernel.clone()
    else:
        real = mask.to(kernel.dtype)
        covariance = kernel * (real.unsqueeze(-1) * real.unsqueeze(-2))
        # not a product, which would keep what is not finite in the noise of padding
        noise = torch.where(mask, noise, 1)
    covariance.diagonal(dim1=1, dim2=2).add_(noise)
    factor = stable_cholesky(covariance, check=False)
    identity = torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
    return torch.linalg.solve_triangular(factor, identity, upper=False)


def condition_on_support(
    rows: KernelRows,
    log_variance: Tensor,
    noise: Tensor,
    residual: Tensor,
    mask: Tensor,
) -> tuple[Tensor, Tensor]:
    """Condition a zero-mean process on noisy values at the support rows.

    Parameters
    ----------
    rows : KernelRows of n_support + n_query rows per task
        All rows, the support first.
    log_variance : Tensor of shape ()
        As of :func:`kernel_matrix`.
    noise : Tensor of shape (n_tasks, n_support)
        Variance of the noise of each support row, > 0.
    residual : Tensor of shape (n_tasks, n_support)
        The values; those of padding do not matter.
    mask : Tensor of shape (n_tasks, n_support), bool
        True for a real row.

    Returns
    -------
    mean : Tensor of shape (n_tasks, n_query)
        Posterior mean of the function at the query rows.
    variance : Tensor of shape (n_tasks, n_query)
        Its posterior variance; rounding may leave it slightly below zero. Both have
        explicit gradients that cannot be differentiated again.

    References
    ----------
    C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning",
    MIT Press, 2006, equations 2.25 and 2.26.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import KernelRows, condition_on_support
    >>> rows = KernelRows(torch.zeros(1, 2, 1), torch.zeros(1, 2, 1))
    >>> zero, one = torch.tensor(0.0), torch.ones(1, 1)
    >>> mean, variance = condition_on_support(rows, zero, one, 3 * one, one > 0)
    >>> mean.tolist(), variance.tolist()
    ([[1.5]], [[0.5]])
    """
    mean, variance = _Conditional.apply(*rows, log_variance, noise, residual, mask)
    return mean, variance


def log_marginal_likelihood(
    kernel: Tensor, noise: Tensor, residual: Tensor, mask: Tensor
) -> Tensor:
    """Log density of all values of every task, in nats.

    Parameters
    ----------
    kernel : Tensor of shape (n_tasks, n_rows, n_rows)
        Covariance of the function at the rows.
    noise : Tensor of shape (n_tasks, n_rows)
        Variance of the noise of each row, > 0.
    residual : Tensor of shape (n_tasks, n_rows)
        The values, from a zero-mean process; those of padding do not matter.
    mask : Tensor of shape (n_tasks, n_rows), bool
        True for a real row.

    Returns
    -------
    Tensor of shape (n_tasks,)
        One log density a task. The gradient is explicit and cannot be differentiated
        again.

    References
    ----------
    C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning",
    MIT Press, 2006, equations 5.8 and 5.9.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import log_marginal_likelihood
    >>> zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    >>> log_marginal_likelihood(zero[None], one, zero, one > 0)
    tensor([-0.9189])
    """
    density: Tensor = _LogMarginal.apply(kernel, noise, residual, mask)
    return density


class _Kernel(torch.autograd.Function):
    """`kernel_matrix` with its gradient."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        linear_a, coordinates_a, linear_b, coordinates_b, log_variance = inputs
        origin = _middle(coordinates_b)
        a = KernelRows(linear_a, coordinates_a - origin)
        b = KernelRows(linear_b, coordinates_b - origin)
        smooth = _smooth_part(a, b, log_variance)
        ctx.save_for_backward(*a, *b, smooth)
        return torch.baddbmm(smooth, linear_a, linear_b.mT)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        linear_a, a, linear_b, b, smooth = ctx.saved_tensors
        to_smooth = gradient * smooth
        to_a, to_b = _distance_gradients(to_smooth, a, b)
        to_linear_a, to_linear_b = gradient @ linear_b, gradient.mT @ linear_a
        return to_linear_a, to_a, to_linear_b, to_b, to_smooth.sum()


class _Conditional(torch.autograd.Function):
    """`condition_on_support`: one factorisation forward, products only backward."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        linear, coordinates, log_variance, noise, residual, mask = inputs
        n_support = mask.shape[1]
        coordinates = coordinates - _middle(coordinates)
        rows = KernelRows(linear, coordinates)
        support, query = rows.split(n_support)
        smooth = _smooth_part(rows, support, log_variance)
        kernel = torch.baddbmm(smooth, linear, support.linear.mT)
        factor = inverse_factor(kernel[:, :n_support], noise, mask)
        to_query = kernel[:, n_support:]
        if not is_whole(mask):
            real = mask.to(kernel.dtype)
            to_query, residual = to_query * real.unsqueeze(1), residual * real
        values = factor @ residual.unsqueeze(-1)
        whitened = to_query @ factor.mT  # (n_tasks, n_query, n_support)
        ctx.save_for_backward(
            linear, coordinates, log_variance, mask, smooth, factor, values, whitened
        )
        prior = kernel_diagonal(query, log_variance)
        mean = (whitened @ values).squeeze(-1)
        return mean, prior - whitened.square().sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_mean, of_variance = (gradient.unsqueeze(-1) for gradient in gradients)
        linear, coordinates, log_variance, mask, smooth, *solution = ctx.saved_tensors
        to_kernel, to_residual = _solution_gradients(of_mean, of_variance, *solution)
        n_support = mask.shape[1]
        to_smooth = to_kernel * smooth
        to_rows, to_support = _distance_gradients(
            to_smooth, coordinates, coordinates[:, :n_support]
        )
        to_rows[:, :n_support] += to_support
        to_linear = to_kernel @ linear[:, :n_support]
        to_linear[:, :n_support] += to_kernel.mT @ linear
        # the prior variance of query rows
        to_linear[:, n_support:].addcmul_(linear[:, n_support:], of_variance, value=2)
        to_log_variance = to_smooth.sum() + of_variance.sum() * log_variance.exp()
        # padding has weight zero, so that its gradients are zero already
        to_noise = to_kernel[:, :n_support].diagonal(dim1=1, dim2=2) * mask
        return to_linear, to_rows, to_log_variance, to_noise, to_residual, None


def _middle(coordinates: Tensor) -> Tensor:
    """A point amid the rows of every task, (n_tasks, 1, n_coordinates).

    Distances from there are the same, but large coordinates no longer cancel in
    float32.
    """
    n_rows = max(coordinates.shape[1], 1)
    return coordinates.sum(1, keepdim=True) / n_rows


def _smooth_part(a: KernelRows, b: KernelRows, log_variance: Tensor) -> Tensor:
    """Squared exponential part of the kernel, (n_tasks, n_a, n_b)."""
    squares_a = a.coordinates.square().sum(-1).unsqueeze(-1)
    squares_b = b.coordinates.square().sum(-1).unsqueeze(-2)
    distances = torch.baddbmm(
        squares_a + squares_b, a.coordinates, b.coordinates.mT, alpha=-2
    )
    return distances.clamp_min_(0).mul_(-0.5).add_(log_variance).exp_()


def _distance_gradients(slope: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of two sets of coordinates from that of minus half their distances."""
    by_a, by_b = slope.sum(2, keepdim=True), slope.sum(1).unsqueeze(-1)
    to_a = torch.baddbmm(by_a * a, slope, b, beta=-1)
    to_b = torch.baddbmm(by_b * b, slope.mT, a, beta=-1)
    return to_a, to_b


def _solution_gradients(
    of_mean: Tensor, of_variance: Tensor, factor: Tensor, values: Tensor, white: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the kernel with the support, and of the residual."""
    weights = white @ factor  # of each support row in each query's mean
    solved = factor.mT @ values  # inverse covariance times residual
    to_residual = weights.mT @ of_mean
    scaled = of_variance * weights
    # d(inverse) = -inverse d(covariance) inverse
    to_covariance = torch.baddbmm(to_residual * solved.mT, scaled.mT, weights, beta=-1)
    to_query = torch.baddbmm(scaled, of_mean, solved.mT, beta=-2)
    return torch.cat([to_covariance, to_query], 1), to_residual.squeeze(-1)


class _LogMarginal(torch.autograd.Function):
    """`log_marginal_likelihood` with the trace formula as its gradient."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        kernel, noise, residual, mask = inputs
        factor = inverse_factor(kernel, noise, mask)
        values = factor @ torch.where(mask, residual, 0).unsqueeze(-1)
        ctx.save_for_backward(factor, values, mask)
        log_determinant = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = 0.5 * math.log(2 * math.pi) * mask.sum(1, dtype=kernel.dtype)
        return log_determinant - 0.5 * values.square().sum((1, 2)) - constant

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        factor, values, mask = ctx.saved_tensors
        gradient = gradient[:, None, None]
        solved = factor.mT @ values
        to_kernel = torch.baddbmm(
            solved * solved.mT, factor.mT, factor, alpha=-0.5, beta=0.5
        )
        to_kernel = to_kernel * (mask.unsqueeze(1) * mask.unsqueeze(2)) * gradient
        to_noise = to_kernel.diagonal(dim1=1, dim2=2)
        return to_kernel, to_noise, -(gradient * solved).squeeze(-1), None
