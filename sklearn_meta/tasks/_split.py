"""Splitting the rows of one task into support and query."""

from collections.abc import Hashable
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing, check_random_state, column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _num_samples

from sklearn_meta.tasks._ids import check_same_length
from sklearn_meta.tasks._plain import plain_labels


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
        Whether rows are drawn and counted per class. None: yes for class labels, no
        for a numeric target. Where labels are shared by all tasks, False draws rows as
        those of a new task will come.
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
    check_same_length(_num_samples(X), y=y)
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
    the error message. Both arrays of row numbers are of shape (n,).
    """
    if order not in ("random", "first"):
        raise ValueError(f"Expected order to be 'random' or 'first', got {order!r}.")
    y = np.asarray(y)
    rows = np.arange(len(y))
    if order == "random":
        rows = check_random_state(random_state).permutation(rows)
    cells = np.zeros(len(y), int)
    if stratify:
        cells = np.unique(column_or_1d(y), return_inverse=True)[1]
    support, query = [], []
    for cell in range(cells.max(initial=0) + 1):
        own = rows[cells[rows] == cell]
        # an empty table has no class that could be named
        has_class = stratify and len(own) > 0
        what = f"rows of class {y[own[:1]].tolist()[0]!r}" if has_class else "rows"
        _check_split_size(len(own), n_shots, n_queries, what, stratify, name)
        support.append(own[:n_shots])
        query.append(own[n_shots : None if n_queries is None else n_shots + n_queries])
    if n_queries is None and not any(map(len, query)):
        raise ValueError(
            f"{_call(name)} has {len(y)} rows, and n_shots={n_shots} of each class are "
            "all of them: no row is left to score on. Lower n_shots, or drop the task."
        )
    return np.sort(np.concatenate(support)), np.sort(np.concatenate(query))


def has_class_labels(y: Any) -> bool:
    """Return whether a target, of shape (n_rows,), holds labels and not numbers."""
    y = np.asarray(y)
    if len(y) and plain_labels(y):
        return True
    with np.errstate(invalid="ignore"):  # nan is no whole number, and an error then
        kind = type_of_target(y)
    return kind in ("binary", "multiclass")


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
    remedy = " or pass stratify=False" if stratify else ""
    raise ValueError(
        f"{_call(name)} has {n_rows} {what}; {needed} are needed for n_shots={n_shots} "
        f"and n_queries={n_queries}. Lower n_shots{remedy}, or drop the task."
    )


def _call(name: Hashable) -> str:
    """Return how a message calls a task."""
    return "The task" if name is None else f"Task {name!r}"
