"""The mathematics of averaging over kept models, against independent answers."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from sklearn_meta.averaging import (
    ClassNoise,
    MemberPrior,
    ShiftNoise,
    choose_prior,
    choose_tilt,
    drop_negligible,
    fit_class_noise,
    fit_shift_noise,
    mean_of_groups,
    posterior_weights,
    sum_by_group,
    tilt_classes,
)

NOISE = ShiftNoise(np.array([0.5, 2.0]), np.array([3.0, 0.0]))


def sums(errors):
    """Return the count and both sums of one group of errors (n_rows, n_members)."""
    total = errors.sum(0, keepdims=True)
    return np.array([len(errors)]), total, (errors**2).sum(0, keepdims=True)


@pytest.mark.parametrize("n_rows", [1, 4])
def test_log_evidence_equals_the_density_of_the_gaussian(n_rows):
    """The lemma's shortcut against the matrix that it stands for."""
    errors = np.random.default_rng(0).normal(size=(n_rows, 2))
    found = NOISE.log_evidence(*sums(errors))[0]
    for member in range(2):
        covariance = NOISE.variance[member] * np.eye(n_rows)
        covariance += NOISE.shift_variance[member]
        expected = multivariate_normal(np.zeros(n_rows), covariance)
        np.testing.assert_allclose(found[member], expected.logpdf(errors[:, member]))


def test_shift_equals_the_conditional_of_the_gaussian():
    """Mean and variance of b given the errors, by solving the system."""
    errors = np.random.default_rng(0).normal(size=(5, 2))
    counts, total, _ = sums(errors)
    mean, variance = NOISE.shift(counts, total)
    covariance = 0.5 * np.eye(5) + 3.0
    gain = np.linalg.solve(covariance, np.full(5, 3.0))
    np.testing.assert_allclose(mean[0, 0], gain @ errors[:, 0])
    np.testing.assert_allclose(variance[0, 0], 3.0 - gain.sum() * 3.0)


def test_shift_when_its_variance_is_zero_is_none():
    """That is how the correction is switched off."""
    mean, variance = NOISE.shift(np.array([3]), np.array([[9.0, 9.0]]))
    assert mean[0, 1] == variance[0, 1] == 0


def simulated_errors(n_tasks=3000, n_rows=12):
    """Return errors of two members: one with a large shift, one with large noise."""
    rng = np.random.default_rng(0)
    right = rng.random(n_tasks) < 0.8
    shift = rng.normal(size=(n_tasks, 1, 1)) * [2.0, 0.3]
    errors = shift + rng.normal(size=(n_tasks, n_rows, 2)) * [0.5, 1.0]
    # a member that is not right is far off
    errors += 30 * np.stack([~right, right], axis=1)[:, None, :]
    return errors, right


def test_fit_shift_noise_recovers_what_was_simulated():
    """Noise, shift and prior, all at once."""
    errors, right = simulated_errors()
    counts = np.full(len(errors), errors.shape[1])
    total, squares = errors.sum(1), (errors**2).sum(1)
    usable = np.ones(total.shape, bool)
    noise, share = fit_shift_noise(
        counts, total, squares, usable, with_shift=True, floor=1e-6
    )
    np.testing.assert_allclose(np.sqrt(noise.variance), [0.5, 1.0], rtol=0.05)
    np.testing.assert_allclose(np.sqrt(noise.shift_variance), [2.0, 0.3], rtol=0.2)
    np.testing.assert_allclose(share[0], right.mean(), atol=0.01)


def test_fit_shift_noise_when_switched_off_has_no_shift():
    """What is not corrected is noise."""
    errors, _ = simulated_errors()
    counts = np.full(len(errors), errors.shape[1])
    total, squares = errors.sum(1), (errors**2).sum(1)
    usable = np.ones(total.shape, bool)
    noise, _ = fit_shift_noise(
        counts, total, squares, usable, with_shift=False, floor=1e-6
    )
    np.testing.assert_array_equal(noise.shift_variance, 0)
    assert noise.variance[0] > 3


