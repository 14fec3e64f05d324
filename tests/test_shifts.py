"""Shifts of a pooled model's predictions, against independent answers."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax
from scipy.stats import multivariate_normal

from sklearn_meta.shifts import (
    LogitEpisodes,
    RandomIntercept,
    ShiftPrecision,
    fit_random_intercept,
    fit_shift_precision,
    map_shift,
)

SIZES = np.array([3, 1, 6, 2])


def log_likelihood(intercept, residuals, sizes):
    """Return the density of all residuals, task by task, from the definition."""
    mean, between, within = (float(part[0]) for part in intercept)
    total = 0.0
    for own in np.split(residuals, np.cumsum(sizes)[:-1]):
        covariance = within * np.eye(len(own)) + between
        total += multivariate_normal.logpdf(own, np.full(len(own), mean), covariance)
    return total


def test_random_intercept_maximises_the_likelihood(rng):
    # no step in any of the three numbers makes the residuals more likely
    sizes = rng.integers(1, 9, size=40)
    levels = np.repeat(rng.normal(1.0, 2.0, size=40), sizes)
    residuals = levels + rng.normal(size=sizes.sum())
    found = fit_random_intercept(residuals[:, None], sizes, 1e-9)
    best = log_likelihood(found, residuals, sizes)
    for part in range(3):
        for factor in (0.98, 1.02):
            other = list(found)
            other[part] = other[part] * factor
            assert log_likelihood(other, residuals, sizes) < best


def test_random_intercept_when_tasks_do_not_differ_shrinks_all(rng):
    # noise must not pass for levels
    residuals = np.tile([-1.0, 0.0, 1.0], 10)[:, None]
    found = fit_random_intercept(residuals, np.full(10, 3), 1e-9)
    assert found.between < 1e-5 * found.within
    np.testing.assert_allclose(found.within, 2 / 3)


def test_random_intercept_when_rows_agree_has_the_floor():
    # a variance of 0 would give infinite certainty
    residuals = np.repeat([1.0, 2.0, 4.0], 3)[:, None]
    assert fit_random_intercept(residuals, np.full(3, 3), 0.01).within == 0.01


def test_posterior_of_levels_is_that_of_a_gaussian(rng):
    # the rule of conditioning, written out for one task
    intercept = RandomIntercept(*np.array([[0.5], [2.0], [3.0]]))
    residuals = rng.normal(size=4)
    mean, variance = intercept.posterior(np.array([4]), residuals.sum().reshape(1, 1))
    covariance = 3.0 * np.eye(4) + 2.0
    gain = 2.0 * np.linalg.solve(covariance, np.ones(4))
    np.testing.assert_allclose(mean[0, 0], 0.5 + gain @ (residuals - 0.5))
    np.testing.assert_allclose(variance[0, 0], 2.0 - 2.0 * gain.sum())


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_map_shift_is_the_mode_of_each_task(rng, scale):
    # an optimizer finds the same, for sure logits too
    logits = scale * rng.normal(size=(12, 3))
    labels = np.eye(3)[rng.integers(3, size=12)]
    precision = np.array([0.1, 0.5, 1.0, 10.0])
    found = map_shift(logits, labels, SIZES, precision)
    for task, rows in enumerate(np.split(np.arange(12), np.cumsum(SIZES)[:-1])):

        def loss(shift, rows=rows, task=task):
            fit = (labels[rows] * log_softmax(logits[rows] + shift, axis=1)).sum()
            return 0.5 * precision[task] * shift @ shift - fit

        expected = minimize(loss, np.zeros(3), tol=1e-10).x
        assert loss(found[task]) <= loss(expected) + 1e-9
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-9)


def test_shift_precision_between_sizes_is_log_linear():
    # supports may have any size; beyond the tuned ones the nearest counts
    precision = ShiftPrecision(np.array([1, 4]), np.array([1.0, 16.0]))
    np.testing.assert_allclose(precision.at(np.array([1, 2, 4, 9])), [1, 4, 16, 16])


@pytest.mark.parametrize(("spread", "is_low"), [(3.0, True), (0.0, False)])
def test_shift_precision_follows_how_much_tasks_differ(rng, spread, is_low):
    # where tasks do not differ, a support must change nothing
    n = 200
    level = spread * np.repeat(rng.normal(size=n), 10)
    y = (level + rng.logistic(size=10 * n) > 0).reshape(n, 10).astype(int)
    support, query = np.eye(2)[y[:, :4]], np.eye(2)[y[:, 4:]]
    episodes = LogitEpisodes(
        np.zeros((4 * n, 2)),
        support.reshape(-1, 2),
        np.full(n, 4),
        np.zeros((6 * n, 2)),
        query.reshape(-1, 2),
        np.repeat(np.arange(n), 6),
    )
    precision = fit_shift_precision([(4, episodes)]).precision[0]
    assert (precision < 1) == is_low
