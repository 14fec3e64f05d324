"""Tasks, collections of tasks, and the one place where their input is checked."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import _safe_indexing, check_array, check_random_state
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _num_samples, validate_data

__all__ = ["Task", "TaskCollection", "check_tasks", "few_shot_split"]

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
        ValueError
            If a column is not there.
        """
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
        _check_same_length(_num_samples(X), y=self._y)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Task:
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


class TaskRows(NamedTuple):
    """Checked rows of all tasks, the rows of a task next to each other.

    ``names`` is None where the input was one plain table.
    """

    X: np.ndarray  # (n_rows, n_features), float64
    y: np.ndarray  # (n_rows,)
    sizes: np.ndarray  # (n_tasks,)
    names: list | None

    @property
    def codes(self) -> np.ndarray:
        """The position of each row's task, of shape (n_rows,)."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def select(self, keep: np.ndarray) -> "TaskRows":
        """Return the rows of the tasks where ``keep`` (n_tasks,) is True."""
        rows = keep[self.codes]
        names = (
            None if self.names is None else [self.names[i] for i in keep.nonzero()[0]]
        )
        return TaskRows(self.X[rows], self.y[rows], self.sizes[keep], names)

    def name_of(self, task: int) -> str:
        """Return how a message calls a task."""
        return "the table" if self.names is None else f"task {self.names[task]!r}"


def check_tasks(
    estimator: Any,
    X: Any,
    y: Any = None,
    tasks: Any = None,
    *,
    reset: bool = True,
    y_numeric: bool = False,
    min_rows: int = 1,
) -> TaskRows:
    """Check any of the three forms of input and bring it into one.

    Parameters
    ----------
    estimator : estimator
        Gets ``n_features_in_`` and ``feature_names_in_`` when ``reset``, else has
        them compared.
    X : TaskCollection, sequence of Task or (X, y), or array-like of shape \
(n_samples, n_features)
        The tasks, or flat rows.
    y : array-like of shape (n_samples,), default=None
        Targets of flat rows; None with a sequence of tasks.
    tasks : array-like of shape (n_samples,), default=None
        Task id of each flat row; None for a sequence of tasks or one plain table.
    reset : bool, default=True
        Whether the features are learned or compared.
    y_numeric : bool, default=False
        Whether the target must be a number.
    min_rows : int, default=1
        Fewest rows a task may have.

    Returns
    -------
    rows : TaskRows
        X as float64, rows of a task adjacent and in their given order.

    Raises
    ------
    ValueError
        If the features, the targets or the ids are not what was expected; the
        message names the task.

    Examples
    --------
    >>> from sklearn.base import BaseEstimator
    >>> from sklearn_meta.tasks import check_tasks
    >>> rows = check_tasks(BaseEstimator(), [[1], [2], [3]], [0, 1, 0], ["b", "a", "b"])
    >>> rows.names, rows.sizes.tolist(), rows.X.ravel().tolist()
    (['b', 'a'], [2, 1], [1.0, 3.0, 2.0])
    """
    if is_task_sequence(X):
        if y is not None or tasks is not None:
            raise ValueError(
                "A sequence of tasks holds its own targets and ids: expected "
                "y=None and tasks=None with it, got one of them."
            )
        X, y, tasks = as_task_collection(X, caller="fit").to_flat()
    X_checked, y_checked = _check_rows(estimator, X, y, tasks, reset, y_numeric)
    if tasks is None:
        sizes, names = np.array([len(X_checked)]), None
    else:
        codes, names = group_rows(tasks, len(X_checked))
        order, sizes = np.argsort(codes, kind="stable"), np.bincount(codes)
        X_checked, y_checked = X_checked[order], y_checked[order]
    _check_enough_rows(sizes, names, min_rows)
    return TaskRows(X_checked, y_checked, sizes, names)


def few_shot_split(
    X: Any,
    y: Any,
    *,
    n_shots: int = 5,
    n_queries: int | None = None,
    stratify: bool | None = None,
    order: str = "random",
    random_state: Any = None,
) -> tuple[Any, Any, Any, Any]:
    """Split the rows of one task into a support and a query set.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The rows of the task.
    y : array-like of shape (n_samples,)
        Their targets.
    n_shots : int, default=5
        Support rows: per class if ``stratify``, else in all. At least 1.
    n_queries : int, default=None
        Query rows, counted likewise; None takes all the rest.
    stratify : bool, default=None
        Whether rows are counted per class. None: yes for class labels, no for a
        numeric target.
    order : {"random", "first"}, default="random"
        "first" takes the first rows of the table as support, for a table that grows
        in time.
    random_state : int, RandomState instance or None, default=None
        Draws the rows where ``order="random"``.

    Returns
    -------
    X_support, X_query, y_support, y_query : array-like
        In the order and of the types of ``train_test_split``.

    Raises
    ------
    ValueError
        If the task has too few rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.tasks import few_shot_split
    >>> X, y = np.arange(8.0).reshape(8, 1), np.repeat(["a", "b"], 4)
    >>> Xs, Xq, ys, yq = few_shot_split(X, y, n_shots=1, random_state=0)
    >>> sorted(ys.tolist()), len(yq)
    (['a', 'b'], 6)
    """
    X = X if hasattr(X, "iloc") else np.asarray(X)
    y = y if hasattr(y, "iloc") else np.asarray(y)
    _check_same_length(_num_samples(X), y=y)
    if stratify is None:
        stratify = has_class_labels(y)
    support, query = support_query_indices(
        y,
        n_shots=n_shots,
        n_queries=n_queries,
        stratify=stratify,
        order=order,
        random_state=random_state,
    )
    return (
        _safe_indexing(X, support),
        _safe_indexing(X, query),
        _safe_indexing(y, support),
        _safe_indexing(y, query),
    )


def support_query_indices(
    y: Any,
    *,
    n_shots: int,
    n_queries: int | None = None,
    stratify: bool,
    order: str = "random",
    random_state: Any = None,
    name: Hashable = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the row numbers of a support and of a query set of one task.

    The parameters are those of :func:`few_shot_split`; ``name`` is the task's, for
    the error message.
    """
    if order not in ("random", "first"):
        raise ValueError(f"Expected order to be 'random' or 'first', got {order!r}.")
    y = np.asarray(y)
    rows = np.arange(len(y))
    if order == "random":
        rows = check_random_state(random_state).permutation(rows)
    cells = np.unique(y, return_inverse=True)[1] if stratify else np.zeros(len(y), int)
    support, query = [], []
    for cell in range(cells.max(initial=-1) + 1):
        own = rows[cells[rows] == cell]
        what = f"rows of class {y[own[0]]!r}" if stratify else "rows"
        _check_split_size(len(own), n_shots, n_queries, what, stratify, name)
        support.append(own[:n_shots])
        query.append(own[n_shots : None if n_queries is None else n_shots + n_queries])
    return np.sort(np.concatenate(support)), np.sort(np.concatenate(query))


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


