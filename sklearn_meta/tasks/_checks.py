"""Checking any form of input once, and bringing it into one."""

from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from sklearn.utils.validation import assert_all_finite, validate_data

from sklearn_meta.exceptions import FewTasksWarning, warn_user
from sklearn_meta.tasks._bad_cells import located_error
from sklearn_meta.tasks._collection import (
    TaskCollection,
    as_task_collection,
    is_task_sequence,
)
from sklearn_meta.tasks._forms import check_form, check_not_empty
from sklearn_meta.tasks._ids import as_id_array, group_rows, is_missing
from sklearn_meta.tasks._plain import LARGEST, plain_table, plain_target

# tasks that a warning names
MOST_NAMES = 5


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

    def with_columns(self, columns: np.ndarray) -> "TaskRows":
        """Return the rows with more columns (n_rows, n_columns) at their end."""
        return self._replace(X=np.column_stack([self.X, columns]))

    def name_of(self, task: SupportsIndex) -> str:
        """Return how a message calls a task."""
        return "the table" if self.names is None else f"task {self.names[task]!r}"

    def place_of(self, row: SupportsIndex) -> str:
        """Return how a message calls the task of a row."""
        return self.name_of(self.codes[row])


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
        Fewest rows of a task. Tasks with fewer are left out with a FewTasksWarning.

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
    collection = None
    if is_task_sequence(X):
        if y is not None or tasks is not None:
            raise ValueError(
                "A sequence of tasks holds its own targets and ids: expected "
                "y=None and tasks=None with it, got one of them."
            )
        collection = as_task_collection(X, caller="fit")
        X, y, tasks = collection.to_flat()
    else:
        check_not_empty(X, y)
        check_form(X, y)
    X_checked, y_checked = _check_rows(estimator, X, y, tasks, reset, y_numeric)
    if tasks is None:
        sizes, names = np.array([len(X_checked)]), None
    else:
        codes, names = group_rows(tasks, len(X_checked))
        sizes = np.bincount(codes)
        if (codes[1:] < codes[:-1]).any():  # else a copy of all rows is saved
            order = np.argsort(codes, kind="stable")
            X_checked, y_checked = X_checked[order], y_checked[order]
    rows = TaskRows(X_checked, y_checked, sizes, names)
    without_rows = [] if collection is None else _without_rows(collection, names)
    return _leave_out_small(rows, min_rows, without_rows)


def flatten_tasks(collection: TaskCollection) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return all rows as one table, and warn of tasks that have none.

    Parameters
    ----------
    collection : TaskCollection
        The tasks.

    Returns
    -------
    X : ndarray or DataFrame of shape (n_samples, n_features)
        The rows, as `TaskCollection.to_flat` returns them.
    y : ndarray of shape (n_samples,)
        Targets.
    tasks : ndarray of shape (n_samples,)
        The name of each row's task.
    """
    X, y, tasks = collection.to_flat()
    _, with_rows = group_rows(tasks, len(tasks))
    missing = _without_rows(collection, with_rows)
    if missing:
        _warn_of_left_out(missing, len(collection), min_rows=1)
    return X, y, tasks


def check_magnitude(name: str, values: np.ndarray, tasks: Any = None) -> None:
    """Raise if a number is so large that its square would overflow.

    The message names the task of the first such row where there are ``tasks``.
    """
    # as nearly all data passes, without a copy of it; as floats, since the bound itself
    # overflows in single precision
    if max(float(values.max(initial=0)), -float(values.min(initial=0))) <= LARGEST:
        return
    rows = values.reshape(len(values), -1)
    too_large = np.flatnonzero((np.abs(rows) > LARGEST).any(1))
    if len(too_large):
        first = too_large[0]
        where = (
            "" if tasks is None else f" of task {as_id_array(tasks).tolist()[first]!r}"
        )
        raise ValueError(
            f"Expected numbers up to {LARGEST:g} in {name}, got "
            f"{np.abs(rows[first]).max():g} in row {first}{where}. Scale the data, or "
            "take the logarithm."
        )


def _check_rows(
    estimator: Any, X: Any, y: Any, tasks: Any, reset: bool, y_numeric: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Check flat rows, by scikit-learn where a look does not do."""
    if not reset and (X_plain := plain_table(estimator, X)) is not None:
        y_plain = plain_target(y, len(X_plain), numeric=y_numeric)
        if y_plain is not None:
            return X_plain, y_plain
    if y_numeric:
        _check_numeric(y)
    try:
        # scikit-learn's sum of inf and -inf would warn before its own error is raised
        with np.errstate(invalid="ignore"):
            X_checked, y_checked = validate_data(
                estimator, X, y, reset=reset, dtype=np.float64, y_numeric=y_numeric
            )
        if y_numeric:  # None among objects has become nan, and False is 0
            if y_checked.dtype.kind in "bf":  # sums in lower precision would be coarse
                y_checked = y_checked.astype(np.float64, copy=False)
            assert_all_finite(y_checked, input_name="y")
        elif y_checked.dtype.kind == "O":
            _check_no_label_is_missing(y_checked)
    except (TypeError, ValueError) as error:
        clearer = located_error(error, X, y, tasks)
        if clearer is error:
            raise
        raise clearer from None
    check_magnitude("X", X_checked, tasks)
    if y_numeric:
        check_magnitude("y", y_checked, tasks)
    return X_checked, y_checked


