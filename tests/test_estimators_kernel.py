"""Deep kernels: that they infer, start where they should, and draw functions."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from small_estimators import regression_tasks, small

from sklearn_meta import (
    DeepKernelRegressor,
    KernelHyperparameters,
    TaskCollection,
    serving,
)
from sklearn_meta.exceptions import LargeSupportWarning

ROUNDING = {"rtol": 1e-7, "atol": 1e-9}


def lines(n_tasks, n_rows=12, seed=0):
    """Return tasks with a level of variance 4, a slope of variance 1, noise 0.09."""
    rng = np.random.default_rng(seed)
    tasks = []
    for _ in range(n_tasks):
        X = rng.normal(size=(n_rows, 2))
        y = 2 * rng.normal() + rng.normal() * X[:, 0] + 0.3 * rng.normal(size=n_rows)
        tasks.append((X, y))
    return TaskCollection(tasks)


def noisy_lines(n_tasks, rng):
    """Return lines of which every other one has sixteen times the noise."""
    tasks = []
    for i in range(n_tasks):
        X, spread = rng.uniform(-2, 2, (20, 1)), (0.05, 0.8)[i % 2]
        noise = spread * rng.normal(size=20)
        tasks.append((X, rng.normal() * X[:, 0] + rng.normal() + noise))
    return TaskCollection(tasks)


def shallow(tasks, **params):
    """Return the shallow process of tasks, with all of its steps."""
    params = {"hidden_layer_sizes": (), "max_iter": 150} | params
    return small(DeepKernelRegressor, **params).fit(tasks)


def covariance(kernel, A, B):
    """Return the covariance that the hyper-parameters stand for."""
    distances = (A[:, None] - B[None]) / kernel.length_scale
    smooth = kernel.smooth * np.exp(-0.5 * (distances**2).sum(-1))
    return kernel.constant + (A * kernel.linear) @ B.T + smooth


def test_noise_levels_tell_quiet_tasks_from_noisy_ones(rng):
    """With one level, both kinds of tasks get the same width."""
    tasks, new = noisy_lines(60, rng), noisy_lines(40, rng)
    widths, losses = {}, {}
    for n_levels in (1, 3):
        model = small(
            DeepKernelRegressor,
            hidden_layer_sizes=(16,),
            noise_levels=n_levels,
            max_iter=150,
        ).fit(tasks)
        found = []
        for X, y in new:
            mean, std = model.adapt(X[:8], y[:8]).predict(X[8:], return_std=True)
            density = -0.5 * ((y[8:] - mean) / std) ** 2 - np.log(std)
            found.append((std.mean(), -density.mean()))
        quiet, noisy = np.array(found)[::2].mean(0), np.array(found)[1::2].mean(0)
        widths[n_levels] = noisy[0] / quiet[0]
        losses[n_levels] = (quiet + noisy)[1] / 2
    assert 0.8 < widths[1] < 1.25
    assert widths[3] > 3
    assert losses[3] < losses[1] - 0.5  # nats a row


def test_shallow_process_finds_the_variances_of_its_tasks():
    """Empirical Bayes with many tasks recovers what they were drawn with."""
    model = shallow(lines(150), standardize=False)
    found, unit = model.kernel_, model.target_scale_.scale**2
    assert found.constant * unit == pytest.approx(4, rel=0.3)
    assert found.linear[0] * unit == pytest.approx(1, rel=0.3)
    assert found.linear[1] * unit < 0.1
    assert found.noise * unit == pytest.approx(0.09, rel=0.3)


def test_shallow_process_predicts_as_its_hyper_parameters_say():
    """The attribute tells all of the model: the textbook formulas give the same."""
    plain = {"mean": "zero", "standardize": False, "normalize_y": False}
    model, (X, y) = shallow(regression_tasks(20), **plain), regression_tasks(1)[0]
    K = covariance(model.kernel_, X, X)
    weights = np.linalg.solve(K[:4, :4] + model.kernel_.noise * np.eye(4), K[:4, 4:])
    mean, std = model.adapt(X[:4], y[:4]).predict(X[4:], return_std=True)
    np.testing.assert_allclose(mean, weights.T @ y[:4], **ROUNDING)
    variance = np.diag(K)[4:] - (weights * K[:4, 4:]).sum(0) + model.kernel_.noise
    np.testing.assert_allclose(std, np.sqrt(variance), **ROUNDING)


def test_shallow_process_when_refitted_at_its_hyper_parameters_stays():
    """A fit that has converged has nothing to gain."""
    tasks = lines(40)
    first = shallow(tasks)
    again = shallow(tasks, init=first.kernel_)
    assert first.loss_curve_[0] > first.loss_curve_[-1] + 0.2
    assert again.loss_curve_[0] == pytest.approx(first.loss_curve_[-1], abs=0.02)


def test_shallow_process_does_not_read_the_pooled_column():
    """The pooled prediction is where the target is counted from, nothing else."""
    model = shallow(lines(20), pooled_estimator=Ridge())
    assert len(model.kernel_.linear) == model.n_features_in_ == 2


@pytest.mark.parametrize("pooled", [None, Ridge()])
def test_deep_process_given_a_kernel_starts_at_its_likelihood(pooled):
    """Untrained networks are a small disturbance of the shallow process."""
    tasks, new = lines(60), lines(30, seed=1)
    start = shallow(tasks, pooled_estimator=pooled)
    params = {"init": start.kernel_, "pooled_estimator": pooled}
    wide = {"hidden_layer_sizes": (64, 64), "lr": 1e-9}
    deep = small(DeepKernelRegressor, **params, **wide).fit(tasks)
    assert deep.score(new) == pytest.approx(start.score(new), abs=0.01)
    cold = small(DeepKernelRegressor, **params | {"init": "random"}, **wide).fit(tasks)
    assert cold.score(new) < start.score(new) - 0.02


def test_init_marginal_starts_where_the_shallow_process_ends():
    """One parameter does what two fits would."""
    tasks = lines(60)
    params = {"lr": 1e-9, "max_iter": 150, "early_stopping": False}
    by_itself = small(DeepKernelRegressor, **params).fit(tasks).kernel_
    start = shallow(tasks).kernel_._replace(mean=0.0)  # the mean is a network now
    for found, wanted in zip(by_itself, start, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_init_random_does_not_know_the_tasks():
    """The cold start is the same for any tasks."""
    params = {"init": "random", "lr": 1e-9, "max_iter": 1}
    kernels = [
        small(DeepKernelRegressor, **params).fit(lines(10, seed=s)).kernel_
        for s in (0, 1)
    ]
    assert kernels[0].constant == pytest.approx(kernels[1].constant, rel=1e-6)


def test_init_with_a_kernel_of_other_columns_says_so():
    """Hyper-parameters belong to the table that they were learned from."""
    kernel = KernelHyperparameters.guess(5, np.arange(3.0))
    with pytest.raises(ValueError, match="2 .*got 5 and 5"):
        small(DeepKernelRegressor, init=kernel).fit(lines(10))


def test_training_lowers_the_loss_on_curves_that_no_shallow_kernel_knows():
    """Learned features pay where all tasks bend in the same place."""
    rng = np.random.default_rng(0)
    tasks = []
    for _ in range(80):
        X = rng.uniform(-2, 2, size=(20, 1))
        y = rng.normal() * np.sin(4 * X[:, 0]) + 0.1 * rng.normal(size=20)
        tasks.append((X, y))
    known, new = TaskCollection(tasks[:60]), TaskCollection(tasks[60:])
    longer = {"max_iter": 200, "lr": 0.01, "meta_batch_size": 16}
    deep = small(DeepKernelRegressor, hidden_layer_sizes=(32, 32), **longer)
    assert deep.fit(known).score(new) > shallow(known).score(new) + 0.1


@pytest.mark.parametrize("params", [{}, {"hidden_layer_sizes": ()}])
def test_prediction_far_from_the_support_is_less_sure(params):
    """The reason for a Gaussian process."""
    tasks = lines(40)
    model, (X, y) = small(DeepKernelRegressor, **params).fit(tasks), tasks[0]
    far = np.array([[4.0, 0.0]])
    model.adapt(X[:8], y[:8])
    near_std, far_std = (model.predict(Z, return_std=True)[1] for Z in (X[:1], far))
    assert far_std > near_std


def test_heteroscedastic_noise_is_learned_where_rows_differ_in_it():
    """Rows on one side have ten times the noise of the others; 4.5 is the limit."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(40, 30, 1))
    y = rng.normal(size=(40, 30)) * np.where(X[..., 0] > 0, 1.0, 0.1)
    tasks = TaskCollection(list(zip(X, y, strict=True)))
    model = small(DeepKernelRegressor, max_iter=200, lr=0.01).fit(tasks)
    model.adapt(X[0], y[0])
    _, std = model.predict([[-0.7], [0.7]], return_std=True)
    assert 3 < std[1] / std[0] < 4.5


