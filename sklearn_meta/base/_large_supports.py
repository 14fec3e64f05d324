"""Supports with more rows than a method can take in."""

from typing import NamedTuple

import numpy as np

from sklearn_meta.exceptions import LargeSupportWarning, warn_user
from sklearn_meta.targets import LocalClasses
from sklearn_meta.tasks import TaskRows


class SupportLimit(NamedTuple):
    """How many rows of a support a method can use.

    Parameters
    ----------
    most : int
        Most rows of a task.
    method : str
        What has the limit, for the message.
    advice : str
        What to do about it, a sentence.
    """

    most: int
    method: str
    advice: str


def warn_of_large_supports(
    rows: TaskRows, limits: list[SupportLimit], evenly: bool
) -> None:
    """Warn once if a task has more rows than methods use of it.

    Parameters
    ----------
    rows : TaskRows
        The support of each task; the largest is named.
    limits : list of SupportLimit
        Those of all methods that read it.
    evenly : bool
        Whether classes keep as many rows each.
    """
    large = rows.sizes.argmax()
    size = rows.sizes[large]
    passed = [limit for limit in limits if limit.most < size]
    if not passed:
        return
    used = " and ".join(f"{method} uses {most}" for most, method, _ in passed)
    advice = " ".join(dict.fromkeys(limit.advice for limit in passed))
    warn_user(
        f"The support of {rows.name_of(large)} has {size} rows; {used} of them, drawn "
        f"at random{', evenly over the classes' * evenly}. {advice}",
        LargeSupportWarning,
    )


def thin_out(rows: TaskRows, n_rows: int, evenly: bool = True) -> TaskRows:
    """Return at most ``n_rows`` rows of each task, always the same ones.

    With ``evenly`` its classes keep as many rows each. If no task has more, these are
    the rows themselves.
    """
    if rows.sizes.max() <= n_rows:
        return rows
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
