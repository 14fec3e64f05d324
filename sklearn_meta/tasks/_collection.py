"""Tasks and collections of tasks."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.validation import _num_samples

from sklearn_meta.tasks._ids import as_id_array, check_same_length, group_rows

NO_TASKS_MESSAGE = (
    "{caller} got rows without task ids. Expected a TaskCollection, a sequence of "
    "(X, y) tasks, or rows with tasks=ids. If you did pass tasks=ids to a "
    "scikit-learn tool, turn on metadata routing so that it is handed on: "
    "sklearn.set_config(enable_metadata_routing=True)."
)


@dataclass(frozen=True, eq=False)
class Task:
    """One learning problem: the rows of one table and their targets.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The rows, an array or a DataFrame.
    y : array-like of shape (n_samples,)
        The target of each row.
    name : hashable, default=None
        What messages and results call this task. A collection names an unnamed
        task by its position.

    See Also
    --------
    TaskCollection : A sequence of tasks.

    Examples
    --------
    >>> from sklearn_meta.tasks import Task
    >>> task = Task([[0.0], [1.0]], [0.5, 1.5], name="machine 7")
    >>> X, y = task
    >>> len(task), y
    (2, [0.5, 1.5])
    """

    X: Any
    y: Any
    name: Hashable = None

    def __iter__(self) -> Iterator[Any]:
        """Unpack as ``X, y = task``."""
        return iter((self.X, self.y))

    def __len__(self) -> int:
        """Return the number of rows."""
        return _num_samples(self.X)


class TaskCollection(Sequence):
    """A sequence of tasks; scikit-learn sees one sample per task.

    ``GridSearchCV``, ``cross_validate`` and ``learning_curve`` split a collection
    by task with nothing else set. Any sequence is accepted and kept as it is: its
    items are read when they are needed, so a sequence that loads a task from disk at
    each access stays lazy.

    Parameters
    ----------
    tasks : sequence of Task or of (X, y)
        The tasks. An object with ``__len__`` and ``__getitem__`` is enough.
    names : sequence of hashable, default=None
        One name per task. By default a task's own name, or its position.

    Raises
    ------
    ValueError
        If the number of names is not the number of tasks.

    See Also
    --------
    few_shot_split : Split one task into support and query rows.

    Examples
    --------
    >>> from sklearn_meta.tasks import TaskCollection
    >>> tasks = TaskCollection([([[0.0]], [1.0]), ([[2.0], [3.0]], [4.0, 5.0])])
    >>> len(tasks), len(tasks[1]), tasks[1:].names
    (2, 2, [1])
    >>> X, y, ids = tasks.to_flat()
    >>> X.shape, ids.tolist()
    ((3, 1), [0, 1, 1])
    """

    def __init__(self, tasks: Any, names: Any = None) -> None:
        self._tasks = tasks
        self._names = None if names is None else list(names)
        if self._names is not None and len(self._names) != len(tasks):
            raise ValueError(
                f"Expected one name per task, got {len(self._names)} names for "
                f"{len(tasks)} tasks."
            )

    @classmethod
    def from_arrays(cls, X: Any, y: Any, tasks: Any) -> "TaskCollection":
        """Group flat rows by their task id, in order of first appearance.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of all tasks, an array or a DataFrame.
        y : array-like of shape (n_samples,)
            Targets.
        tasks : array-like of shape (n_samples,)
            The id of each row's task, any hashable.

        Returns
        -------
        collection : TaskCollection
            Its names are the ids.
        """
        X = (
            X
            if hasattr(X, "iloc")
            else check_array(X, dtype=None, ensure_all_finite=False)
        )
        codes, names = group_rows(tasks, _num_samples(X))
        rows = np.split(
            np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1]
        )
        return cls(_RowGroups(X, y, rows), names)

    @classmethod
    def from_frame(
        cls, frame: Any, *, task: Hashable, target: Hashable
    ) -> "TaskCollection":
        """Group the rows of a DataFrame by its task column.

        Parameters
        ----------
        frame : DataFrame of shape (n_samples, n_features + 2)
            Features, task id and target in one table.
        task : hashable
            Name of the column with the task id; it does not become a feature.
        target : hashable
            Name of the column with the target.

        Returns
        -------
        collection : TaskCollection
            Its names are the values of the task column.

        Raises
        ------
        TypeError
            If ``frame`` is no DataFrame.
        ValueError
            If a column is not there.
        """
        if not hasattr(frame, "columns"):
            raise TypeError(
                f"Expected a DataFrame, got {type(frame).__name__}. Use "
                "TaskCollection.from_arrays(X, y, tasks) for arrays."
            )
        for role, column in (("task", task), ("target", target)):
            if column not in frame.columns:
                raise ValueError(
                    f"The {role} column {column!r} is not in the frame. "
                    f"Its columns are {list(frame.columns)}."
                )
        X = frame.drop(columns=[task, target])
        return cls.from_arrays(X, frame[target], frame[task].to_numpy())

    @property
    def names(self) -> list:
        """The name of each task."""
        if self._names is None:
            return [task.name for task in self]
        return self._names

    def to_flat(self) -> tuple[Any, np.ndarray, np.ndarray]:
        """Return all rows as one table.

        Returns
        -------
        X : ndarray or DataFrame of shape (n_samples, n_features)
            The rows, a DataFrame if every task has one.
        y : ndarray of shape (n_samples,)
            Targets.
        tasks : ndarray of shape (n_samples,)
            The name of each row's task.

        Raises
        ------
        ValueError
            If there is no task, if two have the same name, or if the tasks do not
            have the same columns.
        """
        if not len(self):
            raise ValueError("The collection is empty: at least one task is needed.")
        tasks = [_check_table(task) for task in self]
        names = [task.name for task in tasks]
        _check_distinct(names)
        X = _stack_rows([task.X for task in tasks], names)
        y = np.concatenate([np.asarray(task.y) for task in tasks])
        return X, y, np.repeat(as_id_array(names), [len(task) for task in tasks])

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self._tasks)

    def __getitem__(self, index: Any) -> Any:
        """Return one task for an int, a collection for a slice or an array."""
        if isinstance(index, (int, np.integer)):
            position = range(len(self))[index]
            given = None if self._names is None else self._names[position]
            return _as_task(self._tasks[position], given, position)
        chosen = np.arange(len(self))[index]
        # names that were not given are left in the tasks, so that none is read here
        names = None if self._names is None else [self._names[i] for i in chosen]
        return TaskCollection(_Selection(self, chosen), names)

    def __repr__(self) -> str:
        """Say how many tasks there are."""
        return f"TaskCollection({len(self)} tasks)"


class _RowGroups(Sequence):
    """Tasks as row indices into one table; a task's rows are copied at access."""

    def __init__(self, X: Any, y: Any, rows: list[np.ndarray]) -> None:
        self._X, self._y, self._rows = X, np.asarray(y), rows
        check_same_length(_num_samples(X), y=self._y)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        rows = self._rows[index]
        return Task(_safe_indexing(self._X, rows), self._y[rows])


