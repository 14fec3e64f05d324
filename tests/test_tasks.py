"""Tasks and collections: lazy, sliced as scikit-learn slices, checked once."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.model_selection import KFold
from sklearn.utils import _safe_indexing

from sklearn_meta import Task, TaskCollection, few_shot_split
from sklearn_meta.tasks import (
    check_tasks,
    group_rows,
    is_task_sequence,
    support_query_indices,
)
from sklearn_meta.tasks._split import has_class_labels


class CountedTasks:
    """Five tasks that would be read from disk; `read` says which were."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return 5

    def __getitem__(self, index):
        self.read.append(index)
        return Task(np.full((2, 1), float(index)), [0.0, 1.0], name=f"n{index}")


@pytest.fixture
def table():
    """Flat rows of three tasks, interleaved."""
    X = np.arange(12.0).reshape(6, 2)
    return X, np.array([0, 1, 0, 1, 0, 1]), np.array(["b", "a", "b", "c", "a", "b"])


# ---------------------------------------------------------------- collections


def test_collection_when_sliced_and_split_reads_nothing():
    """A sequence that loads at access must stay lazy under cross-validation."""
    counted = CountedTasks()
    tasks = TaskCollection(counted)
    assert len(tasks) == 5
    parts = [tasks[1:4], tasks[np.array([4, 0])], tasks[np.arange(5) > 2]]
    parts += [tasks[train] for train, _ in KFold(5).split(tasks)]
    assert [len(part) for part in parts] == [3, 2, 2, 4, 4, 4, 4, 4]
    assert counted.read == []
    assert parts[1][0].X[0, 0] == 4
    assert counted.read == [4]


def test_collection_when_sliced_twice_finds_the_items():
    """A slice of a slice counts from the slice."""
    tasks = TaskCollection(CountedTasks())[1:][::-2]
    assert [task.name for task in tasks] == ["n4", "n2"]
    assert tasks.names == ["n4", "n2"]


@pytest.mark.parametrize(
    "index",
    [
        slice(1, 3),
        [1, 2],
        np.array([1, 2]),
        np.array([False, True, True, False]),
        range(1, 3),
    ],
    ids=str,
)
def test_names_when_sliced_go_with_their_tasks(index):
    """A name given to the collection belongs to its task, as does a task's own."""
    pairs = [([[float(i)]], [i]) for i in range(4)]
    given = TaskCollection(pairs, names=list("wxyz"))
    own = TaskCollection(
        [Task(*pair, name=n) for pair, n in zip(pairs, "wxyz", strict=True)]
    )
    for tasks in (given, own):
        chosen = tasks[index]
        assert isinstance(chosen, TaskCollection)
        assert chosen.names == ["x", "y"]
        assert [task.X[0][0] for task in chosen] == [1.0, 2.0]


@pytest.mark.parametrize("named", ["given", "own", "position"])
def test_names_when_scikit_learn_takes_a_fold_go_with_their_tasks(named):
    """It takes folds of a sequence item by item, and puts them into a list."""
    pairs = [([[float(i)]], [i]) for i in range(4)]
    names = None
    if named == "own":
        pairs = [Task(*pair, name=f"n{i}") for i, pair in enumerate(pairs)]
    elif named == "given":
        names = ["n0", "n1", "n2", "n3"]
    fold = _safe_indexing(TaskCollection(pairs, names), np.array([3, 1]))
    expected = [3, 1] if named == "position" else ["n3", "n1"]
    assert TaskCollection(fold).names == expected


def test_names_when_not_given_are_positions_of_the_task():
    """A position is a name as soon as one is needed."""
    tasks = TaskCollection([([[0.0]], [0]), Task([[1.0]], [1], name="own")])
    assert tasks.names == [0, "own"]
    assert [task.name for task in tasks[::-1]] == ["own", 0]


def test_index_when_negative_or_numpy_counts_as_in_a_list():
    """It is a sequence."""
    tasks = TaskCollection(CountedTasks())
    assert tasks[-1].name == tasks[np.int64(4)].name == "n4"
    with pytest.raises(IndexError):
        tasks[5]
    assert [task.name for task in tasks] == [f"n{i}" for i in range(5)]


def test_names_when_their_number_is_wrong_raises():
    """One name per task."""
    with pytest.raises(ValueError, match="got 2 names for 5 tasks"):
        TaskCollection(CountedTasks(), names=["a", "b"])