def test_feature_dropout_leaves_prediction_without_randomness():
    """Columns are dropped in training only."""
    params = {"feature_dropout": 0.5, "mean": "zero"}
    model, (X, y) = small(DeepKernelRegressor, **params), lines(1)[0]
    model.fit(lines(12)).adapt(X, y)
    np.testing.assert_array_equal(model.predict(X), model.predict(X))


def test_module_of_the_user_gives_the_features():
    """Any embedding, whose width is found by trying it."""

    class Sines(torch.nn.Module):
        def __init__(self, n_features, n_waves=5):
            super().__init__()
            self.waves = torch.nn.Parameter(torch.ones(n_features, n_waves))

        def forward(self, X):
            return torch.sin(X @ self.waves)

    model = small(DeepKernelRegressor, module=Sines, module__n_waves=7)
    model.fit(lines(12)).adapt(*lines(1)[0])
    assert model.learner_.heads[0].in_features == 7
    assert np.isfinite(model.predict(lines(1)[0].X)).all()


# ---------------------------------------------------------------- drawing functions


def test_sample_y_has_the_moments_of_the_posterior_of_the_function():
    """Mean as predicted; covariance of the function, so without the noise."""
    plain = {"mean": "zero", "standardize": False, "normalize_y": False}
    model, (X, y) = shallow(regression_tasks(20), **plain), regression_tasks(1)[0]
    K = covariance(model.kernel_, X, X)
    weights = np.linalg.solve(K[:4, :4] + model.kernel_.noise * np.eye(4), K[:4, 4:])
    draws = model.adapt(X[:4], y[:4]).sample_y(X[4:], n_samples=40_000)
    np.testing.assert_allclose(draws.mean(1), model.predict(X[4:]), atol=0.02)
    wanted = K[4:, 4:] - K[4:, :4] @ weights
    np.testing.assert_allclose(np.cov(draws), wanted, atol=0.03 * wanted.max())


