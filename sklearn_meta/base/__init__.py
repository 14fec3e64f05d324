"""The base classes of all estimators that adapt to tasks."""

from sklearn_meta.base._hold_out import HeldOut
from sklearn_meta.base._large_supports import SupportLimit
from sklearn_meta.base._meta_estimator import BaseMetaEstimator
from sklearn_meta.base._pooled_columns import PooledColumnsMixin
from sklearn_meta.base._task_estimator import BaseTaskEstimator

__all__ = [
    "BaseMetaEstimator",
    "BaseTaskEstimator",
    "HeldOut",
    "PooledColumnsMixin",
    "SupportLimit",
]
