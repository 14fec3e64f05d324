"""Task ids that travel as a column of X, where no other way is open."""

from typing import Any

import numpy as np


def separate_ids(X: Any, task_column: Any) -> tuple[Any, np.ndarray]:
    """Split a table into its features and the column with the task of each row.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features + 1)
        Features and ids; a DataFrame stays one.
    task_column : str or int
        Name of the column in a DataFrame, or its position, negative from the end.

    Returns
    -------
    features : array-like of shape (n_samples, n_features)
        The other columns.
    ids : ndarray of shape (n_samples,)
        The task of each row.

    Raises
    ------
    ValueError
        If there is no such column.
    """
    is_frame = hasattr(X, "iloc")
    table: Any = X if is_frame else np.asarray(X)
    if np.ndim(table) != 2:
        raise ValueError(
            f"Expected a 2D table with a column of task ids, got {np.ndim(table)}D."
        )
    names = table.columns.tolist() if is_frame else []
    position = _position(task_column, names, table.shape[1])
    if is_frame:
        others = [i for i in range(table.shape[1]) if i != position]
        return table.iloc[:, others], table.iloc[:, position].to_numpy()
    return np.delete(table, position, axis=1), table[:, position]


def _position(task_column: Any, names: list, n_columns: int) -> int:
    """Return the position of the column with the ids, from the left."""
    if task_column in names:
        return names.index(task_column)
    whole = isinstance(task_column, (int, np.integer))
    if whole and -n_columns <= task_column < n_columns:
        return int(task_column) % n_columns
    known = f"the columns {names}" if names else f"{n_columns} columns without names"
    raise ValueError(
        f"Expected task_column to be one of the columns of X, got {task_column!r} and "
        f"{known}. Keep the column through all transformers (remainder='passthrough', "
        "set_output(transform='pandas')), or give its position, such as -1."
    )
