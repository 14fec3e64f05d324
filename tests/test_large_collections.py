"""Collections larger than memory: windows of tasks, Parquet files, stacking lazily."""

import pickle
import sys
import tracemalloc
import weakref

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from small_estimators import class_tasks, regression_tasks

from sklearn_meta import Checkpoint, MAMLRegressor, ProtoNetClassifier, TaskCollection
from sklearn_meta.tasks import TaskWindows, check_tasks
from sklearn_meta.tasks import _stack as stack_module


class Lazy:
    """Tasks that are made at each access, counted, and broken after some accesses."""

    def __init__(self, n_tasks, n_rows=6, limit=np.inf):
        self.n_tasks, self.n_rows, self.limit = n_tasks, n_rows, limit
        self.read, self.made, self.alive = [], [], []

    def __len__(self):
        return self.n_tasks

    def __getitem__(self, index):
        if len(self.read) >= self.limit:
            raise MemoryError
        self.read.append(index)
        rng = np.random.default_rng(index)
        X = rng.normal(size=(self.n_rows, 2))
        self.made.append(weakref.ref(X))
        self.alive.append(sum(made() is not None for made in self.made))
        return X, X.sum(1) + rng.normal()


def regressor(**params):
    """Return an estimator that fits in a moment, with twelve stretches of a step."""
    fast = {"max_iter": 12, "meta_batch_size": 2, "inner_steps": 1, "random_state": 0}
    return MAMLRegressor((4,), **fast | params)


# ---------------------------------------------------------------- windows


def test_windows_of_a_pass_hold_each_task_once_and_none_that_is_held_out():
    """A task that is left out teaches nothing, one that is twice in too much."""
    windows = TaskWindows(TaskCollection(Lazy(100)), 30, 7, seed=0)
    held = set(windows.held_out.names)
    passed = [name for i in range(4) for name in windows.window(i).names]
    assert len(held) == 7 and not held & set(passed)
    assert sorted(passed) == sorted(set(range(100)) - held)
    assert all(len(windows.window(i)) <= 30 for i in range(9))


def test_windows_of_the_next_pass_are_others_and_follow_from_the_seed():
    """A run that goes on knows the number of its window, and nothing else."""
    tasks = TaskCollection(Lazy(100))
    one, same = (TaskWindows(tasks, 50, 0, seed=3) for _ in range(2))
    assert one.window(5).names == same.window(5).names != one.window(3).names
    assert TaskWindows(tasks, 50, 0, seed=4).window(5).names != one.window(5).names


def test_fit_with_a_window_reads_no_more_tasks_than_it_shows():
    """One window for a stretch, and the held-out tasks once."""
    tasks = Lazy(400)
    model = regressor(
        early_stopping=True, validation_fraction=0.02, n_iter_no_change=99
    )
    model.fit(TaskCollection(tasks, window=10))
    assert model.n_tasks_ == 400
    assert len(tasks.read) <= 12 * 10 + 8
    assert len(set(tasks.read)) > 100


