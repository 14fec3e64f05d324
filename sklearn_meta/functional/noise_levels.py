r"""Gaussian processes whose noise has a level of its own in every task.

The level multiplies the variances of the noise. It is one of a few, of known prior
weights, and what is said of a query row is a mixture over them: a Gaussian for each
level, weighed by how likely the support is at that level.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_meta.functional.compiled_process import Levels
from sklearn_meta.functional.gaussian_process import (
    condition_on_support,
    log_marginal_likelihood,
)
from sklearn_meta.functional.likelihoods import Gaussian
from sklearn_meta.functional.process_kernel import KernelRows, kernel_matrix
from sklearn_meta.functional.support import solve_support

__all__ = ["LevelMixture", "condition_on_levels", "solve_levels"]


class LevelMixture(NamedTuple):
    """What the levels say of query rows.

    Parameters
    ----------
    mean : Tensor of shape (n_tasks, n_levels, n_query)
        Means.
    variance : Tensor of shape (n_tasks, n_levels, n_query)
        Variances, > 0.
    log_weight : Tensor of shape (n_tasks, n_levels)
        Logarithms of the weights, of which the sum over levels is 1.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional.noise_levels import LevelMixture
    >>> mean = torch.tensor([[[0.0], [2.0]]])
    >>> mixture = LevelMixture(mean, torch.ones(1, 2, 1), torch.full((1, 2), 0.5).log())
    >>> mixture.moments()
    Gaussian(mean=tensor([[1.]]), std=tensor([[1.4142]]))
    """

    mean: Tensor
    variance: Tensor
    log_weight: Tensor

    def moments(self) -> Gaussian:
        """Return the Gaussian of the same mean and variance, (n_tasks, n_query)."""
        if self.mean.shape[1] == 1:
            return Gaussian(self.mean.squeeze(1), self.variance.squeeze(1).sqrt())
        weight = self.log_weight.exp().unsqueeze(-1)
        mean = (weight * self.mean).sum(1)
        spread = self.variance + (self.mean - mean.unsqueeze(1)).square()
        return Gaussian(mean, (weight * spread).sum(1).sqrt())

    def nll(self, Y: Tensor) -> Tensor:
        """Return minus the log density of each target (n_tasks, n_query, 1)."""
        miss = Y.mT - self.mean
        log_density = -0.5 * (self.variance.log() + miss.square() / self.variance)
        total = torch.logsumexp(self.log_weight.unsqueeze(-1) + log_density, 1)
        return 0.5 * math.log(2 * math.pi) - total


def condition_on_levels(
    rows: KernelRows,
    log_variance: Tensor,
    noise: Tensor,
    residual: Tensor,
    mask: Tensor,
    levels: Levels,
) -> tuple[Tensor, Tensor, Tensor]:
    """Condition a zero-mean process on the support rows, at each level of the noise.

    Parameters
    ----------
    rows, log_variance, noise, residual, mask
        As of :func:`condition_on_support`.
    levels : Levels of (n_levels,)
        The levels; their gradient is autograd's.

    Returns
    -------
    mean, variance : Tensor of shape (n_tasks, n_levels, n_query)
        Of the function, as of :func:`condition_on_support`.
    log_weight : Tensor of shape (n_tasks, n_levels)
        As of :class:`LevelMixture`.
    """
    if levels.log_level is None:
        mean, variance = condition_on_support(rows, log_variance, noise, residual, mask)
        return mean.unsqueeze(1), variance.unsqueeze(1), noise.new_zeros(len(mask), 1)
    system = _at_levels(rows, log_variance, noise, residual, mask, levels.log_level)
    support, _ = rows.split(mask.shape[1])
    # the same at all levels
    kernel = kernel_matrix(support, support, log_variance)
    kernel = _repeat(kernel, levels.log_level.shape[-1])
    log_weight = _weigh(log_marginal_likelihood(kernel, *system[2:]), mask, levels)
    mean, variance = condition_on_support(*system)
    shape = log_weight.shape
    return mean.unflatten(0, shape), variance.unflatten(0, shape), log_weight


def solve_levels(
    rows: KernelRows,
    log_variance: Tensor,
    noise: Tensor,
    residual: Tensor,
    mask: Tensor,
    levels: Levels,
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve the system of the support rows at each level of the noise.

    Parameters
    ----------
    rows, log_variance, noise, residual, mask
        As of :func:`solve_support`.
    levels : Levels of (n_levels,) or (n_tasks, n_levels)
        The levels.

    Returns
    -------
    factor : Tensor of shape (n_tasks, n_levels, n_support, n_support)
        As of :func:`solve_support`.
    values : Tensor of shape (n_tasks, n_levels, n_support)
        The residuals times it.
    log_weight : Tensor of shape (n_tasks, n_levels)
        As of :class:`LevelMixture`.
    """
    if levels.log_level is None:
        factor, values = solve_support(rows, log_variance, noise, residual, mask)
        return factor.unsqueeze(1), values.unsqueeze(1), noise.new_zeros(len(mask), 1)
    system = _at_levels(rows, log_variance, noise, residual, mask, levels.log_level)
    factor, values = solve_support(*system)
    density = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    density = density - 0.5 * values.square().sum(-1)
    log_weight = _weigh(density, mask, levels)
    shape = log_weight.shape
    return factor.unflatten(0, shape), values.unflatten(0, shape), log_weight


def _at_levels(
    rows: KernelRows,
    log_variance: Tensor,
    noise: Tensor,
    residual: Tensor,
    mask: Tensor,
    log_level: Tensor,
) -> tuple[KernelRows, Tensor, Tensor, Tensor, Tensor]:
    """Each task once for each level of its noise, (n_tasks * n_levels, ...)."""
    n_levels = log_level.shape[-1]
    if log_variance.ndim:
        log_variance = _repeat(log_variance, n_levels)
    return (
        KernelRows(*(_repeat(part, n_levels) for part in rows)),
        log_variance,
        (noise.unsqueeze(1) * log_level.exp().unsqueeze(-1)).flatten(0, 1),
        _repeat(residual, n_levels),
        _repeat(mask, n_levels),
    )


def _repeat(values: Tensor, n_levels: int) -> Tensor:
    """Values of every task, once for each level, (n_tasks * n_levels, ...)."""
    return values.repeat_interleave(n_levels, 0)


def _weigh(log_density: Tensor, mask: Tensor, levels: Levels) -> Tensor:
    """Logarithms of the weights of levels, (n_tasks, n_levels).

    They follow from the density (n_tasks * n_levels,) of the support at each level.
    """
    of_tasks = log_density.unflatten(0, (len(mask), -1))
    return torch.log_softmax(levels.logit + of_tasks, 1)