def test_repr_tells_the_number_of_tasks():
    """A fitted search shows it."""
    assert repr(TaskCollection(CountedTasks())) == "TaskCollection(5 tasks)"


def test_task_unpacks_and_counts_rows():
    """It can stand wherever (X, y) can."""
    X, y = task = Task(pd.DataFrame({"u": [1, 2, 3]}), [1, 2, 3])
    assert len(task) == 3 and len(X) == len(y)
    with pytest.raises(AttributeError):
        task.X = None


def test_from_arrays_groups_rows_in_order_of_appearance(table):
    """Rows of a task keep their order too."""
    tasks = TaskCollection.from_arrays(*table)
    assert tasks.names == ["b", "a", "c"]
    assert [task.X[:, 0].tolist() for task in tasks] == [[0, 4, 10], [2, 8], [6]]
    assert [task.y.tolist() for task in tasks] == [[0, 0, 1], [1, 0], [1]]


@pytest.mark.parametrize("ids", ["str", "int", "tuple", "mixed", "categorical", "date"])
def test_ids_of_any_hashable_type_group_rows(ids):
    """A task may be a shop, a number, or a pair."""
    kinds = {
        "str": ["x", "y", "x"],
        "int": [5, -1, 5],
        "tuple": [("a", 1), ("a", 2), ("a", 1)],
        "mixed": [1, "1", 1],
        "categorical": pd.Series(["x", "y", "x"], dtype="category"),
        "date": pd.to_datetime(["2020-01-02", "2020-01-01", "2020-01-02"]),
    }
    codes, names = group_rows(kinds[ids], 3)
    assert codes.tolist() == [0, 1, 0]
    assert len(names) == 2


def test_from_frame_takes_task_and_target_out_of_the_features():
    """The id of a task is no feature."""
    frame = pd.DataFrame(
        {"shop": list("pqp"), "size": [1.0, 2.0, 3.0], "colour": list("rgb")}
    ).assign(sales=[7, 8, 9])
    tasks = TaskCollection.from_frame(frame, task="shop", target="sales")
    assert tasks.names == ["p", "q"]
    assert tasks[0].X.columns.tolist() == ["size", "colour"]
    assert tasks[0].y.tolist() == [7, 9]
    X, y, ids = tasks.to_flat()
    assert isinstance(X, pd.DataFrame) and X.dtypes["colour"] == frame.dtypes["colour"]
    assert (y.tolist(), ids.tolist()) == ([7, 9, 8], ["p", "p", "q"])


def test_from_frame_when_it_is_an_array_names_the_other_way():
    """An array has no columns to look the names up in."""
    with pytest.raises(TypeError, match="DataFrame .*, got ndarray.*from_arrays"):
        TaskCollection.from_frame(np.zeros((2, 3)), task="id", target="y")


def test_from_frame_when_it_is_no_frame_of_pandas_says_how_to_convert():
    """A table of pyarrow has columns too, and would print all of its numbers."""

    class Table:
        columns = ("id", "y")
        to_pandas = None

    with pytest.raises(TypeError, match=r"of pandas, got Table. Use its to_pandas\(\)"):
        TaskCollection.from_frame(Table(), task="id", target="y")


def test_collection_when_given_a_dict_takes_its_keys_as_names():
    """The form in which tables of machines are often at hand."""
    pairs = {"a": ([[0.0]], [1.0]), "b": ([[1.0], [2.0]], [0.0, 1.0])}
    assert TaskCollection(pairs).to_flat()[2].tolist() == ["a", "b", "b"]
    assert check_tasks(BaseEstimator(), pairs).names == ["a", "b"]


def test_collection_when_given_a_generator_raises():
    """It has no length, and is empty after the first pass."""
    with pytest.raises(TypeError, match="got a generator, .* Make a list of it"):
        TaskCollection(([[0.0]], [1.0]) for _ in range(2))


def test_from_frame_when_a_column_lacks_names_it():
    """With the columns there are."""
    frame = pd.DataFrame({"u": [1], "t": [1]})
    match = r"The target column 'y' is not in the frame. Its columns are \['u', 't'\]"
    with pytest.raises(ValueError, match=match):
        TaskCollection.from_frame(frame, task="t", target="y")


