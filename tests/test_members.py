"""Fitting, choosing and asking one scikit-learn model per task."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from sklearn_meta.members import (
    class_probabilities,
    farthest_points,
    fit_member,
    fit_members,
    out_of_fold_probabilities,
    with_seed,
)
from sklearn_meta.pooling import folds_by_task
from sklearn_meta.tasks import TaskRows


def ten_tasks():
    """Return ten tasks of five rows; all but the last one have the same targets."""
    X = np.tile(np.linspace(0, 1, 5), 10)[:, None]
    y = np.r_[np.zeros(45), np.ones(5)]
    return TaskRows(X, y, np.full(10, 5), [f"t{i}" for i in range(10)])


def test_fit_members_when_bounded_keeps_the_ones_that_differ():
    """Nine models alike are one; memory is for the others."""
    models, tasks = fit_members(
        Ridge(), ten_tasks(), lambda m, X: m.predict(X), max_models=2, n_jobs=None
    )
    assert len(models) == 2
    assert tasks[1] == 9
    np.testing.assert_allclose(models[1].predict([[0.5]]), 1)


def test_fit_members_when_bounded_holds_few_at_a_time(monkeypatch):
    """A thousand tasks must not mean a thousand forests in memory."""
    seen = []

    def spy(points, n_kept):
        seen.append(len(points))
        return farthest_points(points, n_kept)

    monkeypatch.setattr("sklearn_meta.members.farthest_points", spy)
    fit_members(
        Ridge(), ten_tasks(), lambda m, X: m.predict(X), max_models=3, n_jobs=None
    )
    assert seen == [6, 6, 4]


def test_fit_members_when_a_task_fails_names_it():
    """The error is the estimator's own; a note says where it came from."""
    rows = ten_tasks()
    rows.y[12] = np.nan
    with pytest.raises(ValueError, match="NaN") as caught:
        fit_members(Ridge(), rows, None, max_models=None, n_jobs=None)
    assert caught.value.__notes__ == ["This happened in task 't2'."]


def test_fit_member_when_there_is_one_class_always_answers_it():
    """Logistic regression would refuse the task."""
    model = fit_member(LogisticRegression(), np.zeros((3, 1)), np.array(["b"] * 3))
    proba = class_probabilities(model, np.zeros((2, 1)), np.array(["a", "b"]))
    np.testing.assert_array_equal(proba, [[0, 1], [0, 1]])


def test_farthest_points_when_all_are_alike_are_distinct():
    """Models may agree; none may be kept twice."""
    kept = farthest_points(np.zeros((5, 2)), 4)
    assert len(set(kept.tolist())) == 4


def test_out_of_fold_probabilities_when_a_fold_lacks_a_class_are_complete():
    """A rare class may be in one task only."""
    rows = TaskRows(
        np.arange(8.0)[:, None],
        np.array([0, 1, 0, 1, 0, 1, 2, 2]),
        np.full(4, 2),
        list("abcd"),
    )
    proba = out_of_fold_probabilities(LogisticRegression(), rows, np.arange(3))
    np.testing.assert_allclose(proba.sum(1), 1)
    np.testing.assert_array_equal(proba[6:, 2], 0)


@pytest.mark.parametrize("sizes", [[3, 2, 4, 1, 5], [6]])
def test_folds_by_task_keep_tasks_whole_and_cover_all_rows(sizes):
    """A single task is split by row, since there is no other to learn from."""
    n_rows = sum(sizes)
    rows = TaskRows(np.zeros((n_rows, 1)), np.zeros(n_rows), np.array(sizes), None)
    folds = folds_by_task(rows)
    held_out = np.concatenate([out for _, out in folds])
    assert sorted(held_out) == list(range(n_rows))
    for train, out in folds:
        common = set(rows.codes[train]) & set(rows.codes[out])
        assert not common or len(sizes) == 1


def test_with_seed_leaves_given_seeds_and_the_original_alone():
    """A seed that the user chose is the user's."""
    given = make_pipeline(
        RandomForestRegressor(random_state=7), RandomForestRegressor()
    )
    params = with_seed(given, 3).get_params()
    assert params["randomforestregressor-1__random_state"] == 7
    assert params["randomforestregressor-2__random_state"] == 3
    assert given[1].random_state is None
