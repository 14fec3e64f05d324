"""Gaussian processes whose noise has a level of its own in every task."""

import pytest
import torch

from sklearn_meta.functional import KernelRows, kernel_matrix
from sklearn_meta.functional.compiled_process import Levels
from sklearn_meta.functional.noise_levels import condition_on_levels, solve_levels

N_TASKS, N_SUPPORT = 3, 4
LEVELS = Levels(torch.tensor([-0.5, 0.0, 0.7]), torch.tensor([0.2, 0.0, -0.3]))
LOG_VARIANCE = torch.tensor(-0.3)


@pytest.fixture
def system():
    """Rows of ragged tasks, support first, and noise, residuals and mask of it."""
    torch.manual_seed(0)
    rows = KernelRows(torch.randn(N_TASKS, 6, 2), torch.randn(N_TASKS, 6, 3))
    mask = torch.arange(N_SUPPORT) < torch.tensor([4, 2, 0])[:, None]
    residual = torch.where(mask, torch.randn(mask.shape), 0)
    return rows, 0.1 + torch.rand(mask.shape), residual, mask


def test_both_ways_of_conditioning_say_the_same(system):
    # Training conditions queries at once; serving keeps a factor for those to come.
    rows, noise, residual, mask = system
    support, query = rows.split(N_SUPPORT)
    known = noise, residual, mask, LEVELS
    mean, variance, log_weight = condition_on_levels(rows, LOG_VARIANCE, *known)
    factor, values, weight_of_solution = solve_levels(support, LOG_VARIANCE, *known)
    kernel = kernel_matrix(query, support, LOG_VARIANCE) * mask.unsqueeze(1)
    whitened = kernel.unsqueeze(1) @ factor.mT
    torch.testing.assert_close(weight_of_solution, log_weight)
    torch.testing.assert_close((whitened @ values.unsqueeze(-1)).squeeze(-1), mean)
    prior = kernel_matrix(query, query, LOG_VARIANCE).diagonal(dim1=1, dim2=2)
    explained = whitened.square().sum(-1)
    torch.testing.assert_close(prior.unsqueeze(1) - explained, variance)


def test_levels_of_each_task_are_those_of_the_task_alone(system):
    # A team of learners has levels, and a kernel, of each member.
    rows, noise, residual, mask = system
    support, _ = rows.split(N_SUPPORT)
    shift = torch.tensor([0.0, 1.0, -1.0])[:, None]
    own = Levels(*(part + shift for part in LEVELS))
    variances = LOG_VARIANCE + shift.unsqueeze(-1)
    together = solve_levels(support, variances, noise, residual, mask, own)
    for i in range(N_TASKS):
        alone = solve_levels(
            KernelRows(*(part[i : i + 1] for part in support)),
            variances[i, 0, 0],
            noise[i : i + 1],
            residual[i : i + 1],
            mask[i : i + 1],
            Levels(*(part[i] for part in own)),
        )
        for part, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(part[i : i + 1], expected)


def test_weights_without_support_are_those_known_beforehand(system):
    # Nothing tells the levels apart in the last task, which has no row.
    rows, *known = system
    _, _, log_weight = condition_on_levels(rows, LOG_VARIANCE, *known, LEVELS)
    torch.testing.assert_close(log_weight[2], LEVELS.logit.log_softmax(0))