def _check_no_label_is_missing(y: np.ndarray) -> None:
    """Raise if a label is None, which cannot be sorted among others."""
    missing = [row for row, label in enumerate(y.tolist()) if is_missing(label)]
    if missing:
        raise ValueError(
            f"Input y contains None or NaN where a label belongs, in row {missing[0]}. "
            "Leave out rows without a label."
        )


def _check_numeric(y: Any) -> None:
    """Raise if a target that must be a number is a text."""
    y = np.asarray(y)
    if y.dtype.kind in "US":
        raise ValueError(
            f"Expected a numeric target, got labels such as {y.tolist()[0]!r}. Use a "
            "classifier for labels, or convert the target to numbers."
        )


def _without_rows(collection: TaskCollection, with_rows: list | None) -> list:
    """Return the names of the tasks that are not among those that have rows."""
    if with_rows is None or len(with_rows) == len(collection):
        return []
    known = set(with_rows)
    return [name for name in collection.names if name not in known]


def _leave_out_small(rows: TaskRows, min_rows: int, without_rows: list) -> TaskRows:
    """Return the tasks that have enough rows; warn of others, raise if all are."""
    enough = rows.sizes >= min_rows
    if enough.all() and not without_rows:
        return rows
    if rows.names is None or not enough.any():
        where = "The table" if rows.names is None else f"Task {rows.names[0]!r}"
        more = f" ({len(rows.sizes)} such tasks)" if len(rows.sizes) > 1 else ""
        raise ValueError(
            f"{where} has n_samples = {rows.sizes[0]}{more}; at least {min_rows} rows "
            "are needed, one to learn from and one to score on. Add rows."
        )
    small = [rows.names[task] for task in (~enough).nonzero()[0]] + without_rows
    _warn_of_left_out(small, len(enough) + len(without_rows), min_rows)
    return rows.select(enough)


def _warn_of_left_out(names: list, n_tasks: int, min_rows: int) -> None:
    """Warn that tasks with too few rows are left out."""
    named = ", ".join(map(repr, names[:MOST_NAMES]))
    more = ", ..." if len(names) > MOST_NAMES else ""
    too_few, why = "no rows", ""
    if min_rows > 1:
        too_few = f"fewer than {min_rows} rows"
        why = ": a task needs one to learn from and one to score on"
    warn_user(
        f"{len(names)} of {n_tasks} tasks have {too_few} and are left out, "
        f"{named}{more}{why}.",
        FewTasksWarning,
    )
