"""Splitters that keep the rows of a task together."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, cross_validate
from small_estimators import class_tasks, regression_tasks
from toy_estimators import ShiftRegressor

from sklearn_meta.metrics import few_shot_scorer
from sklearn_meta.model_selection import FewShotSplit, TaskKFold, TaskShuffleSplit
from sklearn_meta.tasks import TaskCollection


@pytest.fixture
def ids(rng):
    return rng.permutation(np.repeat(np.array(list("abcdef")), [4, 5, 6, 7, 8, 9]))


def as_lists(splits):
    return [(train.tolist(), test.tolist()) for train, test in splits]


@pytest.mark.parametrize(
    "cv",
    [
        TaskKFold(3),
        TaskKFold(3, shuffle=True, random_state=0),
        TaskShuffleSplit(4, test_size=2, random_state=0),
    ],
    ids=str,
)
def test_split_when_ids_are_given_then_no_task_is_on_both_sides(cv, ids):
    # A task in both folds would make every score too good.
    for train, test in cv.split(np.zeros((39, 1)), tasks=ids):
        assert not set(ids[train]) & set(ids[test])
        assert len(train) + len(test) == 39


def test_task_k_fold_when_split_then_each_task_is_held_out_once(ids):
    # The folds are a partition, as those of KFold are.
    held = [set(ids[test]) for _, test in TaskKFold(3).split(ids, tasks=ids)]
    assert sorted(name for fold in held for name in fold) == list("abcdef")


@pytest.mark.parametrize(
    ("own", "stock"),
    [
        (TaskKFold(3), GroupKFold(3)),
        (
            TaskShuffleSplit(3, test_size=0.5, random_state=1),
            GroupShuffleSplit(3, test_size=0.5, random_state=1),
        ),
    ],
)
def test_split_when_ids_are_sorted_then_equals_the_group_splitter(own, stock, ids):
    # The splitters are scikit-learn's own under another name for the groups.
    ids = np.sort(ids)
    assert as_lists(own.split(ids, tasks=ids)) == as_lists(stock.split(ids, None, ids))


def test_split_when_ids_come_as_groups_or_third_argument_then_is_the_same(ids):
    # With routing off scikit-learn passes `groups=`, None too.
    cv = TaskKFold(3)
    expected = as_lists(cv.split(ids, tasks=ids, groups=None))
    assert as_lists(cv.split(ids, None, ids)) == expected
    assert as_lists(cv.split(ids, groups=ids)) == expected
    assert as_lists(cv.split(ids, tasks=ids, groups=ids)) == expected


def test_split_when_tasks_and_groups_differ_then_raises(ids):
    # One of two contradicting ids must not be dropped without a word.
    with pytest.raises(ValueError, match="two names for the task"):
        TaskKFold(3).split(ids, tasks=ids, groups=ids[::-1])


def test_split_when_ids_are_tuples_then_they_are_ids(ids):
    # A task may be known by a pair such as (site, year).
    pairs = [(name, 2020) for name in ids]
    splits = TaskKFold(3).split(ids, tasks=pairs)
    assert as_lists(splits) == as_lists(TaskKFold(3).split(ids, tasks=ids))


@pytest.mark.parametrize("wrap", [TaskCollection, list])
def test_split_when_x_is_tasks_then_each_task_is_a_sample(wrap):
    # With a collection there are no rows to name the task of.
    tasks = wrap([(np.zeros((3, 1)), np.zeros(3))] * 6)
    held = np.concatenate([test for _, test in TaskKFold(2).split(tasks)])
    assert sorted(held) == list(range(6))
    assert len(list(TaskShuffleSplit(4).split(tasks))) == 4


@pytest.mark.parametrize("cv", [TaskKFold(), TaskShuffleSplit()], ids=str)
def test_split_when_rows_have_no_ids_then_says_what_to_set(cv):
    # Splitting rows at random would leak tasks into the test fold.
    with pytest.raises(ValueError, match="without task ids.*enable_metadata_routing"):
        cv.split(np.zeros((10, 2)), np.zeros(10))


def test_task_k_fold_when_there_are_too_few_tasks_then_says_how_many():
    # scikit-learn's message speaks of samples, which are not what is short.
    with pytest.raises(ValueError, match="at least 5 tasks, got 2. Lower n_splits"):
        TaskKFold(5).split(np.zeros((10, 1)), tasks=[0, 1] * 5)


@pytest.mark.parametrize("cv", [TaskKFold(3), TaskShuffleSplit(3)], ids=str)
def test_get_n_splits_when_called_as_tools_do_then_is_the_number(cv, ids):
    # Tools ask with X, y and whatever is routed to `split`.
    assert cv.get_n_splits() == 3
    assert cv.get_n_splits(ids, None, groups=None) == 3
    assert cv.get_n_splits(ids, None, tasks=ids) == 3


def test_repr_and_clone_when_parameters_are_set_then_they_show():
    # A search shows and copies its `cv`.
    assert repr(TaskShuffleSplit(2, test_size=3)).startswith("TaskShuffleSplit(n_")
    assert "n_splits=7" in repr(clone(TaskKFold(7), safe=False))


def test_cross_validate_when_routing_is_on_then_one_name_is_enough(
    metadata_routing, ids, rng
):
    # `tasks` must reach fit, the scorer and the splitter without any request.
    X = rng.normal(size=(39, 2))
    y = X[:, 0] + (ids == "a")
    result = cross_validate(
        ShiftRegressor(),
        X,
        y,
        params={"tasks": ids},
        cv=TaskKFold(3),
        scoring=few_shot_scorer(n_shots=2),
        return_estimator=True,
    )
    assert result["test_score"].shape == (3,)
    assert [model.n_tasks_ for model in result["estimator"]] == [4, 4, 4]


@pytest.fixture
def flat():
    """Rows of six tasks with a number as id in the last column."""
    X, y, ids = regression_tasks().to_flat()
    return np.column_stack([X, [int(name[1:]) for name in ids]]), y


@pytest.fixture
def frame():
    """Rows of six tasks with a text as id, in the first column."""
    X, y, ids = class_tasks().to_flat()
    return pd.DataFrame({"task": ids, "a": X[:, 0], "b": X[:, 1]}), y


def test_few_shot_split_when_split_then_each_task_is_held_out_once(flat):
    # Its support is in the training fold, all other rows in the test fold.
    X, y = flat
    tested = []
    for train, test in FewShotSplit(3, n_shots=2, random_state=0).split(X, y):
        assert not set(train) & set(test) and len(train) + len(test) == len(X)
        held_out = np.unique(X[test, -1])
        assert np.isin(X[train[: 2 * len(held_out)], -1], held_out).all()
        counts = [np.sum(X[train, -1] == task) for task in held_out]
        assert counts == [2] * len(held_out)
        tested.extend(held_out)
    assert sorted(tested) == [0, 1, 2, 3, 4, 5]


def test_few_shot_split_when_labels_then_counts_rows_per_class(frame):
    # Few-shot classification counts the rows of each class.
    X, y = frame
    cv = FewShotSplit(2, task_column="task", n_shots=1, n_queries=2, random_state=0)
    for train, test in cv.split(X, y):
        assert len(test) == 3 * 3 * 2  # tasks, classes, queries
        assert sorted(y[train[:3]]) == ["a", "b", "c"]
    rows = FewShotSplit(2, task_column=0, n_shots=1, stratify=False, random_state=0)
    assert all(len(train) == len(X) - len(test) for train, test in rows.split(X, y))
    assert cv.get_n_splits() == 2


def test_few_shot_split_when_seed_is_fixed_then_splits_are_the_same(flat):
    # Candidates are compared on the same rows.
    first, again, other = (
        [test.tolist() for _, test in FewShotSplit(2, random_state=seed).split(*flat)]
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_few_shot_split_when_order_is_first_then_supports_come_first(flat):
    # Of a table that grows in time the later rows are not known yet.
    X, y = flat
    for train, test in FewShotSplit(2, n_shots=3, order="first").split(X, y):
        for task in np.unique(X[test, -1]):
            rows = np.flatnonzero(X[:, -1] == task)
            assert rows[:3].tolist() == [row for row in rows if row in train]


def test_few_shot_split_when_it_cannot_split_then_says_why(flat):
    # The message names the task, the column or the other route.
    X, y = flat
    with pytest.raises(ValueError, match=r"Task \d.0 has .* rows; 51 are needed"):
        list(FewShotSplit(2, n_shots=50).split(X, y))
    for n_splits in (7, 2.5, "3"):
        with pytest.raises(ValueError, match=f"number of tasks, 6, got {n_splits!r}"):
            list(FewShotSplit(n_splits).split(X, y))
    with pytest.raises(ValueError, match=r"scoring=few_shot_scorer"):
        list(FewShotSplit(2).split(regression_tasks()))
    with pytest.raises(ValueError, match="'random' or 'first', got 'last'"):
        list(FewShotSplit(2, order="last").split(X, y))


def test_few_shot_split_when_lengths_differ_then_says_both(flat):
    # One target per row, before any row is looked up.
    X, y = flat
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        next(FewShotSplit(n_splits=2).split(X, y[:5]))