def test_fit_with_a_window_needs_little_memory():
    """What it is for: the rows of all tasks would take 20 MB."""
    tasks = Lazy(200, n_rows=5000)
    tracemalloc.start()
    regressor().fit(TaskCollection(tasks, window=4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_fit_with_a_window_of_all_tasks_is_the_plain_fit():
    """A window is about memory only."""
    plain = regressor().fit(regression_tasks())
    tasks = TaskCollection(regression_tasks(), window=6)
    assert regressor().fit(tasks).loss_curve_ == plain.loss_curve_


@pytest.mark.parametrize("params", [{}, {"pooled_estimator": Ridge()}])
def test_fit_with_a_window_goes_on_from_a_checkpoint(tmp_path, params):
    """The window is drawn again by its number."""
    tasks = TaskCollection(Lazy(40), window=8)
    whole = regressor(**params).fit(tasks)
    model = regressor(checkpoint=Checkpoint(tmp_path, seconds=0), **params)
    with pytest.raises(MemoryError):
        model.fit(TaskCollection(Lazy(40, limit=60), window=8))
    assert len(list(tmp_path.iterdir())) == 1
    assert model.fit(tasks).loss_curve_ == whole.loss_curve_


def test_partial_fit_with_a_window_takes_more_steps():
    """It takes all forms that fit takes."""
    tasks = TaskCollection(Lazy(40), window=8)
    model = regressor().fit(tasks)
    assert len(model.partial_fit(tasks).loss_curve_) == 12


def test_fit_with_a_window_and_local_labels_works():
    """Windows may have tasks of other classes."""
    tasks = class_tasks(20)
    renamed = [(X, [f"{i}{label}" for label in y]) for i, (X, y) in enumerate(tasks)]
    model = ProtoNetClassifier(max_iter=12, label_mode="task", embedding="network")
    model.set_params(hidden_layer_sizes=(4,), meta_batch_size=2)
    assert model.fit(TaskCollection(renamed, window=4)).n_tasks_ == 20


@pytest.mark.parametrize("window", [0, 2.5, True, "all"])
def test_window_when_it_is_no_number_of_tasks_is_an_error(window):
    """It would show in the middle of a long fit."""
    with pytest.raises(ValueError, match="window as a number of tasks"):
        TaskCollection([], window=window)


# ---------------------------------------------------------------- stacking


def test_stack_when_it_takes_many_blocks_is_the_same_table(monkeypatch):
    """How many tasks are put together at a time must not show."""
    whole = regression_tasks(20).to_flat()
    frames = TaskCollection([(pd.DataFrame(X), y) for X, y in regression_tasks(20)])
    monkeypatch.setattr(stack_module, "BLOCK_ENTRIES", 50)
    for part, expected in zip(regression_tasks(20).to_flat(), whole, strict=True):
        np.testing.assert_array_equal(part, expected)
    X, *_ = frames.to_flat()
    pd.testing.assert_frame_equal(X, pd.DataFrame(whole[0]))


def test_stack_does_not_keep_lazy_tasks(monkeypatch):
    """Otherwise all rows are in memory twice."""
    monkeypatch.setattr(stack_module, "BLOCK_ENTRIES", 60)  # five tasks
    tasks = Lazy(50)
    TaskCollection(tasks).to_flat()
    assert len(tasks.made) == 50 and max(tasks.alive) <= 6


def test_check_when_rows_are_in_order_makes_no_copy():
    """The rows of a collection are in order; a copy would double the memory."""
    X, y, ids = regression_tasks().to_flat()
    rows = check_tasks(Ridge(), X, y, ids, y_numeric=True)
    assert np.shares_memory(rows.X, X)


# ---------------------------------------------------------------- Parquet


@pytest.fixture
def frame():
    """Return a table whose tasks are in several places."""
    pytest.importorskip("pyarrow")
    X, y, ids = regression_tasks().to_flat()
    frame = pd.DataFrame(X, columns=["a", "b"])
    return frame.assign(task=ids, y=y, label=np.where(y > 0, "high", "low"))


def test_parquet_holds_the_tasks_of_the_frame(frame, tmp_path):
    """Whatever the row groups, and whether a file is sorted."""
    shuffled = frame.sample(frac=1, random_state=0)
    for name, table, size in (("sorted", frame, 7), ("mixed", shuffled, 1000)):
        table.to_parquet(tmp_path / f"{name}.pq", row_group_size=size, index=False)
        tasks = TaskCollection.from_parquet(
            tmp_path / f"{name}.pq", task="task", target="y"
        )
        expected = TaskCollection.from_frame(table, task="task", target="y")
        assert tasks.names == expected.names
        for task, other in zip(tasks, expected, strict=True):
            np.testing.assert_array_equal(task.X, other.X)
            np.testing.assert_array_equal(task.y, other.y)
            assert list(task.X.columns) == ["a", "b", "label"]


def test_parquet_in_several_files_is_one_collection(frame, tmp_path):
    """A task may go on in the next file."""
    frame[:30].to_parquet(tmp_path / "1.parquet")
    frame[30:].to_parquet(tmp_path / "2.parquet")
    given = {"task": "task", "target": "y"}
    together = TaskCollection.from_parquet(tmp_path, **given)
    files = [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    for tasks in (together, TaskCollection.from_parquet(files, **given)):
        assert [len(task) for task in tasks] == [len(t) for t in regression_tasks()]
        np.testing.assert_array_equal(tasks.to_flat()[0], frame[["a", "b", "label"]])


def test_parquet_trains_in_windows_and_pickles_without_rows(frame, tmp_path):
    """The way through which tables larger than memory are learned from."""
    numbers = frame.drop(columns="label")
    numbers.to_parquet(tmp_path / "t.parquet", row_group_size=10)
    tasks = TaskCollection.from_parquet(tmp_path, task="task", target="y", window=2)
    model = regressor().fit(tasks)
    assert model.n_tasks_ == 6 and list(model.feature_names_in_) == ["a", "b"]
    before = len(pickle.dumps(tasks))
    tasks[0]
    assert len(pickle.dumps(tasks)) == before
    again = pickle.loads(pickle.dumps(tasks))
    np.testing.assert_array_equal(again[3].X, tasks[3].X)


def test_parquet_with_categories_as_ids_has_their_values_as_names(frame, tmp_path):
    """pandas writes them as a dictionary."""
    frame["task"] = frame["task"].astype("category")
    frame.to_parquet(tmp_path / "t.parquet")
    tasks = TaskCollection.from_parquet(tmp_path, task="task", target="label")
    assert tasks.names == [f"t{i}" for i in range(6)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "no"}, r"task column 'no' is not in '.*t.parquet'.* \['a', 'b'"),
        ({"target": "no"}, "target column 'no' is not in"),
        ({"path": "missing.parquet"}, "got 'missing.parquet', where there is none"),
        ({"path": []}, "where there is none"),
    ],
)
def test_parquet_without_what_was_named_is_an_error(frame, tmp_path, given, message):
    """The message says what there is."""
    frame.to_parquet(tmp_path / "t.parquet")
    given = {"path": tmp_path, "task": "task", "target": "y"} | given
    with pytest.raises(ValueError, match=message):
        TaskCollection.from_parquet(given.pop("path"), **given)


def test_parquet_files_of_other_columns_are_an_error(frame, tmp_path):
    """Found before the first row is read, not after an hour."""
    frame.to_parquet(tmp_path / "1.parquet")
    frame.drop(columns="a").to_parquet(tmp_path / "2.parquet")
    with pytest.raises(ValueError, match=r"Expected the columns of '.*1.parquet'"):
        TaskCollection.from_parquet(tmp_path, task="task", target="y")


def test_parquet_with_a_row_without_id_is_an_error(frame, tmp_path):
    """It belongs to no task."""
    frame.loc[3, "task"] = None
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="an id in each row .* none in 1 rows"):
        TaskCollection.from_parquet(tmp_path, task="task", target="y")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    """It is an optional extra."""
    (tmp_path / "t.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"'sklearn-meta\[parquet\]'"):
        TaskCollection.from_parquet(tmp_path, task="task", target="y")