class _Selection(Sequence):
    """Some items of a sequence, in a given order, none of them read yet."""

    def __init__(self, items: Any, chosen: np.ndarray) -> None:
        self._items, self._chosen = items, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: Any) -> Any:
        return self._items[int(self._chosen[index])]


def is_task_sequence(X: Any) -> bool:
    """Return whether X is a collection or any other sequence of tasks."""
    if isinstance(X, TaskCollection):
        return True
    if any(hasattr(X, name) for name in ("shape", "iloc", "dtype", "keys")):
        return False
    if not hasattr(X, "__getitem__") or not hasattr(X, "__len__") or not len(X):
        return False
    first = X[0]
    if isinstance(first, Task):
        return True
    # a row of two numbers is no task: its first entry has no rows of its own
    return (
        isinstance(first, (tuple, list)) and len(first) == 2 and np.ndim(first[0]) == 2
    )


def as_task_collection(
    X: Any, y: Any = None, tasks: Any = None, *, caller: str
) -> TaskCollection:
    """Return a sequence of tasks or flat rows with ids as a collection.

    Raises
    ------
    ValueError
        If there are neither tasks nor ids; the message says how to pass them to
        ``caller``.
    """
    if isinstance(X, TaskCollection):
        return X
    if is_task_sequence(X):
        return TaskCollection(X)
    if tasks is None or y is None:
        raise ValueError(NO_TASKS_MESSAGE.format(caller=caller))
    return TaskCollection.from_arrays(X, y, tasks)


def _as_task(item: Any, given: Hashable, position: int) -> Task:
    """Return an item of a sequence as a Task that has a name."""
    if isinstance(item, Task):
        X, y, own = item.X, item.y, item.name
    elif isinstance(item, (tuple, list)) and len(item) == 2:
        (X, y), own = item, None
    else:
        raise TypeError(
            f"Expected a Task or a pair (X, y) at position {position}, got "
            f"{type(item).__name__}."
        )
    names = (name for name in (given, own) if name is not None)
    return Task(X, y, next(names, position))


def _check_table(task: Task) -> Task:
    """Check that X is a table and has as many rows as y."""
    X = task.X if hasattr(task.X, "iloc") else np.asarray(task.X)
    if np.ndim(X) != 2:
        raise ValueError(
            f"Expected a 2D array of rows in task {task.name!r}, got {np.ndim(X)}D."
        )
    if task.y is None or np.ndim(task.y) != 1 or len(task.y) != len(X):
        got = "none" if task.y is None else f"shape {np.shape(task.y)}"
        raise ValueError(
            f"Expected one target for each of the {len(X)} rows of task "
            f"{task.name!r}, got {got}."
        )
    return Task(X, task.y, task.name)


def _stack_rows(tables: list, names: list) -> Any:
    """Put tables with the same columns on top of each other."""
    frames = [hasattr(table, "iloc") for table in tables]
    if all(frames):
        import pandas as pd

        for table, name in zip(tables, names, strict=True):
            if list(table.columns) != list(tables[0].columns):
                raise ValueError(
                    f"Task {name!r} has the columns {list(table.columns)}, task "
                    f"{names[0]!r} has {list(tables[0].columns)}: give all tasks the "
                    "same columns in the same order."
                )
        return pd.concat(tables, ignore_index=True)
    arrays = [np.asarray(table) for table in tables]
    for array, name in zip(arrays, names, strict=True):
        if array.shape[1] != arrays[0].shape[1]:
            raise ValueError(
                f"Task {name!r} has {array.shape[1]} features, task {names[0]!r} has "
                f"{arrays[0].shape[1]}: all tasks need the same columns."
            )
    return np.concatenate(arrays)


def _check_distinct(names: list) -> None:
    """Raise if two tasks have one name: their rows would pass for one task's."""
    seen: set = set()
    for name in names:
        if name in seen:
            raise ValueError(
                f"Two tasks are named {name!r}. Give each its own name, or pass "
                "names=range(n_tasks) to TaskCollection to keep a task that is drawn "
                "twice."
            )
        seen.add(name)
