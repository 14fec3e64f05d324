"""Task ids of any hashable type."""

from typing import Any

import numpy as np
from sklearn.utils._missing import is_pandas_na
from sklearn.utils.validation import _num_samples


def group_rows(tasks: Any, n_rows: int) -> tuple[np.ndarray, list]:
    """Return each row's task as a position, and the ids in order of appearance."""
    ids = as_id_array(tasks)
    check_same_length(n_rows, tasks=ids)
    if ids.dtype.kind in "iuU" and (ids[1:] >= ids[:-1]).all():
        # sorted, as ids often are: equal ones are neighbours already
        first = np.ones(len(ids), bool)
        np.not_equal(ids[1:], ids[:-1], out=first[1:])
        return np.cumsum(first) - 1, ids[first].tolist()
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
    if any(is_missing(name) for name in names):
        raise ValueError("tasks holds missing ids (None or NaN): give each row an id.")
    return codes, names


def as_id_array(tasks: Any) -> np.ndarray:
    """Return ids as a one-dimensional array; mixed or compound ones as objects."""
    if isinstance(tasks, np.ndarray) and tasks.ndim == 1:
        return tasks
    tasks = _single_column(tasks)
    ids = tasks.tolist() if hasattr(tasks, "tolist") else list(tasks)
    kinds = {type(i) for i in ids}
    if len(kinds) == 1 and kinds <= {int, float, str, bool}:
        return np.array(ids)
    array = np.empty(len(ids), dtype=object)
    array[:] = ids
    return array


def _single_column(tasks: Any) -> Any:
    """Return the ids of an array or a frame of one column; raise if there are more."""
    if getattr(tasks, "ndim", 1) < 2:
        return tasks
    if tasks.ndim > 2 or tasks.shape[1] != 1:
        raise ValueError(
            f"Expected tasks as one id for each row, got shape {tasks.shape}. Give one "
            "column, or make each id a tuple."
        )
    return tasks.iloc[:, 0] if hasattr(tasks, "iloc") else tasks[:, 0]


def is_missing(name: Any) -> bool:
    """Return whether an id is None, NaN, NaT or pandas' NA."""
    if type(name) in (int, str):  # nearly all are, and the question below is slow
        return False
    return name is None or is_pandas_na(name) or name != name


def check_same_length(n_rows: int, **arrays: Any) -> None:
    """Raise if a named array does not have one entry per row."""
    for name, array in arrays.items():
        if _num_samples(array) != n_rows:
            raise ValueError(
                f"Expected one entry of {name} for each of the {n_rows} rows, got "
                f"{_num_samples(array)}."
            )
