"""Supports with more rows than a method can take in."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from sklearn_meta.estimators.large_supports import limit_supports, thin_out
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


def test_limit_supports_when_a_task_is_large_then_names_it():
    # What is left out is said, and what could be done instead.
    y = np.arange(7.0)
    rows = TaskRows(y[:, None], y, np.array([2, 5]), ["a", "b"])
    how = {"method": "this", "advice": "Do that."}
    assert limit_supports(BaseEstimator(), rows, 5, **how) is rows
    match = "'b' has 5 rows; this uses 4 of them, drawn at random. Do that."
    with pytest.warns(LargeSupportWarning, match=match):
        kept = limit_supports(BaseEstimator(), rows, 4, **how)
    assert kept.sizes.tolist() == [2, 4]