def test_from_frame_when_it_has_no_rows_says_so():
    """A filter that leaves nothing is found where it is, not by a count of names."""
    frame = pd.DataFrame({"u": [], "t": [], "y": []})
    with pytest.raises(ValueError, match="The DataFrame has no rows: at least one"):
        TaskCollection.from_frame(frame, task="t", target="y")


@settings(max_examples=20, deadline=None)
@given(ids=st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_to_flat_and_back_keeps_all_rows(ids):
    """The two forms of input hold the same."""
    X, y = np.arange(2.0 * len(ids)).reshape(-1, 2), np.arange(len(ids))
    tasks = TaskCollection.from_arrays(X, y, ids)
    again = TaskCollection.from_arrays(*tasks.to_flat())
    assert again.names == tasks.names == list(dict.fromkeys(ids))
    for one, two in zip(again, tasks, strict=True):
        np.testing.assert_array_equal(one.X, two.X)
        np.testing.assert_array_equal(one.y, two.y)


@pytest.mark.parametrize(
    ("X", "answer"),
    [
        (TaskCollection([]), True),
        ([Task([[1.0]], [1])], True),
        ([([[1.0]], [1]), ([[2.0]], [2])], True),
        ([[np.ones((2, 1)), np.ones(2)]], True),
        ((((np.ones((2, 1)), np.ones(2))),), True),
        ([], False),
        ([[1.0, 2.0], [3.0, 4.0]], False),
        ([(1.0, 2.0)], False),
        (np.ones((2, 2)), False),
        (np.ones((2, 2, 2)), False),
        (pd.DataFrame({"u": [1]}), False),
        ("table", False),
        (None, False),
        ({0: 1}, False),
    ],
    ids=lambda X: str(X)[:30],
)
def test_is_task_sequence_tells_tasks_from_a_table(X, answer):
    """Rows of two numbers are no tasks."""
    assert is_task_sequence(X) is answer


# ---------------------------------------------------------------- check_tasks


def test_check_tasks_when_the_forms_differ_returns_the_same(table):
    """A collection, pairs, and flat rows with ids are one and the same."""
    collection = TaskCollection.from_arrays(*table)
    flat = check_tasks(BaseEstimator(), *table)
    for form in (collection, [tuple(task) for task in collection], list(collection)):
        rows = check_tasks(BaseEstimator(), form)
        np.testing.assert_array_equal(rows.X, flat.X)
        np.testing.assert_array_equal(rows.y, flat.y)
        np.testing.assert_array_equal(rows.sizes, [3, 2, 1])
    assert flat.names == ["b", "a", "c"]
    assert flat.codes.tolist() == [0, 0, 0, 1, 1, 2]
    assert flat.X.dtype == np.float64


def test_check_tasks_when_there_are_no_ids_is_one_table(table):
    """The table has no name."""
    rows = check_tasks(BaseEstimator(), *table[:2])
    assert rows.names is None
    assert rows.sizes.tolist() == [6]
    assert rows.name_of(0) == "the table"


def test_select_keeps_rows_sizes_and_names_together(table):
    """Holding tasks out must not mix them up."""
    rows = check_tasks(BaseEstimator(), *table).select(np.array([True, False, True]))
    assert (rows.names, rows.sizes.tolist()) == (["b", "c"], [3, 1])
    assert rows.X[:, 0].tolist() == [0, 4, 10, 6]
    assert rows.place_of(3) == "task 'c'"


@pytest.mark.parametrize(
    ("y", "answer"),
    [
        (["a", "b"], True),
        ([0, 1, 2], True),
        ([True, False], True),
        ([0.5, 1.0], False),
        ([1.0, 2.0], True),
        (np.array(["a", "b"], dtype=object), True),
    ],
    ids=str,
)
def test_has_class_labels_tells_labels_from_numbers(y, answer):
    """Splits are stratified for labels only."""
    assert has_class_labels(y) is answer


# ---------------------------------------------------------------- few_shot_split


def test_few_shot_split_when_order_is_first_takes_the_first_rows():
    """A table that grows in time is known up to now."""
    X, y = np.arange(6.0).reshape(6, 1), np.array([1.5, 2.5, 3.5, 4.5, 5.5, 6.5])
    Xs, Xq, ys, yq = few_shot_split(X, y, n_shots=2, n_queries=3, order="first")
    assert (ys.tolist(), yq.tolist()) == ([1.5, 2.5], [3.5, 4.5, 5.5])
    assert (Xs.ravel().tolist(), Xq.ravel().tolist()) == ([0, 1], [2, 3, 4])


def test_few_shot_split_when_order_is_first_and_stratified_counts_per_class():
    """The first rows of each class."""
    y = np.array(list("aabab"))
    _, _, ys, yq = few_shot_split(np.arange(5)[:, None], y, n_shots=1, order="first")
    assert (ys.tolist(), yq.tolist()) == (["a", "b"], ["a", "a", "b"])


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(3, 8), min_size=2, max_size=4),
    n_shots=st.integers(1, 2),
    n_queries=st.one_of(st.none(), st.just(1)),
    seed=st.integers(0, 1000),
)
def test_few_shot_split_is_disjoint_and_counts(sizes, n_shots, n_queries, seed):
    """No row on both sides, and as many of each class as asked for."""
    y = np.repeat(np.arange(len(sizes)), sizes)
    support, query = support_query_indices(
        y, n_shots=n_shots, n_queries=n_queries, stratify=True, random_state=seed
    )
    assert not set(support) & set(query)
    assert np.bincount(y[support]).tolist() == [n_shots] * len(sizes)
    rest = [n - n_shots for n in sizes] if n_queries is None else [1] * len(sizes)
    assert np.bincount(y[query]).tolist() == rest


