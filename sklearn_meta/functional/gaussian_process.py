"""Exact Gaussian processes of many small tasks at once.

What training repeats thousands of times has its gradient written out: with a handful of
rows per task, walking the graph of an exact solve takes longer than the solve.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sklearn_meta.functional.at_hand import is_whole
from sklearn_meta.functional.factors import stable_cholesky
from sklearn_meta.functional.process_kernel import (
    KernelRows,
    distance_gradients,
    kernel_diagonal,
    middle,
    smooth_part,
)

__all__ = [
    "condition_on_support",
    "inverse_factor",
    "log_marginal_likelihood",
]


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


class _Conditional(torch.autograd.Function):
    """`condition_on_support`: one factorisation forward, products only backward."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        linear, coordinates, log_variance, noise, residual, mask = inputs
        n_support = mask.shape[1]
        coordinates = coordinates - middle(coordinates)
        rows = KernelRows(linear, coordinates)
        support, query = rows.split(n_support)
        smooth = smooth_part(rows, support, log_variance)
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
        to_rows, to_support = distance_gradients(
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


def _solution_gradients(
    of_mean: Tensor, of_variance: Tensor, factor: Tensor, values: Tensor, white: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients by the kernel with the support, and by the residual.

    They are of shapes (n_tasks, n_support + n_query, n_support), the support first, and
    (n_tasks, n_support); the first two arguments are (n_tasks, n_query, 1).
    """
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
