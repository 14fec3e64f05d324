"""Fitting one scikit-learn model per task, and choosing those that differ."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from sklearn_meta.members import farthest_points, fit_members
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


def test_farthest_points_when_all_are_alike_are_distinct():
    """Models may agree; none may be kept twice."""
    kept = farthest_points(np.zeros((5, 2)), 4)
    assert len(set(kept.tolist())) == 4