def group_rows(tasks: Any, n_rows: int) -> tuple[np.ndarray, list]:
    """Return each row's task as a position, and the ids in order of appearance."""
    ids = as_id_array(tasks)
    _check_same_length(n_rows, tasks=ids)
    if ids.dtype == object:
        positions: dict = {}
        codes = np.array(
            [positions.setdefault(i, len(positions)) for i in ids.tolist()], int
        )
        names = list(positions)
    else:
        unique, first, codes = np.unique(ids, return_index=True, return_inverse=True)
        rank = np.argsort(first)
        names = unique[rank].tolist()
        codes = np.argsort(rank)[codes]
    if any(name is None or name != name for name in names):
        raise ValueError("tasks holds missing ids (None or NaN): give each row an id.")
    return codes, names


def as_id_array(tasks: Any) -> np.ndarray:
    """Return ids as a one-dimensional array; mixed or compound ones as objects."""
    if isinstance(tasks, np.ndarray) and tasks.ndim == 1:
        return tasks
    ids = tasks.tolist() if hasattr(tasks, "tolist") else list(tasks)
    kinds = {type(i) for i in ids}
    if len(kinds) == 1 and kinds <= {int, float, str, bool}:
        return np.array(ids)
    array = np.empty(len(ids), dtype=object)
    array[:] = ids
    return array


def has_class_labels(y: Any) -> bool:
    """Return whether a target holds class labels (and no continuous numbers)."""
    return type_of_target(y) in ("binary", "multiclass")


def _check_rows(
    estimator: Any, X: Any, y: Any, tasks: Any, reset: bool, y_numeric: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Check flat rows with scikit-learn and add the task to its message."""
    try:
        return validate_data(
            estimator, X, y, reset=reset, dtype=np.float64, y_numeric=y_numeric
        )
    except ValueError as error:
        culprit = None if tasks is None else _first_bad_task(X, y, tasks)
        if culprit is None:
            raise
        raise ValueError(f"In task {culprit!r}: {error}") from error


def _first_bad_task(X: Any, y: Any, tasks: Any) -> Hashable:
    """Return the first task with an entry that is no finite number, or None."""
    ids = as_id_array(tasks)
    for column in (*_columns(X), np.asarray(y)):
        if column.dtype.kind in "fc" and len(column) == len(ids):
            bad = np.flatnonzero(~np.isfinite(column))
            if len(bad):
                return ids.tolist()[bad[0]]
    return None


def _columns(X: Any) -> list[np.ndarray]:
    """Return the columns of a table that can be looked at as arrays."""
    if hasattr(X, "iloc"):
        return [np.asarray(X.iloc[:, j]) for j in range(X.shape[1])]
    X = np.asarray(X)
    return list(X.T) if X.ndim == 2 else []


def _check_enough_rows(sizes: np.ndarray, names: list | None, min_rows: int) -> None:
    """Raise if a task has fewer rows than are needed."""
    small = np.flatnonzero(sizes < min_rows)
    if not len(small):
        return
    where = "The table" if names is None else f"Task {names[small[0]]!r}"
    more = f" ({len(small)} such tasks)" if len(small) > 1 else ""
    raise ValueError(
        f"{where} has n_samples = {sizes[small[0]]}{more}; at least {min_rows} rows "
        "are needed, one to learn from and one to score on. Add rows or drop the task."
    )


def _check_split_size(
    n_rows: int,
    n_shots: int,
    n_queries: int | None,
    what: str,
    stratify: bool,
    name: Hashable,
) -> None:
    """Raise if there are too few rows for the support and at least one query."""
    needed = (
        n_shots + (0 if stratify else 1) if n_queries is None else n_shots + n_queries
    )
    if n_shots < 1:
        raise ValueError(f"Expected n_shots of at least 1, got {n_shots}.")
    if n_rows >= needed:
        return
    where = "The task" if name is None else f"Task {name!r}"
    remedy = " or pass stratify=False" if stratify else ""
    raise ValueError(
        f"{where} has {n_rows} {what}; {needed} are needed for n_shots={n_shots} and "
        f"n_queries={n_queries}. Lower n_shots{remedy}, or drop the task."
    )


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


def _check_same_length(n_rows: int, **arrays: Any) -> None:
    """Raise if a named array does not have one entry per row."""
    for name, array in arrays.items():
        if _num_samples(array) != n_rows:
            raise ValueError(
                f"Expected one entry of {name} for each of the {n_rows} rows, got "
                f"{_num_samples(array)}."
            )
