"""Clones of an estimator that did not see the rows they are asked about."""

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline

from sklearn_meta.pooling import (
    class_probabilities,
    fit_member,
    folds_by_task,
    out_of_fold,
    with_seed,
)
from sklearn_meta.tasks import TaskRows


@pytest.fixture
def rows(rng):
    """12 tasks of 6 rows, each task with its own level."""
    y = np.repeat(rng.normal(size=12), 6) + 0.01 * rng.normal(size=72)
    return TaskRows(rng.normal(size=(72, 2)), y, np.full(12, 6), list("abcdefghijkl"))


def test_out_of_fold_never_uses_the_task_of_a_row(rows):
    # a nearest neighbour would copy the target if its own task were seen
    X = rows.X + 100 * rows.codes[:, None]
    found = out_of_fold(KNeighborsRegressor(1), rows._replace(X=X))
    assert np.abs(found - rows.y).min() > 0
    for task in range(12):
        own = rows.y[rows.codes == task]
        assert not np.isin(found[rows.codes == task], own).any()


def test_out_of_fold_of_one_table_splits_its_rows(rows):
    # a plain table has no tasks to split by
    found = out_of_fold(
        DummyRegressor(), rows._replace(sizes=np.array([72]), names=None)
    )
    assert len(np.unique(found)) == 4


def test_fit_member_when_there_is_one_class_always_answers_it():
    """Logistic regression would refuse the task."""
    model = fit_member(LogisticRegression(), np.zeros((3, 1)), np.array(["b"] * 3))
    proba = class_probabilities(model, np.zeros((2, 1)), np.array(["a", "b"]))
    np.testing.assert_array_equal(proba, [[0, 1], [0, 1]])


def test_out_of_fold_when_a_fold_lacks_a_class_are_complete():
    """A rare class may be in one task only."""
    rows = TaskRows(
        np.arange(8.0)[:, None],
        np.array([0, 1, 0, 1, 0, 1, 2, 2]),
        np.full(4, 2),
        list("abcd"),
    )
    proba = out_of_fold(LogisticRegression(), rows, np.arange(3))
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