def test_fit_class_noise_recovers_what_was_simulated():
    """One member is right but for a third of the rows, the other knows nothing."""
    rng = np.random.default_rng(0)
    said = rng.dirichlet([0.3, 0.3], size=20000)
    by_chance = rng.random(20000) < 1 / 3
    p = np.where(by_chance, 0.25, said[:, 1])
    y = (rng.random(20000) < p).astype(int)
    likelihood = np.c_[said[np.arange(20000), y], np.full(20000, 0.5)]
    sizes = np.full(500, 40)
    usable = np.ones((500, 2), bool)
    noise, share = fit_class_noise(likelihood, np.array([0.75, 0.25]), y, sizes, usable)
    assert abs(noise.share[0] - 1 / 3) < 0.02
    assert share[0] > 0.95


def test_smooth_keeps_sums_and_leaves_no_zero():
    """A forest says 0 easily; a single row must not rule a member out."""
    noise = ClassNoise(np.array([0.1, 0.5]), np.array([0.7, 0.3]))
    smoothed = noise.smooth(np.array([[[1.0, 0.0], [0.0, 1.0]]]))
    np.testing.assert_allclose(smoothed.sum(2), 1)
    np.testing.assert_allclose(smoothed[0, 0], [0.97, 0.03])


def test_posterior_weights_when_a_member_is_not_usable_are_zero_there():
    """A member knows the answers of the task that it learned from."""
    prior = MemberPrior(np.log([0.5, 0.25, 0.25]), 1.0)
    usable = np.array([[True, True, False]])
    weights = posterior_weights(prior, np.array([[0.0, 0.0, 900.0]]), usable)
    np.testing.assert_allclose(weights, [[2 / 3, 1 / 3, 0]])


def test_drop_negligible_keeps_sums():
    """Members that are not asked give their weight to the others."""
    weights = drop_negligible(np.array([[0.9, 0.0999, 0.0001]]))
    assert weights[0, 2] == 0
    np.testing.assert_allclose(weights.sum(1), 1)


@pytest.mark.parametrize(("better", "large"), [(0, True), (1, False)])
def test_choose_prior_trusts_the_member_that_predicts_queries(better, large):
    """The pooled member's share is high if it is right, and low if it is wrong."""
    density = np.zeros((6, 2))
    density[:, better] = 3.0
    usable = np.ones((3, 2), bool)
    prior = choose_prior(
        np.array([0.5, 0.5]), np.zeros((3, 2)), usable, density, np.arange(6) // 2
    )
    assert (np.exp(prior.log_share[0]) > 0.9) == large
    np.testing.assert_allclose(np.exp(prior.log_share).sum(), 1)


def test_choose_prior_when_the_support_misleads_ignores_it():
    """An exponent of 0 is the answer to evidence that points the wrong way."""
    evidence = np.array([[50.0, 0.0], [0.0, 50.0]])
    density = np.array([[-40.0, 0.0], [0.0, -40.0]])
    usable = np.ones((2, 2), bool)
    prior = choose_prior(
        np.array([0.5, 0.5]), evidence, usable, density, np.array([0, 1])
    )
    assert prior.exponent == 0


def test_tilt_when_strong_moves_to_what_was_found():
    """With weight on the support alone, the factor is found over expected."""
    frequency, found, expected = np.full(2, 0.5), np.array([[9, 1]]), np.full((1, 2), 5)
    factors = tilt_classes(frequency, found, expected, 1e9)
    np.testing.assert_allclose(factors, [[9 / 5, 1 / 5]], rtol=1e-6)
    np.testing.assert_array_equal(tilt_classes(frequency, found, expected, 0), 1)


@pytest.mark.parametrize(("y", "strength"), [([0, 0], 1.0), ([1, 1], 0.0)])
def test_choose_tilt_follows_the_queries(y, strength):
    """Queries like the support ask for a tilt, others for none."""
    found, expected = np.array([[10.0, 0.0]]), np.array([[5.0, 5.0]])
    blend, episode = np.full((2, 2), 0.5), np.zeros(2, int)
    chosen = choose_tilt(np.full(2, 0.5), found, expected, blend, np.array(y), episode)
    assert chosen == strength


def test_sums_and_means_of_groups():
    """Small enough to add up by hand."""
    values = np.array([1.0, 2.0, 6.0])
    np.testing.assert_array_equal(sum_by_group(values, np.array([2, 1])), [3, 6])
    np.testing.assert_array_equal(mean_of_groups(values, np.array([1, 0, 1])), [2, 3.5])
