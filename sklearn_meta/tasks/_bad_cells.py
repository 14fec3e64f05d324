"""What scikit-learn does not take of a table or of a target, and where that is."""

import reprlib
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from sklearn_meta.tasks._ids import as_id_array, is_missing

# how the errors of a conversion to numbers begin, or what they say
_NO_NUMBER = ("could not convert", "float() argument", "could not be promoted")
_FILL = (
    "Fill them in a pipeline, with SimpleImputer or in a ColumnTransformer, or drop "
    "the rows."
)
_DROP = "Drop or correct these rows."
_ENCODE = (
    "Encode texts in a pipeline, in a ColumnTransformer with "
    "OneHotEncoder(sparse_output=False), or drop the column."
)
DENSE_MESSAGE = (
    "Sparse data was passed for X, but dense data is required. Use X.toarray(), and in "
    "a pipeline OneHotEncoder(sparse_output=False) or "
    "ColumnTransformer(sparse_threshold=0)."
)
_CONVERT = (
    "Turn it into numbers first (a date into the days since a start, say), or drop the "
    "column."
)


def check_table(estimator: Any, X: Any, tasks: Any = None) -> np.ndarray:
    """Return rows as float64, checked by scikit-learn for a fitted estimator.

    Parameters
    ----------
    estimator : estimator
        Its features are compared.
    X : array-like of shape (n_samples, n_features)
        Rows.
    tasks : array-like of shape (n_samples,), default=None
        The task of each row, for messages.

    Returns
    -------
    rows : ndarray of shape (n_samples, n_features)
        The rows.

    Raises
    ------
    ValueError, TypeError
        If the rows are not what was expected; the message names the column and the
        task of what is no finite number.
    """
    try:
        # scikit-learn's sum of inf and -inf would warn before its own error is raised
        with np.errstate(invalid="ignore"):
            return validate_data(estimator, X, reset=False, dtype=np.float64)
    except (TypeError, ValueError) as error:
        clearer = located_error(error, X, tasks=tasks)
        if clearer is error:
            raise
        raise clearer from None


def located_error(
    error: Exception, X: Any, y: Any = None, tasks: Any = None
) -> Exception:
    """Return an error that says where the bad cell is; the same one if none is found.

    Parameters
    ----------
    error : TypeError or ValueError
        What scikit-learn said of X of shape (n_samples, n_features) or y of shape
        (n_samples,).
    X : array-like of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,), default=None
        Targets.
    tasks : array-like of shape (n_samples,), default=None
        The task of each row.
    """
    text = str(error)
    if "dense data is required" in text:
        return TypeError(DENSE_MESSAGE)
    if text.startswith("Input y contains"):
        bad = _is_missing if "NaN" in text else _is_infinite
        place = _first_task(bad(np.asarray(y)), tasks)
        return ValueError(f"{place}{text}") if place else error
    if text.startswith("Input X contains"):
        return _located_number(error, X, tasks)
    if any(words in text for words in _NO_NUMBER):
        return _located_text(error, X, tasks)
    return error


def _located_number(error: Exception, X: Any, tasks: Any) -> Exception:
    """Return the error of a NaN or an infinity with columns, counts and a task."""
    missing = "contains NaN" in str(error)
    find = _is_missing if missing else _is_infinite
    found = {name: bad for name, column in _columns(X) if (bad := find(column)).any()}
    if not found:
        return error
    place = _first_task(np.any(list(found.values()), axis=0), tasks)
    counts = [f"{bad.sum()} in column {name!r}" for name, bad in found.items()]
    more = f" and more in {len(counts) - 3} columns" if len(counts) > 3 else ""
    what, remedy = ("NaN", _FILL) if missing else ("infinity", _DROP)
    return ValueError(
        f"{place}Input X contains {what}: {', '.join(counts[:3])}{more}. {remedy}"
    )


def _located_text(error: Exception, X: Any, tasks: Any) -> Exception:
    """Return the error of a cell that is no number with its column and its task."""
    may_be_dates = "could not convert" not in str(error)
    for name, column in _columns(X):
        if may_be_dates and column.dtype.kind in "mM":
            return TypeError(f"Input X has dates in column {name!r}. {_CONVERT}")
        cells = column.tolist() if column.dtype.kind in "OSU" else []
        for row, cell in enumerate(cells):
            reason = _reason_against(cell)
            if reason and is_missing(cell):  # pandas' NA among objects
                return _located_number(ValueError("Input X contains NaN"), X, tasks)
            if reason:
                place = _first_task(np.arange(len(cells)) == row, tasks)
                remedy = _ENCODE if isinstance(cell, str) else _CONVERT
                kind = ValueError if isinstance(error, ValueError) else TypeError
                return kind(f"{place}{reason} in column {name!r}. {remedy}")
    return error


def _reason_against(cell: Any) -> str:
    """Return why a cell is no number, in Python's words; nothing if it is one."""
    try:
        float(cell)
    except (TypeError, ValueError) as error:
        if isinstance(cell, str):  # which may be long
            return f"could not convert string to float: {reprlib.repr(cell)}"
        return str(error)
    return ""


def _first_task(bad: np.ndarray, tasks: Any) -> str:
    """Return how a message begins that is about the task of the first bad row."""
    ids = None if tasks is None else as_id_array(tasks)
    if ids is None or ids.shape != bad.shape or not bad.any():
        return ""
    return f"In task {ids.tolist()[np.argmax(bad)]!r}: "


def _is_missing(column: np.ndarray) -> np.ndarray:
    """Return which entries of a column are NaN or None."""
    if column.dtype.kind == "O":
        return np.array([is_missing(cell) for cell in column], bool)
    if column.dtype.kind in "fc":
        return np.isnan(column)
    return np.zeros(column.shape, bool)


def _is_infinite(column: np.ndarray) -> np.ndarray:
    """Return which entries of a column are infinite as a 64 bit number."""
    if column.dtype.kind == "O":
        return np.array([isinstance(cell, float) and np.isinf(cell) for cell in column])
    if column.dtype.kind != "f":
        return np.zeros(column.shape, bool)
    with np.errstate(over="ignore"):
        return np.isinf(column.astype(np.float64))


def _columns(X: Any) -> Iterator[tuple[Hashable, np.ndarray]]:
    """Yield the name, or the number, of each column of a table, and its cells."""
    if hasattr(X, "iloc") and X.ndim == 2:
        for j, name in enumerate(X.columns):
            yield name, np.asarray(X.iloc[:, j])
        return
    X = np.asarray(X)
    if X.ndim == 2:
        yield from enumerate(X.T)
