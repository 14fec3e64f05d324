"""Supports with more rows than a method can take in."""

from typing import Any

import numpy as np

from sklearn_meta.exceptions import LargeSupportWarning, warn_user
from sklearn_meta.targets import LocalClasses
from sklearn_meta.tasks import TaskRows


def limit_supports(
    estimator: Any, rows: TaskRows, most: int, *, method: str, advice: str
) -> TaskRows:
    """Return at most some rows of each task, always the same ones, with a warning.

    Parameters
    ----------
    estimator : estimator
        Says whether labels are local to a task: then classes keep as many rows each.
    rows : TaskRows
        The support of each task.
    most : int
        Most rows of a task.
    method : str
        What has the limit, for the message.
    advice : str
        What to do about it.

    Returns
    -------
    rows : TaskRows
        The rows themselves if no task has more.
    """
    large = rows.sizes.argmax()
    if rows.sizes[large] <= most:
        return rows
    evenly = getattr(estimator, "label_mode_", None) == "task"
    warn_user(
        f"The support of {rows.name_of(large)} has {rows.sizes[large]} rows; {method} "
        f"uses {most} of them, drawn at random{', evenly over the classes' * evenly}. "
        f"{advice}",
        LargeSupportWarning,
    )
    return thin_out(rows, most, evenly=evenly)


def thin_out(rows: TaskRows, n_rows: int, evenly: bool = True) -> TaskRows:
    """Return at most ``n_rows`` rows of each task, evenly over its classes or not."""
    classes = LocalClasses.of(rows.y if evenly else 0 * rows.codes, rows.codes)
    starts = np.cumsum(classes.cell_size) - classes.cell_size
    shuffle = np.random.RandomState(0).permutation(len(rows.y))
    # a row's rank among the rows of its class, in random order
    rank = np.empty(len(rows.y), int)
    order = shuffle[np.argsort(classes.row_cell[shuffle], kind="stable")]
    rank[order] = np.arange(len(order)) - np.repeat(starts, classes.cell_size)
    # the rows of a task by rank: each class gives its first row, then its second, ...
    by_rank = np.lexsort((rank, rows.codes))
    first = np.repeat(np.cumsum(rows.sizes) - rows.sizes, rows.sizes)
    keep = np.sort(by_rank[np.arange(len(by_rank)) - first < n_rows])
    sizes = np.minimum(rows.sizes, n_rows)
    return TaskRows(rows.X[keep], rows.y[keep], sizes, rows.names)
