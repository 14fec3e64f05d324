"""A quick look that spares plain arrays the checks of scikit-learn.

Those take longer than adapting to a small task does. What is not plain here may still
be fine: it goes through scikit-learn, which also has the words for what is not.
"""

from typing import Any

import numpy as np

# sums of squares of so many rows as fit into memory stay finite below
LARGEST = 1e120


def plain_table(estimator: Any, X: Any) -> np.ndarray | None:
    """Return rows as float64, if they are a plain array that a fitted estimator takes.

    Parameters
    ----------
    estimator : estimator
        Its ``n_features_in_`` is compared.
    X : array-like of shape (n_samples, n_features)
        Rows; returned as they are if they are float64 already.

    Returns
    -------
    rows : ndarray of shape (n_samples, n_features) or None
        None if X may need more than a look, as lists, frames and arrays with numbers
        that are missing or too large do.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from sklearn_meta.tasks import plain_table
    >>> estimator = BaseEstimator()
    >>> estimator.n_features_in_ = 2
    >>> plain_table(estimator, np.array([[1, 2]]))
    array([[1., 2.]])
    >>> plain_table(estimator, [[1, 2]]) is None
    True
    """
    # type(), not isinstance(): a masked array or a matrix is not plain
    if type(X) is not np.ndarray or X.ndim != 2 or X.dtype.kind not in "fiu":
        return None
    named = hasattr(estimator, "feature_names_in_")
    if named or not len(X) or X.shape[1] != getattr(estimator, "n_features_in_", 0):
        return None
    return X.astype(np.float64, copy=False) if _is_small(X) else None


def plain_target(y: Any, n_rows: int, *, numeric: bool) -> np.ndarray | None:
    """Return targets if they are a plain array, one for each row.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Targets.
    n_rows : int
        How many there must be.
    numeric : bool
        Whether they must be numbers; else they must be labels.

    Returns
    -------
    y : ndarray of shape (n_samples,) or None
        The same array, or as float64 if its numbers are of lower precision; None if it
        may need more than a look.
    """
    if type(y) is not np.ndarray or y.ndim != 1 or len(y) != n_rows:
        return None
    if not numeric:
        return y if y.dtype.kind in "biuU" else None
    if y.dtype.kind not in "fiu" or not _is_small(y):
        return None
    return y.astype(np.float64, copy=False) if y.dtype.kind == "f" else y


def plain_labels(y: np.ndarray) -> bool:
    """Return whether targets, of any shape, are labels by their type alone.

    scikit-learn, asked about labels, warns where there are many for few rows, as a
    support of one row per class has them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.tasks import plain_labels
    >>> plain_labels(np.array(["a", "b"], object)), plain_labels(np.array([0.0, 1.0]))
    (True, False)
    """
    if y.dtype.kind == "O":
        return y.ndim == 1 and all(isinstance(label, str) for label in y.tolist())
    return y.dtype.kind in "biuU" and y.ndim == 1


def plain_tasks(tasks: Any) -> tuple[list, list] | None:
    """Return the tables and the targets of tasks, if all are plain pairs of arrays.

    Parameters
    ----------
    tasks : sequence
        Tasks in any form.

    Returns
    -------
    parts : (list of ndarray, list of ndarray) or None
        Tables of as many columns and their targets, as they are; None if a task needs
        more than a look: it has a name, say, or is read when it is asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.tasks._plain import plain_tasks
    >>> X, y = np.zeros((3, 2)), np.zeros(3)
    >>> [len(part) for part in plain_tasks([(X, y), (X, y)])]
    [2, 2]
    >>> plain_tasks([(X, y), ([[0.0, 1.0]], [1.0])]) is None
    True
    """
    if type(tasks) is not list or not all(_is_plain_pair(task) for task in tasks):
        return None
    tables, targets = [X for X, _ in tasks], [y for _, y in tasks]
    alike = len({X.shape[1] for X in tables}) == 1
    same_kind = len({y.dtype.kind for y in targets}) == 1
    return (tables, targets) if alike and same_kind else None


def _is_plain_pair(task: Any) -> bool:
    """Return whether a task is a table of numbers and a target for each row."""
    if type(task) is not tuple or len(task) != 2:
        return False
    X, y = task
    if type(X) is not np.ndarray or type(y) is not np.ndarray:
        return False
    numbers = X.dtype.kind in "fiu" and y.dtype.kind in "biufU"
    return numbers and X.ndim == 2 and y.shape == X.shape[:1]


def _is_small(values: np.ndarray) -> bool:
    """Return whether all numbers are far from overflow, which NaN never is."""
    if values.dtype == np.float64 and values.flags.c_contiguous:
        flat = values.reshape(-1)
        if float(flat.dot(flat)) <= LARGEST**2:  # as of nearly all data, in one pass
            return True
    # as floats, since the bound itself overflows in half precision
    return float(values.max()) <= LARGEST and float(values.min()) >= -LARGEST
