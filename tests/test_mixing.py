"""Weights of members and the mixtures that they give."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import norm

from sklearn_meta.mixing import (
    gate_weights,
    interpolate_weights,
    mixture_log_density,
    mixture_moments,
    mixture_quantiles,
    pool_weights,
    pool_weights_on_grid,
    score_beside_pool,
    score_weights,
)


def random_mixture(seed=0, n_members=3, n_rows=5):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(n_members), n_rows).T
    return (
        rng.normal(size=(n_members, n_rows)),
        rng.gamma(2, size=weights.shape),
        weights,
    )


def test_score_weights_when_scores_differ_then_ratio_is_exponential():
    # what a difference of scores means is documented: e for 1/30 nat
    low, high = score_weights(np.array([-1.0, -1.0 + 1 / 30]))
    assert high / low == pytest.approx(np.e)


def test_score_beside_pool_when_members_are_mixed_then_log_of_the_mixture():
    # half the member, half all of them alike
    density = np.random.default_rng(0).gamma(2, size=(3, 7))
    weight = np.full(7, 1 / 7)
    mixtures = (density + density.mean(0)) / 2
    found = score_beside_pool(np.log(density), weight)
    np.testing.assert_allclose(found, np.log(mixtures).mean(1))


def test_score_beside_pool_when_one_task_is_lost_then_the_loss_is_bounded():
    # of two members the other one stands in: no more than a fourth of its density
    said = np.zeros((2, 10))
    said[0, 3] = -1e5
    lost, sound = score_beside_pool(said, np.full(10, 0.1))
    assert sound - lost < np.log(4) / 10


def test_pool_weights_when_optimised_otherwise_then_same_maximum():
    # the EM must reach the optimum of the documented objective
    said = np.random.default_rng(0).uniform(0.1, 0.9, (3, 40))
    row_weight = np.full(40, 1 / 40)

    def loss(raw):
        w = softmax(raw)
        return -(np.log(w @ said) @ row_weight + 0.01 * np.log(w).mean())

    best = softmax(minimize(loss, np.zeros(3), tol=1e-10).x)
    np.testing.assert_allclose(pool_weights(said, row_weight), best, atol=2e-3)


def test_pool_weights_when_a_member_is_wrong_for_sure_then_finite():
    # a probability of exactly 0 must not end in 0 / 0
    said = np.array([[0.0, 0.0], [0.0, 0.6]])
    weights = pool_weights(said, np.full(2, 0.5))
    assert np.isfinite(weights).all()
    assert weights.sum() == pytest.approx(1)


def test_interpolate_weights_when_on_the_grid_then_unchanged():
    # the learned weights are used as they are where they were learned
    weights = np.random.default_rng(0).dirichlet(np.ones(4), 3)
    grid = np.array([1, 5, 10])
    np.testing.assert_allclose(interpolate_weights(grid, weights, grid), weights)


def test_interpolate_weights_when_grid_has_one_point_then_constant():
    # one table knows one number of shots only
    found = interpolate_weights(
        np.array([7]), np.array([[0.3, 0.7]]), np.array([1, 50])
    )
    np.testing.assert_allclose(found, [[0.3, 0.7]] * 2)


def test_gate_weights_when_members_are_gaussian_then_mean_of_their_product():
    # the generalized product of experts is Gaussian: precisions add up, by weight
    means, stds, weights = random_mixture()
    gated = gate_weights(weights, stds)
    precision = weights / stds**2
    product = (precision * means).sum(0) / precision.sum(0)
    np.testing.assert_allclose(mixture_moments(means, stds, gated)[0], product)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_gate_weights_when_the_unit_is_extreme_then_the_same(scale):
    # the square of a standard deviation leaves the range of numbers before it does
    _, stds, weights = random_mixture()
    gated = gate_weights(weights, stds * scale)
    np.testing.assert_allclose(gated, gate_weights(weights, stds))
    np.testing.assert_allclose(gated.sum(0), 1)


def test_mixture_moments_when_sampled_then_agree():
    # law of total variance, against draws
    means, stds, weights = random_mixture(n_rows=1)
    rng = np.random.default_rng(1)
    member = rng.choice(3, 200_000, p=weights[:, 0])
    draws = rng.normal(means[member, 0], stds[member, 0])
    mean, std = mixture_moments(means, stds, weights)
    np.testing.assert_allclose(
        [mean[0], std[0]], [draws.mean(), draws.std()], rtol=0.02
    )


def test_mixture_log_density_when_integrated_then_one():
    # a density, also where a member has no weight
    means, stds, weights = random_mixture(n_rows=1)
    weights[:, 0] = [0.3, 0.7, 0.0]
    grid = np.linspace(-60, 60, 20_001)
    columns = [np.repeat(part, len(grid), axis=1) for part in (means, stds, weights)]
    density = np.exp(mixture_log_density(*columns, grid))
    assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1)


def test_mixture_quantiles_when_put_into_the_distribution_then_levels():
    # the distribution function of the mixture inverts them
    means, stds, weights = random_mixture()
    levels = np.array([0.001, 0.3, 0.95])
    found = mixture_quantiles(means, stds, weights, levels)
    cdf = (
        weights[:, :, None] * norm.cdf(found, means[:, :, None], stds[:, :, None])
    ).sum(0)
    np.testing.assert_allclose(cdf, np.tile(levels, (5, 1)), atol=1e-12)


def test_mixture_quantiles_when_rows_exceed_a_chunk_then_same(monkeypatch):
    # rows go through in chunks of bounded memory
    mixture = random_mixture(n_rows=7)
    whole = mixture_quantiles(*mixture, np.array([0.1, 0.9]))
    monkeypatch.setattr("sklearn_meta.mixing.CHUNK_SIZE", 12)
    np.testing.assert_array_equal(
        mixture_quantiles(*mixture, np.array([0.1, 0.9])), whole
    )


def test_mixture_quantiles_when_there_is_no_level_then_there_is_no_column():
    # As numpy's own quantile does.
    member = np.zeros((2, 3))
    found = mixture_quantiles(member, member + 1, member + 0.5, np.empty(0))
    assert found.shape == (3, 0)


def test_pool_weights_on_grid_looks_at_neighbours_alone():
    """Few tasks tell little of the weights at one number of shots."""
    good, bad = np.full(30, 0.9), np.full(30, 0.1)
    said = [np.stack(pair) for pair in [(good, bad), (bad, good), (bad, good)]]
    weights = pool_weights_on_grid(said, [np.full(30, 1 / 30)] * 3)
    both = np.hstack([said[0], said[1]])
    share = np.repeat([1 / 39, 0.3 / 39], 30)
    np.testing.assert_allclose(weights[0], pool_weights(both, share), atol=1e-6)
    # the first number of shots is no neighbour of the last one
    np.testing.assert_allclose(
        weights[2], pool_weights(said[2], np.full(30, 1 / 30)), atol=1e-6
    )
