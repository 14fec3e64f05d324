"""Supports with more rows than a learner can use in bounded time and memory."""

import numpy as np

from sklearn_meta.exceptions import LargeSupportWarning, warn_user
from sklearn_meta.targets import LocalClasses
from sklearn_meta.tasks import TaskRows


def bound_support(
    rows: TaskRows, limit: int | None, evenly: bool, who: str
) -> TaskRows:
    """Return at most ``limit`` rows of each task; warn where some are left out."""
    if limit is None or rows.sizes.max() <= limit:
        return rows
    large = np.flatnonzero(rows.sizes > limit)
    how = "at random, evenly over the classes" if evenly else "at random"
    warn_user(
        f"The support of {rows.name_of(large[0])} has {rows.sizes[large[0]]} rows; "
        f"{who} uses {limit} of them, drawn {how}.",
        LargeSupportWarning,
    )
    return thin_out(rows, limit, evenly)


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
