"""Supports with more rows than a method can take in."""

import warnings

import numpy as np
import pytest
from small_estimators import class_tasks, regression_tasks, small

from sklearn_meta import (
    DeepKernelRegressor,
    MAMLClassifier,
    MAMLRegressor,
    MetaStackingRegressor,
)
from sklearn_meta.base._large_supports import (
    SupportLimit,
    thin_out,
    warn_of_large_supports,
)
from sklearn_meta.estimators import gradient, kernel
from sklearn_meta.exceptions import LargeSupportWarning
from sklearn_meta.tasks import TaskRows


def test_thin_out_when_tasks_are_small_then_keeps_them_whole():
    # Only the large ones lose rows, and none gets those of another.
    y = np.arange(9.0)
    rows = TaskRows(y[:, None], y, np.array([2, 6, 1]), ["a", "b", "c"])
    kept = thin_out(rows, 3, evenly=False)
    assert kept.sizes.tolist() == [2, 3, 1]
    assert kept.y[:2].tolist() == [0, 1] and kept.y[-1] == 8
    assert set(kept.y[2:5]) <= {2, 3, 4, 5, 6, 7}
    np.testing.assert_array_equal(kept.X[:, 0], kept.y)


def test_thin_out_when_evenly_then_a_rare_class_keeps_as_many_rows():
    # A class is told by its rows, however many another has.
    y = np.repeat(list("aab"), 40)[:100]
    rows = TaskRows(np.zeros((100, 1)), y, np.array([60, 40]), ["s", "t"])
    kept = thin_out(rows, 12)
    assert kept.sizes.tolist() == [12, 12]
    assert [(kept.y[12:] == label).sum() for label in "ab"] == [6, 6]


def test_thin_out_when_no_task_is_large_then_returns_the_rows_themselves():
    # A copy of all rows at every request would be for nothing.
    rows = TaskRows(np.zeros((7, 1)), np.zeros(7), np.array([2, 5]), ["a", "b"])
    assert thin_out(rows, 5) is rows


def test_warn_when_a_task_is_large_then_names_it_and_what_to_do():
    # What is left out is said, and what could be done instead.
    y = np.arange(7.0)
    rows = TaskRows(y[:, None], y, np.array([2, 5]), ["a", "b"])
    limits = [SupportLimit(most, f"m{most}", "Do that.") for most in (3, 4, 5)]
    warn_of_large_supports(rows, limits[2:], evenly=False)  # it can use all: no warning
    match = (
        "'b' has 5 rows; m3 uses 3 and m4 uses 4 of them, drawn at random. Do that.$"
    )
    with pytest.warns(LargeSupportWarning, match=match):
        warn_of_large_supports(rows, limits, evenly=False)


def test_mixture_when_a_support_is_large_then_warns_once_of_all_members(monkeypatch):
    # A warning for each model of each fold would bury what it says.
    monkeypatch.setattr(kernel, "MAX_SUPPORT_ROWS", 5)
    monkeypatch.setattr(gradient, "MAX_GRADIENT_ROWS", 6)
    members = [("gp", small(DeepKernelRegressor)), ("maml", small(MAMLRegressor))]
    model = MetaStackingRegressor(members, n_folds=2, n_shots=(1, 4), random_state=0)
    tasks = regression_tasks(8)
    model.fit(tasks).weights_[:] = 0.5
    match = "'t1' has 9 rows; member 'gp' uses 5 and member 'maml' uses 6 of them, .*"
    with pytest.warns(LargeSupportWarning, match=match) as caught:
        model.adapt_tasks(tasks[:2])
    assert len(caught) == 1 and "Use Model" in str(caught[0].message)


def test_mixture_when_members_go_as_a_team_then_none_reads_more_than_it_can(
    monkeypatch,
):
    # Members that adapt together are to do as each of them would.
    members = [("a", small(DeepKernelRegressor)), ("b", small(DeepKernelRegressor))]
    model = MetaStackingRegressor(members, n_shots=(1, 4), random_state=0)
    tasks = regression_tasks(8)
    model.fit(tasks).weights_[:] = 0.5
    monkeypatch.setattr(kernel, "MAX_SUPPORT_ROWS", 5)
    with pytest.warns(LargeSupportWarning, match="the table has 10 rows"):
        model.adapt(*tasks[2])
    states = [member.adapted_.states[0] for member in model.adapted_.models]
    assert {state["mask"].sum().item() for state in states} == {5}


@pytest.mark.parametrize("label_mode", ["shared", "task"])
def test_fit_when_its_one_table_is_large_then_warns_if_labels_are_shared(
    label_mode, monkeypatch
):
    # Labels of its own are there to be learned from; a new task will have others.
    monkeypatch.setattr(gradient, "MAX_GRADIENT_ROWS", 6)
    X, y = class_tasks(1, labels=list("abcdef"))[0]
    model = small(MAMLClassifier, label_mode=label_mode)
    expected = [LargeSupportWarning] if label_mode == "shared" else []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LargeSupportWarning)
        model.fit(X, y)
    assert [warning.category for warning in caught] == expected
