"""Targets to numbers and back; labels of each task's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sklearn_meta.targets import (
    LocalClasses,
    NumericScale,
    _number_distinct,
    check_known_labels,
    log_probabilities,
    one_hot,
    shared_labels,
)

some_targets = arrays(float, st.integers(1, 9), elements=st.floats(-1e6, 1e6))


@settings(max_examples=30, deadline=None)
@given(y=some_targets, normalize=st.booleans())
def test_numeric_scale_decodes_what_it_encodes(y, normalize):
    """A prediction comes back in the unit of the target."""
    scale = NumericScale.of(y, normalize)
    encoded = scale.encode(y)
    assert encoded.shape == (len(y), 1)
    assert np.isfinite(encoded).all()
    decoded = scale.decode(encoded[:, 0])
    np.testing.assert_allclose(decoded, y, rtol=1e-12, atol=1e-9)


def test_numeric_scale_when_normalising_gives_mean_zero_and_unit_spread(rng):
    """What the defaults of the learners are made for."""
    encoded = NumericScale.of(y := 5 + 3 * rng.normal(size=50), True).encode(y)
    np.testing.assert_allclose([encoded.mean(), encoded.std()], [0, 1], atol=1e-12)
    np.testing.assert_array_equal(NumericScale.of(y, False).encode(y)[:, 0], y)


def test_numeric_scale_when_the_target_is_constant_keeps_its_unit():
    """A spread of zero divides nothing."""
    assert NumericScale.of(np.full(4, 7.0), True) == (7.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(keys=arrays(int, st.integers(0, 9), elements=st.integers(0, 99)))
def test_distinct_keys_are_those_of_numpy(keys):
    """Few gaps are counted over, many are sorted out; nobody is to notice."""
    expected = np.unique(keys, return_inverse=True, return_counts=True)
    for found, known in zip(_number_distinct(keys), expected, strict=True):
        np.testing.assert_array_equal(found, known)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, bool, float, "U2"])
@pytest.mark.parametrize("y", [[7, 2, 2, 1], [0, -3, 5, 0], [10**5, 1, 1], [4]])
def test_local_classes_have_the_labels_of_numpy(y, dtype):
    """Small whole numbers are counted, not sorted; type and order are as of any."""
    y = np.array(y).astype(dtype)
    classes = LocalClasses.of(y, np.zeros(len(y), int))
    labels, position = np.unique(y, return_inverse=True)
    assert classes.labels.dtype == labels.dtype
    np.testing.assert_array_equal(classes.labels, labels)
    np.testing.assert_array_equal(classes.row_position, position)


def test_local_classes_number_each_tasks_own_labels():
    """Column j of a task is its j-th label in sorted order."""
    y = np.array(["c", "a", "c", "b", "d", "b"])
    classes = LocalClasses.of(y, np.array([0, 0, 0, 1, 1, 1]))
    assert classes.per_task.tolist() == [2, 2]
    assert classes.row_position.tolist() == [1, 0, 1, 0, 1, 0]
    assert classes.cell_size.tolist() == [1, 2, 2, 1]
    assert classes.of_task(1).tolist() == ["b", "d"]


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from("pqrs")), min_size=1, max_size=20
    )
)
def test_local_classes_give_back_every_label(rows):
    """Numbering loses nothing, whatever the tasks hold."""
    codes = np.unique([task for task, _ in rows], return_inverse=True)[1]
    y = np.array([label for _, label in rows])
    classes = LocalClasses.of(y, codes)
    for row, label in enumerate(y):
        own = classes.of_task(codes[row])
        assert own.tolist() == sorted(set(y[codes == codes[row]]))
        assert own[classes.row_position[row]] == label
    assert classes.cell_size.sum() == len(y)


@pytest.mark.parametrize(
    ("labels", "answer"),
    [
        ([["a", "b"], ["a", "b"]], True),
        ([["a", "b", "c"], ["a", "b"]], True),
        ([["a", "b"], ["c", "d"]], False),
        ([["a", "b"], ["b", "c"]], False),
        ([["a", "b"]], True),
    ],
    ids=str,
)
def test_shared_labels_when_some_task_has_all_is_true(labels, answer):
    """The rule of label_mode='auto'."""
    codes = np.repeat(range(len(labels)), [len(own) for own in labels])
    assert shared_labels(np.concatenate(labels), codes) is answer


def test_one_hot_marks_the_class():
    """Rows sum to one."""
    assert one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_log_probabilities_when_one_is_zero_then_is_minus_infinity():
    """A class of another task has probability 0, which is no reason to warn."""
    found = log_probabilities(np.array([[0.0, 1.0], [0.5, 0.5]]))
    assert found.tolist() == [[-np.inf, 0.0], [np.log(0.5)] * 2]


def test_known_labels_are_positions_in_the_classes():
    """Of strings, numbers and booleans."""
    for classes in (["a", "b", "z"], [-1, 3, 8], [False, True]):
        classes = np.array(classes)
        found = check_known_labels(classes[::-1], classes, str)
        assert found.tolist() == list(range(len(classes)))[::-1]


@pytest.mark.parametrize(
    ("y", "classes", "label"),
    [
        (["a", "zz"], ["a", "b"], "'zz'"),
        ([0, 5], [0, 1], "5"),
        ([0, 1], ["a", "b"], "0"),
        (["0"], [0, 1], "'0'"),
        (np.array([None, "a"], dtype=object), ["a", "b"], "None"),
    ],
    ids=str,
)
def test_unknown_label_is_named_with_its_place(y, classes, label):
    """Labels of another type are unknown too."""
    match = rf"The label {label} in row \d was not seen in fit. Expected one of \["
    with pytest.raises(ValueError, match=match):
        check_known_labels(y, np.array(classes), lambda row: f"row {row}")