def test_sample_y_of_a_row_asked_twice_is_the_same_value():
    """A draw is a function; the covariance is singular, which must not matter."""
    model, (X, y) = small(DeepKernelRegressor).fit(lines(12)), lines(1)[0]
    draws = model.adapt(X[:3], y[:3]).sample_y(X[[5, 5]], n_samples=20)
    np.testing.assert_allclose(draws[0], draws[1], atol=1e-6)
    assert draws[0].std() > 1e-3


def test_sample_y_of_many_tasks_keeps_to_each_task():
    """Rows of other tasks in the same call change nothing about the moments."""
    tasks = lines(12)
    model = small(DeepKernelRegressor, pooled_estimator=Ridge()).fit(tasks)
    X, _, ids = tasks.to_flat()
    draws = model.adapt_tasks(tasks).sample_y(X, 4000, random_state=1, tasks=ids)
    mean, std = model.predict(X, return_std=True, tasks=ids)
    assert (np.abs(draws.mean(1) - mean) < 0.1 * std + 0.02).all()


def test_sample_y_when_states_are_not_kept_draws_the_same(monkeypatch):
    """Tasks beyond the bound of memory adapt again when they are asked."""
    tasks = lines(12)
    model = small(DeepKernelRegressor).fit(tasks)
    X, _, ids = tasks.to_flat()
    expected = model.adapt_tasks(tasks).sample_y(X, 3, tasks=ids)
    monkeypatch.setattr(serving, "MAX_STATE_BYTES", 0)
    model.adapt_tasks(tasks)
    assert all(serving.SUPPORT in state for state in model.adapted_.states)
    draws = model.sample_y(X, 3, tasks=ids)
    np.testing.assert_allclose(draws, expected, rtol=1e-10)


def test_sample_y_with_the_same_seed_draws_the_same():
    """As everywhere else."""
    model, (X, y) = small(DeepKernelRegressor).fit(lines(12)), lines(1)[0]
    model.adapt(X, y)
    first, again, other = (model.sample_y(X, 2, random_state=s) for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


# ---------------------------------------------------------------- odd supports


def test_adapt_to_more_rows_than_can_be_factorised_warns_and_predicts():
    """Exact inference is cubic in the rows of the support."""
    model, (X, y) = small(DeepKernelRegressor).fit(lines(12)), lines(1, n_rows=2100)[0]
    with pytest.warns(LargeSupportWarning, match="2100 rows; exact .* 2000"):
        model.adapt(X, y)
    assert model.score(X, y) > 0.6


@pytest.mark.parametrize("params", [{}, {"hidden_layer_sizes": ()}])
def test_adapt_to_repeated_rows_with_unequal_targets_is_finite(params):
    """The kernel of repeated rows is singular but for the noise."""
    model = small(DeepKernelRegressor, **params).fit(lines(12))
    X = np.ones((30, 2))
    model.adapt(X, np.r_[np.zeros(15), np.ones(15)])
    mean, std = model.predict(X[:1], return_std=True)
    assert 0.2 < mean[0] < 0.8 and std[0] > 0


@pytest.mark.parametrize("params", [{}, {"hidden_layer_sizes": ()}])
def test_huge_values_without_scaling_are_finite(params):
    """The noise is lost beside such products."""
    tasks = [(1e8 * X, 1e8 * y) for X, y in lines(12)]
    plain = {"standardize": False, "normalize_y": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may say that it diverged
        model = small(DeepKernelRegressor, **plain, **params).fit(tasks)
        mean, std = model.adapt(*tasks[0]).predict(tasks[1][0], return_std=True)
    assert np.isfinite(mean).all() and np.isfinite(std).all()
