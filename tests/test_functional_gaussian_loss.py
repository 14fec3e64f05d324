"""Formulas against autograd: the mean likelihood of Gaussian predictions."""

import pytest
import torch

from sklearn_meta.functional import Gaussian, gaussian_nll, masked_task_mean
from sklearn_meta.functional.gaussian_loss import mean_gaussian_nll


def draw_prediction(mask):
    """Predictions of rows and targets; those of padding are no numbers."""
    generator = torch.Generator().manual_seed(0)
    mean, raw, Y = torch.randn(3, *mask.shape, generator=generator).double()
    std = raw.exp()
    for values in (mean, std):
        values[~mask] = torch.nan
    return mean.requires_grad_(), std.requires_grad_(), Y.unsqueeze(-1)


@pytest.mark.parametrize("n_rows", [[5, 5, 5], [5, 2, 1], [3, 0, 5]])
def test_loss_and_gradient_are_those_of_autograd(n_rows):
    """With padding, and with a task that has no rows at all."""
    mask = torch.arange(5) < torch.tensor(n_rows).unsqueeze(1)
    mean, std, Y = draw_prediction(mask)
    found = mean_gaussian_nll(Gaussian(mean, std), Y, mask)
    # autograd takes what is no number in padding for a gradient
    filled = [torch.where(mask, part.detach(), 1.0) for part in (mean, std)]
    filled = [part.requires_grad_() for part in filled]
    expected = masked_task_mean(gaussian_nll(Gaussian(*filled), Y), mask)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradient = torch.autograd.grad(2 * found, (mean, std))
    other = torch.autograd.grad(2 * expected, filled)
    torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-12)
