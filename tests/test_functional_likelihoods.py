"""The losses agree with scipy and torch, and weigh tasks equally."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sklearn_meta.functional import (
    STD_FLOOR,
    Gaussian,
    bounded_std,
    categorical_nll,
    gaussian_nll,
    mask_absent,
    masked_task_mean,
    mean_per_task,
    squared_error,
    squared_error_with_noise,
    unbounded_std,
)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def _gaussian(generator):
    mean, raw = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    return Gaussian(mean, bounded_std(raw))


def test_gaussian_nll_of_any_rows_equals_scipy(generator):
    # An independent density: a wrong constant would spoil every comparison of models.
    prediction = _gaussian(generator)
    Y = torch.randn(3, 4, 1, generator=generator, dtype=torch.float64)
    expected = -stats.norm(*(p.numpy() for p in prediction)).logpdf(Y.squeeze(-1))
    np.testing.assert_allclose(gaussian_nll(prediction, Y), expected, rtol=1e-12)


def test_gaussian_nll_gradient_equals_torch_distributions(generator):
    # The gradient trains the head, so it needs its own check.
    raw = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    raw.requires_grad_()
    Y = torch.zeros(3, 4, 1, dtype=torch.float64)
    mean, std = raw[0], bounded_std(raw[1])
    ours = torch.autograd.grad(gaussian_nll(Gaussian(mean, std), Y).sum(), raw)[0]
    mean, std = raw[0], bounded_std(raw[1])
    density = torch.distributions.Normal(mean, std).log_prob(Y.squeeze(-1))
    theirs = torch.autograd.grad(-density.sum(), raw)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_losses_with_and_without_output_axis_are_equal(generator):
    # Targets come with n_outputs = 1; broadcasting (n, 1) against (n,) would be silent.
    prediction = _gaussian(generator)
    Y = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    for loss, guess in (
        (gaussian_nll, prediction),
        (squared_error, prediction.mean),
        (squared_error_with_noise, prediction),
    ):
        assert torch.equal(loss(guess, Y), loss(guess, Y.unsqueeze(-1)))


@given(st.floats(-1e4, 1e4), st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_bounded_std_of_any_number_stays_above_floor(raw, floor):
    # Law 7: no Gaussian head may make the likelihood infinite.
    assert bounded_std(torch.tensor(raw, dtype=torch.float64), floor) >= floor
    assert bounded_std(torch.tensor(raw, dtype=torch.float64)) >= STD_FLOOR


@given(st.floats(0.02, 10))
@settings(max_examples=20, deadline=None)
def test_unbounded_std_is_inverse_of_bounded_std(std):
    # Heads start at a known spread only if these two are inverse.
    raw = torch.tensor(unbounded_std(std), dtype=torch.float64)
    assert bounded_std(raw).item() == pytest.approx(std, rel=1e-9)


def test_squared_error_with_noise_trains_mean_by_squared_error_alone(generator):
    # MAML's mean must not depend on how the noise happens to be estimated.
    mean, raw = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    mean.requires_grad_(), raw.requires_grad_()
    Y = torch.ones(3, 4, 1, dtype=torch.float64)
    std = bounded_std(raw)
    loss = squared_error_with_noise(Gaussian(mean, std), Y).sum()
    of_mean, of_raw = torch.autograd.grad(loss, [mean, raw], retain_graph=True)
    torch.testing.assert_close(of_mean, 2 * (mean - 1).detach())
    nll = gaussian_nll(Gaussian(mean, std), Y).sum()
    torch.testing.assert_close(of_raw, torch.autograd.grad(nll, raw)[0])


def test_categorical_nll_equals_cross_entropy_and_ignores_padding(generator):
    # Padding rows are all-zero one-hot rows: they cost nothing.
    logits = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    labels = torch.tensor([[0, 3, 1], [2, 2, 0]])
    Y = torch.nn.functional.one_hot(labels, 4).double()
    expected = torch.nn.functional.cross_entropy(logits.mT, labels, reduction="none")
    torch.testing.assert_close(categorical_nll(logits, Y), expected)
    assert categorical_nll(logits, torch.zeros_like(Y)).abs().max() == 0


@pytest.mark.parametrize("present", [[True, False], [False, False]])
def test_mask_absent_keeps_loss_and_gradient_finite(present):
    # -inf would turn into NaN in the backward pass, and for an empty support.
    logits = torch.tensor([[[-3e38, 2.0]]], requires_grad=True)
    Y = torch.tensor([[[1.0, 0.0]]])
    masked = mask_absent(logits, torch.tensor([present]))
    loss = categorical_nll(masked, Y).sum()
    assert loss.isfinite() and masked.softmax(-1).isfinite().all()
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_masked_task_mean_of_ragged_tasks_equals_mean_of_means(sizes, seed):
    # Law 3: own rows first, then tasks; tasks without rows do not count.
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=size) for size in sizes]
    padded = torch.full((len(sizes), 7), torch.nan, dtype=torch.float64)
    for i, values in enumerate(rows):
        padded[i, : len(values)] = torch.from_numpy(values)
    mask = torch.arange(7) < torch.tensor(sizes)[:, None]
    means = [values.mean() for values in rows if len(values)]
    expected = np.mean(means) if means else 0.0
    assert masked_task_mean(padded, mask).item() == pytest.approx(expected, abs=1e-12)


def test_mean_per_task_gradient_with_nan_padding_is_finite():
    # torch.where passes no gradient to the side that it leaves out.
    values = torch.tensor([[1.0, torch.nan]], requires_grad=True)
    loss = mean_per_task(values, torch.tensor([[True, False]])).sum()
    assert torch.autograd.grad(loss, values)[0].tolist() == [[1.0, 0.0]]
