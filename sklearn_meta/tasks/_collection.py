"""Collections of tasks."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.validation import _num_samples

from sklearn_meta.tasks._forms import EMPTY_MESSAGE, check_form, check_not_empty
from sklearn_meta.tasks._ids import as_id_array, check_same_length, group_rows
from sklearn_meta.tasks._parquet import ParquetTasks
from sklearn_meta.tasks._plain import plain_tasks
from sklearn_meta.tasks._stack import TableStack
from sklearn_meta.tasks._task import Task, as_task, check_task, is_task

NO_TASKS_MESSAGE = (
    "{caller} got rows without task ids. Expected a TaskCollection, a sequence of "
    "(X, y) tasks, or rows with tasks=ids. If you did pass tasks=ids to a "
    "scikit-learn tool, turn on metadata routing so that it is handed on: "
    "sklearn.set_config(enable_metadata_routing=True)."
)


class TaskCollection(Sequence):
    """A sequence of tasks; scikit-learn sees one sample per task.

    ``GridSearchCV``, ``cross_validate`` and ``learning_curve`` split a collection
    by task with nothing else set. Any sequence is accepted and kept as it is: its
    items are read when they are needed, so a sequence that loads a task from disk at
    each access stays lazy.

    Parameters
    ----------
    tasks : sequence of Task or of (X, y), or dict of these
        The tasks. An object with ``__len__`` and ``__getitem__`` is enough. The keys of
        a dict are the names.
    names : sequence of hashable, default=None
        One name per task. By default a task's own name, or its position.
    window : int, default=None
        Tasks that are in memory at a time while an outer loop trains, for collections
        larger than memory; None is all. Scales and classes are then learned from the
        first window.

    Raises
    ------
    TypeError
        If ``tasks`` is a generator, say, which can be read only once.
    ValueError
        If the number of names is not the number of tasks, or the window is none.

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

    def __init__(
        self, tasks: Any, names: Any = None, window: int | None = None
    ) -> None:
        if isinstance(tasks, Mapping) and is_task_sequence(tasks):
            names = list(tasks) if names is None else names
            tasks = list(tasks.values())
        check_form(tasks)
        self._tasks = tasks
        self.window = _check_window(window)
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

        Raises
        ------
        ValueError
            If there are no rows, or not as many targets and ids as rows.
        """
        X = (
            X
            if hasattr(X, "iloc")
            else check_array(X, dtype=None, ensure_all_finite=False)
        )
        n_rows = _num_samples(X)
        if not n_rows:  # of an array, scikit-learn has said so
            raise ValueError(
                f"The {type(X).__name__} has no rows: at least one task is needed."
            )
        codes, names = group_rows(tasks, n_rows)
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
            If ``frame`` is no DataFrame of pandas.
        ValueError
            If a column is not there, or the frame has no rows.
        """
        if not hasattr(frame, "iloc") or not hasattr(frame, "columns"):
            can_convert = hasattr(frame, "to_pandas")
            remedy = "its to_pandas()" if can_convert else "from_arrays for arrays"
            raise TypeError(
                f"Expected a DataFrame of pandas, got {type(frame).__name__}. Use "
                f"{remedy}."
            )
        for role, column in (("task", task), ("target", target)):
            if column not in frame.columns:
                raise ValueError(
                    f"The {role} column {column!r} is not in the frame. "
                    f"Its columns are {list(frame.columns)}."
                )
        X = frame.drop(columns=[task, target])
        return cls.from_arrays(X, frame[target], frame[task].to_numpy())

    @classmethod
    def from_parquet(
        cls, path: Any, *, task: str, target: str, window: int | None = None
    ) -> "TaskCollection":
        """Read tasks from Parquet files when they are needed.

        Only the task column is read at first. A task is read with its row group, and
        the last row group is kept: files that are sorted by task, in row groups of a
        few thousand rows, are read fast and in little memory.

        Parameters
        ----------
        path : str, path-like or list of them
            Files, or directories of files that end in ".parquet".
        task : str
            Name of the column with the task id; it does not become a feature.
        target : str
            Name of the column with the target.
        window : int, default=None
            Tasks that are in memory at a time while an outer loop trains; None is all.

        Returns
        -------
        collection : TaskCollection
            Its names are the values of the task column.

        Raises
        ------
        ImportError
            If pyarrow or pandas is not installed (``pip install
            'sklearn-meta[parquet]'``).
        ValueError
            If there is no such file or column, or a row without an id.
        """
        tasks = ParquetTasks(path, task, target)
        return cls(tasks, tasks.names, window)

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
            raise ValueError(EMPTY_MESSAGE)
        plain = None if self._names is not None else plain_tasks(self._tasks)
        if plain is not None:
            tables, targets = plain
            sizes = [len(table) for table in tables]
            codes = np.repeat(np.arange(len(self)), sizes)
            return np.concatenate(tables), np.concatenate(targets), codes
        names, sizes = [], []
        X, y = TableStack(), TableStack()
        for task in map(check_task, self):
            names.append(task.name)
            sizes.append(len(task.X))
            X.add(task.X, task.name)
            y.add(np.asarray(task.y), task.name)
        _check_distinct(names)
        return X.merge(), y.merge(), np.repeat(as_id_array(names), sizes)

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self._tasks)

    def __getitem__(self, index: Any) -> Any:
        """Return one task for an int, a collection for a slice or an array."""
        if isinstance(index, (int, np.integer)):
            position = range(len(self))[index]
            given = None if self._names is None else self._names[position]
            return as_task(self._tasks[position], given, position)
        chosen = np.arange(len(self))[index]
        # names that were not given are left in the tasks, so that none is read here
        names = None if self._names is None else [self._names[i] for i in chosen]
        return TaskCollection(_Selection(self, chosen), names, self.window)

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
    """Return whether X is a collection, or any other sequence or a dict of tasks."""
    if isinstance(X, TaskCollection):
        return True
    # a sparse array is a dict too, and has a shape
    if isinstance(X, Mapping) and not hasattr(X, "shape"):
        return len(X) > 0 and is_task(next(iter(X.values())))
    if any(hasattr(X, name) for name in ("shape", "iloc", "dtype", "keys")):
        return False
    if not hasattr(X, "__getitem__") or not hasattr(X, "__len__") or not len(X):
        return False
    return is_task(X[0])


