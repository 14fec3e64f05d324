"""Mixtures over samples agree with those of many draws and with hand-made sums."""

import torch

from sklearn_meta.functional import (
    Gaussian,
    gaussian_moments,
    mean_probabilities,
    mixture_nll,
)


def _samples():
    generator = torch.Generator().manual_seed(0)
    shape = (2, 4, 3)
    mean = torch.randn(shape, generator=generator, dtype=torch.float64)
    std = 0.5 + torch.rand(shape, generator=generator, dtype=torch.float64)
    return Gaussian(mean, std)


def test_moments_of_a_mixture_equal_those_of_its_draws():
    # An independent answer, to the accuracy of a million draws.
    samples = _samples()
    noise = torch.randn(
        250_000, *samples.mean.shape, generator=torch.Generator().manual_seed(1)
    )
    draws = (samples.mean + samples.std * noise).permute(1, 3, 0, 2).flatten(2)
    found = gaussian_moments(samples)
    torch.testing.assert_close(found.mean, draws.mean(-1), rtol=0, atol=5e-3)
    torch.testing.assert_close(found.std, draws.std(-1), rtol=0, atol=5e-3)


def test_moments_of_one_sample_are_that_sample():
    # A mixture of one is no mixture.
    samples = _samples()
    one = Gaussian(samples.mean[:, :1], samples.std[:, :1])
    found = gaussian_moments(one)
    torch.testing.assert_close(found.mean, one.mean[:, 0])
    torch.testing.assert_close(found.std, one.std[:, 0])


def test_mean_probabilities_are_means_of_probabilities():
    # Not of logits, which would sharpen where the samples agree.
    logits = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = logits.softmax(-1).mean(1)
    torch.testing.assert_close(mean_probabilities(logits).exp(), expected)


def test_mixture_nll_multiplies_rows_before_it_averages_samples():
    # By hand, for each task's own rows; a task without rows does not count.
    losses = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)).double()
    mask = torch.arange(5) < torch.tensor([5, 2, 0])[:, None]
    first = -losses[0].sum(-1).neg().exp().mean().log() / 5
    second = -losses[1, :, :2].sum(-1).neg().exp().mean().log() / 2
    losses[~mask.unsqueeze(1).expand_as(losses)] = torch.nan
    torch.testing.assert_close(mixture_nll(losses, mask), (first + second) / 2)
