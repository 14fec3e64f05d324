"""Pooled models, which ignore tasks, and predictions of tasks that they never saw."""

from sklearn_meta.pooling._cross_fit import (
    class_probabilities,
    few_threads,
    fit_member,
    folds_by_task,
    out_of_fold,
    predict_numbers,
    with_seed,
)
from sklearn_meta.pooling._model import PooledModel, fit_pooled

__all__ = [
    "PooledModel",
    "class_probabilities",
    "few_threads",
    "fit_member",
    "fit_pooled",
    "folds_by_task",
    "out_of_fold",
    "predict_numbers",
    "with_seed",
]
