"""One model of all rows, and what the support of a task corrects."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from small_estimators import class_tasks, regression_tasks

from sklearn_meta import PooledClassifier, PooledRegressor, TaskCollection
from sklearn_meta.estimators.refit import levels_by_others
from sklearn_meta.metrics import few_shot_score
from sklearn_meta.pooling import fit_pooled
from sklearn_meta.shifts import RandomIntercept
from sklearn_meta.tasks import TaskRows


def tilted_tasks(n_tasks=40, seed=0):
    """Return tasks that share a slope of the log odds and differ in their level."""
    rng = np.random.default_rng(seed)
    tasks = []
    for level in 2 * rng.normal(size=n_tasks):
        X = rng.normal(size=(30, 1))
        yes = X[:, 0] + level + rng.logistic(size=30) > 0
        tasks.append((X, np.where(yes, "yes", "no")))
    return TaskCollection(tasks)


@pytest.mark.parametrize("correction", ["shift", "level", "refit"])
def test_regressor_when_tasks_differ_in_level_learns_it(correction):
    """The tasks are one line with levels of their own; the pooled model misses them."""
    tasks = regression_tasks(60)
    scores = [
        few_shot_score(
            PooledRegressor(Ridge(), correction=c, random_state=0).fit(tasks[:40]),
            tasks[40:],
            n_shots=4,
            scoring="neg_mean_squared_error",
        )
        for c in (correction, "none")
    ]
    assert scores[0] > -0.2 and scores[1] < -2


@pytest.mark.parametrize("correction", ["shift", "level", "refit"])
def test_classifier_when_tasks_differ_in_level_learns_it(correction):
    """Four rows tell whether a task leans to one class."""
    tasks = tilted_tasks()
    base = LogisticRegression()
    scores = [
        few_shot_score(
            PooledClassifier(base, correction=c, random_state=0).fit(tasks[:25]),
            tasks[25:],
            n_shots=8,
            scoring="neg_log_loss",
            stratify=False,
        )
        for c in (correction, "none")
    ]
    assert scores[0] > scores[1] + 0.05


def test_regressor_states_the_spread_that_it_has():
    """Intervals of tasks it has not seen hold the share of rows that they claim."""
    tasks = regression_tasks(200)
    X, y, ids = tasks[100:].to_flat()
    first = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    support = np.zeros(len(y), bool)
    support[np.r_[first, first + 1]] = True
    model = PooledRegressor(Ridge(), random_state=0).fit(tasks[:100])
    model.adapt_tasks(X[support], y[support], ids[support])
    low, high = model.predict_quantiles(
        X[~support], (0.05, 0.95), tasks=ids[~support]
    ).T
    inside = (low < y[~support]) & (y[~support] < high)
    assert 0.86 < inside.mean() < 0.95


def test_none_predicts_what_the_pooled_model_says():
    """The support of a task changes nothing."""
    tasks = class_tasks(12)
    model = PooledClassifier(LogisticRegression(), correction="none", random_state=0)
    X, _ = tasks[11]
    proba = model.fit(tasks[:10]).adapt(*tasks[10]).predict_proba(X)
    np.testing.assert_allclose(proba, model.pooled_.model.predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("cls", [PooledRegressor, PooledClassifier])
@pytest.mark.parametrize("correction", ["none", "shift", "level", "refit"])
def test_learn_prepared_equals_fit(cls, correction):
    """A mixture fits the pooled model once, for all of its members."""
    is_regressor = cls is PooledRegressor
    tasks = regression_tasks(10) if is_regressor else class_tasks(10)
    X, y, ids = tasks.to_flat()
    base = Ridge() if is_regressor else LogisticRegression(max_iter=1000)
    model = cls(base, correction=correction, random_state=0)
    rows = TaskRows(X, y, np.array([len(task) for task in tasks]), tasks.names)
    classes = None if is_regressor else np.unique(y)
    pooled, columns = fit_pooled(base, rows, classes, 0)
    other = clone(model)
    other._learn_prepared(rows.with_columns(columns), pooled=pooled, classes=classes)
    expected = model.fit(X, y, tasks=ids).adapt(X[:5], y[:5]).predict(X)
    np.testing.assert_array_equal(other.adapt(X[:5], y[:5]).predict(X), expected)


@pytest.mark.parametrize("correction", ["level", "refit"])
def test_correction_when_set_after_fit_asks_for_another_fit(correction):
    """What these corrections read is learned in fit only."""
    tasks = regression_tasks(12)
    model = PooledRegressor(Ridge(), random_state=0).fit(tasks[:10])
    model.set_params(correction=correction)
    with pytest.raises(ValueError, match=f"{correction}.*set after fit"):
        model.adapt(*tasks[10]).predict(tasks[11].X)


def test_refit_of_one_table_counts_its_rows_once(rng):
    """The support of the fitted table is the table itself."""
    X, y = rng.normal(size=(30, 2)), rng.normal(size=30)
    model = PooledRegressor(LinearRegression(), correction="refit").fit(X, y)
    boosted = PooledRegressor(
        HistGradientBoostingRegressor(min_samples_leaf=20), correction="refit"
    )
    assert len(model.old_rows_.y) == 30
    # with each row twice there would be splits with 20 rows on both sides
    assert np.ptp(boosted.fit(X, y).predict(X)) == 0


def test_refit_levels_of_rows_do_not_know_their_own_target(rng):
    """With its own residual in it, the level of a row would tell its target."""
    intercept = RandomIntercept(*np.array([[0.0], [1.0], [1.0]]))
    residuals, sizes = rng.normal(size=(40, 1)), np.full(8, 5)
    levels = levels_by_others(residuals, sizes, intercept)
    for row in range(40):
        changed = residuals.copy()
        changed[row] = 99.0
        found = levels_by_others(changed, sizes, intercept)
        np.testing.assert_allclose(found[row], levels[row])


def test_classifier_when_no_label_is_common_is_refused():
    """One model cannot tell the classes of a new task."""
    tasks = [(np.eye(2), [f"{i}a", f"{i}b"]) for i in range(5)]
    with pytest.raises(ValueError, match="mean the same in every task"):
        PooledClassifier(LogisticRegression()).fit(tasks)


def test_classifier_shift_is_that_of_the_support():
    """Prediction is the pooled log-odds plus one vector per task."""
    tasks = tilted_tasks(20)
    model = PooledClassifier(LogisticRegression(), random_state=0).fit(tasks[:15])
    X, y = tasks[16]
    model.adapt(X[:6], y[:6])
    logits = model.pooled_.columns(X) + model.adapted_.mean
    np.testing.assert_allclose(model.predict_proba(X), softmax(logits, axis=1))
