"""Tasks, collections of tasks, and the one place where their input is checked."""

from sklearn_meta.tasks._bad_cells import check_table
from sklearn_meta.tasks._checks import (
    TaskRows,
    check_magnitude,
    check_tasks,
    flatten_tasks,
)
from sklearn_meta.tasks._collection import (
    NO_TASKS_MESSAGE,
    TaskCollection,
    as_task_collection,
    is_task_sequence,
)
from sklearn_meta.tasks._column import separate_ids
from sklearn_meta.tasks._ids import group_rows
from sklearn_meta.tasks._plain import plain_labels, plain_table
from sklearn_meta.tasks._split import (
    few_shot_split,
    has_class_labels,
    support_query_indices,
)
from sklearn_meta.tasks._task import Task
from sklearn_meta.tasks._windows import TaskWindows

__all__ = [
    "NO_TASKS_MESSAGE",
    "Task",
    "TaskCollection",
    "TaskRows",
    "TaskWindows",
    "as_task_collection",
    "check_magnitude",
    "check_table",
    "check_tasks",
    "few_shot_split",
    "flatten_tasks",
    "group_rows",
    "has_class_labels",
    "is_task_sequence",
    "plain_labels",
    "plain_table",
    "separate_ids",
    "support_query_indices",
]
