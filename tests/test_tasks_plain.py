"""A look must take what scikit-learn takes, and nothing else."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from sklearn_meta import Task, TaskCollection
from sklearn_meta.tasks import group_rows, plain_table
from sklearn_meta.tasks._plain import LARGEST, plain_target, plain_tasks


@pytest.fixture
def estimator():
    """An estimator that was fitted on two features."""
    estimator = BaseEstimator()
    estimator.n_features_in_ = 2
    return estimator


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("view", [np.s_[:], np.s_[::-1], np.s_[:, ::-1], np.s_[::2]])
def test_plain_table_when_numbers_are_sound_takes_any_layout(estimator, dtype, view):
    """One pass over the memory must not depend on how the rows lie in it."""
    X = np.arange(12).reshape(6, 2).astype(dtype)[view]
    np.testing.assert_array_equal(plain_table(estimator, X), X)
    assert plain_table(estimator, np.asfortranarray(X)).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("order", ["C", "F"])
def test_plain_table_when_a_number_is_not_finite_is_none(estimator, dtype, bad, order):
    """scikit-learn has the words for it."""
    X = np.ones((4, 2), dtype, order=order)
    X[2, 1] = bad
    assert plain_table(estimator, X) is None
    assert plain_target(X[:, 1], 4, numeric=True) is None


@pytest.mark.parametrize("size", [1.0, -1.0])
def test_plain_table_when_numbers_are_large_stops_at_the_bound(estimator, size):
    """Many numbers near the bound are as sound as one, though their norm is above."""
    X = np.full((50, 2), size * LARGEST)
    assert plain_table(estimator, X) is X
    X[7, 0] *= 1.001
    assert plain_table(estimator, X) is None


def test_plain_table_when_squares_overflow_in_their_type_takes_the_numbers(estimator):
    """A float32 of 1e30 has no square, and is fine."""
    assert plain_table(estimator, np.full((3, 2), 1e30, np.float32)) is not None


@pytest.mark.parametrize("dtype", [np.int32, np.float32, float])
def test_to_flat_when_tasks_are_pairs_of_arrays_is_as_of_tasks(dtype, rng):
    """Pairs of arrays are put together at once, with the same rows, types and ids."""
    pairs = [(rng.normal(size=(n, 2)).astype(dtype), np.arange(n)) for n in (3, 1, 4)]
    pairs.append((np.ones((2, 2)), np.arange(2)))
    found = TaskCollection(pairs).to_flat()
    expected = TaskCollection([Task(X, y) for X, y in pairs]).to_flat()
    for part, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(part, other)
        assert part.dtype == other.dtype


@pytest.mark.parametrize(
    "odd",
    [
        (np.ones((2, 3)), np.ones(2)),  # another number of columns
        (np.ones((2, 2)), np.ones(3)),
        (np.ones((2, 2)), np.ones((2, 1))),
        (np.ones((2, 2)), np.array(["a", "b"])),
        (np.ones((2, 2), object), np.ones(2)),
        (np.ones(2), np.ones(2)),
        ([[1.0, 2.0]], [1.0]),
        Task(np.ones((2, 2)), np.ones(2), name="a"),
    ],
)
def test_plain_tasks_when_one_is_odd_is_none(odd):
    """What is odd gets the checks of each task, and their messages."""
    plain = (np.ones((2, 2)), np.ones(2))
    assert plain_tasks([plain, plain]) is not None
    assert plain_tasks([plain, odd, plain]) is None


@pytest.mark.parametrize("ids", [[1, 1, 3, 7, 7], ["a", "b", "b", "c", "c"], [2], []])
def test_group_rows_when_ids_are_sorted_is_as_if_they_were_not(ids):
    """Sorted ids are found by their neighbours, others by sorting."""
    codes, names = group_rows(np.array(ids), len(ids))
    # an object array takes the general way
    other_codes, other_names = group_rows(np.array(ids, object), len(ids))
    assert codes.tolist() == other_codes.tolist() and names == other_names