def test_few_shot_split_keeps_frames_and_series():
    """Column names and types must survive."""
    X = pd.DataFrame({"u": [1, 2, 3, 4], "w": list("abcd")})
    y = pd.Series([0.5, 1.5, 2.5, 3.5], name="target")
    Xs, Xq, ys, yq = few_shot_split(X, y, n_shots=1, random_state=0)
    assert isinstance(Xs, pd.DataFrame) and isinstance(yq, pd.Series)
    assert len(Xq) == 3 and ys.name == "target"
    assert (Xs.index == ys.index).all()


def test_few_shot_split_when_seeded_gives_the_same_rows():
    """And other rows for another seed."""
    X, y = np.arange(40).reshape(40, 1), np.linspace(0, 1, 40)
    splits = [few_shot_split(X, y, random_state=s)[0].ravel() for s in (0, 0, 1)]
    assert splits[0].tolist() == splits[1].tolist() != splits[2].tolist()


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"n_shots": 0}, "n_shots of at least 1, got 0"),
        ({"order": "last"}, "'random' or 'first', got 'last'"),
        ({"n_shots": 4}, r"The task has 3 rows of class 'a'; 4 are needed"),
        ({"n_shots": 2, "n_queries": 2}, "n_shots=2 and n_queries=2. Lower n_shots"),
        ({"n_shots": 6, "stratify": False}, "has 6 rows; 7 are needed"),
        ({"n_shots": 3}, "has 6 rows, and n_shots=3 of each class are all of them: no"),
    ],
    ids=str,
)
def test_few_shot_split_when_rows_do_not_suffice_says_how_many(params, match):
    """With what to do."""
    with pytest.raises(ValueError, match=match):
        few_shot_split(np.zeros((6, 1)), np.array(list("aaabbb")), **params)


@pytest.mark.parametrize("stratify", [True, False])
def test_few_shot_split_when_there_is_no_row_says_so(stratify):
    """There is no class to count rows of, and a message all the same."""
    with pytest.raises(ValueError, match="The task has 0 rows; . are needed for n_sho"):
        few_shot_split(np.zeros((0, 1)), np.zeros(0, str), stratify=stratify)


def test_few_shot_split_when_targets_are_a_table_or_nan_raises():
    """Rows are counted per class of one target, and nan is no class."""
    X = np.zeros((4, 1))
    with pytest.raises(ValueError, match="y should be a 1d array"):
        few_shot_split(X, np.eye(4, dtype=int), stratify=True)
    with pytest.raises(ValueError, match="Input.* contains NaN"):
        few_shot_split(X, [np.nan, 0.0, 1.0, 0.5])


def test_few_shot_split_when_lengths_differ_raises():
    """Rows and targets belong together."""
    with pytest.raises(
        ValueError, match="one entry of y for each of the 3 rows, got 2"
    ):
        few_shot_split(np.zeros((3, 1)), [0.5, 1.5], n_shots=1)
