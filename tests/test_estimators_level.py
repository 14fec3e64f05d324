"""A pooled model that reads what other rows say of the level of their task."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from small_estimators import class_tasks, regression_tasks

from sklearn_meta import PooledClassifier, PooledRegressor
from sklearn_meta.estimators.level import Evidence, draw_evidence, sum_of_others
from sklearn_meta.shifts import RandomIntercept

SIZES = np.array([1, 4, 7])


def test_sum_of_others_when_all_are_asked_for_is_the_rest_of_the_task():
    """A row's own target among them would be what is to be predicted."""
    values = np.random.default_rng(0).normal(size=(12, 2))
    codes = np.repeat(np.arange(3), SIZES)
    rest = np.stack([values[codes == c].sum(0) for c in codes]) - values
    rng = np.random.RandomState(0)
    found = sum_of_others(values, SIZES, np.repeat(SIZES - 1, SIZES), rng)
    np.testing.assert_allclose(found, rest, atol=1e-12)


def test_sum_of_others_never_counts_a_row_twice_or_another_task():
    """Powers of two tell which rows are in a sum."""
    values = 2.0 ** np.arange(12)[:, None]
    codes, rng = np.repeat(np.arange(3), SIZES), np.random.RandomState(0)
    for _ in range(20):
        counts = rng.randint(0, SIZES[codes])
        sums = sum_of_others(values, SIZES, counts, rng)[:, 0].astype(int)
        for row, (total, count) in enumerate(zip(sums, counts, strict=True)):
            others = [i for i in range(12) if total >> i & 1]
            assert len(others) == count and row not in others
            assert all(codes[i] == codes[row] for i in others)


def test_draw_evidence_when_rows_are_few_draws_several_supports():
    """Supports of one row and of many are both learned from."""
    y = np.arange(12.0)[:, None]
    draws = draw_evidence(y, y, SIZES, (1, 20), np.random.RandomState(0))
    counts = np.stack([drawn.counts for drawn in draws])
    assert counts.shape == (4, 12)
    assert (counts <= np.repeat(SIZES - 1, SIZES)).all() and counts.max() == 6


def test_columns_without_support_are_finite_and_the_prior():
    """A task of one row is learned from too."""
    nothing = Evidence(np.zeros(1, int), np.zeros((1, 1)), np.zeros((1, 1)))
    intercept = RandomIntercept(*np.array([[0.5], [1.0], [2.0]]))
    assert nothing.columns(intercept).tolist() == [[0, 0, 0.5, 0]]


def test_regressor_when_fitted_states_the_error_on_new_tasks():
    """Errors in sample would promise too much."""
    tasks = regression_tasks(200)
    model = PooledRegressor(LinearRegression(), correction="level", random_state=0)
    model.fit(tasks[:150])
    errors = []
    for X, y in tasks[150:]:
        mean, std = model.adapt(X[:4], y[:4]).predict(X[4:], return_std=True)
        errors.append((y[4:] - mean) / std)
    assert 0.65 < np.concatenate(errors).std() < 1.25


@pytest.mark.parametrize(
    "model, task",
    [
        (PooledRegressor(correction="level"), regression_tasks(1)[0]),
        (PooledClassifier(correction="level"), class_tasks(1)[0]),
    ],
)
def test_fit_on_one_table_reads_no_level(model, task):
    """There is one level only, which tells nothing of others."""
    fitted = model.fit(*task)
    assert fitted.level_ is None
    same = model.set_params(correction="none").fit(*task).predict(task.X)
    np.testing.assert_array_equal(fitted.predict(task.X), same)


def test_predict_when_a_support_is_wild_stays_in_the_range_of_old_tasks():
    """A linear model would follow one wild target anywhere."""
    tasks = regression_tasks(30)
    model = PooledRegressor(LinearRegression(), correction="level", random_state=0)
    X, _ = tasks[29]
    model.fit(tasks[:29]).adapt(X[:2], np.array([1e9, 1e9]))
    assert np.abs(model.predict(X)).max() < 1e3
