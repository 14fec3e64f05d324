"""Supports with more rows than a method can take in."""

from typing import Any

from sklearn_meta.estimators.classifier import thin_out
from sklearn_meta.exceptions import LargeSupportWarning, warn_user
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
