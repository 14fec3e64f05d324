"""A word of warning where labels are taken as local and may well be shared."""

import numpy as np

from sklearn_meta.exceptions import LabelModeWarning, warn_user
from sklearn_meta.targets import LocalClasses
from sklearn_meta.tasks import TaskRows


def warn_of_overlapping_labels(rows: TaskRows) -> None:
    """Warn if labels that "auto" takes as local are seen in several tasks."""
    classes = LocalClasses.of(rows.y, rows.codes)
    n_tasks = np.bincount(classes.cell_label)  # of each label
    (again,) = np.nonzero(n_tasks > 1)
    if len(again):
        most = n_tasks.argmax()
        warn_user(
            f"label_mode='auto' takes labels as local to their task, since no task has "
            f"all {len(n_tasks)} of them, yet {len(again)} are seen in more than one "
            f"task: {classes.labels.tolist()[most]!r} in {n_tasks[most]} of "
            f"{len(rows.sizes)}. Pass label_mode='shared' if a label means the same in "
            "every task, or label_mode='task' if it does not.",
            LabelModeWarning,
        )
