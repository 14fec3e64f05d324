"""Collections of related tasks: generated ones, and real public tables.

The generated collections have known answers (a sine, a Gaussian process, Gaussian
classes). The real ones are read from installed packages: nothing is downloaded, and
a missing package raises an `ImportError` that says what to install.
"""

from sklearn_meta.datasets._classification import make_blob_tasks
from sklearn_meta.datasets._collections import (
    CollectionInfo,
    list_task_collections,
    load_task_collection,
)
from sklearn_meta.datasets._regression import make_gp_tasks, make_sinusoid_tasks

__all__ = [
    "CollectionInfo",
    "list_task_collections",
    "load_task_collection",
    "make_blob_tasks",
    "make_gp_tasks",
    "make_sinusoid_tasks",
]
