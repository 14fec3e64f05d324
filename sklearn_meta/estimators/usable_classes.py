"""Rows of the classes that episodes can use."""

import numpy as np

from sklearn_meta.exceptions import FewTasksWarning, warn_user
from sklearn_meta.targets import LocalClasses
from sklearn_meta.tasks import TaskRows


def usable_classes(rows: TaskRows) -> tuple[TaskRows, LocalClasses]:
    """Return the rows that episodes can use, sorted by class, and their classes.

    A class needs a row to learn from and one to be scored on. Classes with a single row
    are left out with a warning.

    Raises
    ------
    ValueError
        If a task has fewer than two usable classes.
    """
    classes = LocalClasses.of(rows.y, rows.codes)
    usable = classes.cell_size >= 2
    per_task = np.bincount(classes.cell_task[usable], minlength=len(rows.sizes))
    poor = np.flatnonzero(per_task < 2)
    if len(poor):
        raise ValueError(
            f"Expected at least 2 classes with 2 rows or more in each task; "
            f"{rows.name_of(poor[0])} has {per_task[poor[0]]} such out of "
            f"{classes.of_task(poor[0]).tolist()}. Add rows or drop the task."
        )
    _warn_of_single_rows(classes, usable, rows)
    order = np.argsort(classes.row_cell, kind="stable")
    order = order[usable[classes.row_cell[order]]]
    sizes = np.bincount(rows.codes[order])
    rows = TaskRows(rows.X[order], rows.y[order], sizes, rows.names)
    return rows, LocalClasses.of(rows.y, rows.codes)


def _warn_of_single_rows(
    classes: LocalClasses, usable: np.ndarray, rows: TaskRows
) -> None:
    """Warn of classes that no episode can hold, those not ``usable`` (n_cells,)."""
    left_out = np.flatnonzero(~usable)
    if len(left_out):
        first = left_out[0]
        warn_user(
            f"{len(left_out)} classes with a single row are left out of the episodes, "
            f"first {classes.labels.tolist()[classes.cell_label[first]]!r} of "
            f"{rows.name_of(classes.cell_task[first])}: a class needs a row to learn "
            "from and one to be scored on.",
            FewTasksWarning,
        )