def as_task_collection(
    X: Any, y: Any = None, tasks: Any = None, *, caller: str
) -> TaskCollection:
    """Return a sequence of tasks or flat rows with ids as a collection.

    Parameters
    ----------
    X : TaskCollection, sequence of (X, y) or array-like of shape (n_rows, n_features)
        Tasks, or their rows.
    y : array-like of shape (n_rows,), default=None
        Targets of flat rows.
    tasks : array-like of shape (n_rows,), default=None
        The task of each flat row.
    caller : str
        The method that asks.

    Raises
    ------
    ValueError
        If there is no task, or there are neither tasks nor ids; the message says how
        to pass them to ``caller``.
    TypeError
        If X is several tables in a form that is not taken.
    """
    check_not_empty(X, y)
    if isinstance(X, TaskCollection):
        return X
    if is_task_sequence(X):
        return TaskCollection(X)
    if tasks is None or y is None:
        check_form(X, y)
        raise ValueError(NO_TASKS_MESSAGE.format(caller=caller))
    return TaskCollection.from_arrays(X, y, tasks)


def _check_window(window: Any) -> int | None:
    """Return the number of tasks in memory at a time."""
    if window is None:
        return None
    is_int = isinstance(window, (int, np.integer)) and not isinstance(window, bool)
    if is_int and window >= 1:
        return int(window)
    raise ValueError(
        f"Expected window as a number of tasks of at least 1, or None, got {window!r}."
    )


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
