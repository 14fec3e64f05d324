"""One task: the rows of a table and their targets."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import _num_samples

from sklearn_meta.tasks._bad_cells import DENSE_MESSAGE


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


def is_task(item: Any) -> bool:
    """Return whether an item of a sequence is a task."""
    if isinstance(item, Task):
        return True
    # a row of two numbers is no task: its first entry has no rows of its own
    return isinstance(item, (tuple, list)) and len(item) == 2 and np.ndim(item[0]) == 2


def as_task(item: Any, given: Hashable, position: int) -> Task:
    """Return an item of a sequence as a task; its name is the first there is."""
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


def check_task(task: Task) -> Task:
    """Return a task with X as a frame or array; raise if that is no table with y."""
    if issparse(task.X):
        raise TypeError(f"In task {task.name!r}: {DENSE_MESSAGE}")
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
