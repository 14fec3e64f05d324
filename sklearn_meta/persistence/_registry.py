"""The classes that a file may name; no other is ever looked up."""

from typing import Any

import torch
from torch import nn

from sklearn_meta import adapted, estimators, pipeline, task_column
from sklearn_meta.averaging import ClassNoise, ShiftNoise
from sklearn_meta.estimators.embedding import BlockScale
from sklearn_meta.estimators.hyperparameters import KernelHyperparameters
from sklearn_meta.estimators.kept_models import AdaptedMembers
from sklearn_meta.estimators.level import Evidence, LevelModel
from sklearn_meta.estimators.pooled import Shifts
from sklearn_meta.estimators.refit import OldRows, RefittedModels
from sklearn_meta.estimators.stacked_members import AdaptedMixture, SharedColumns
from sklearn_meta.pooling import PooledModel
from sklearn_meta.serving import AdaptedTasks
from sklearn_meta.shifts import RandomIntercept, ShiftPrecision
from sklearn_meta.targets import NumericScale
from sklearn_meta.training import Checkpoint, seeded
from sklearn_meta.whitening import ClassWhitening

CLASSES: dict[str, type] = {
    name: found
    for module in (adapted, estimators, pipeline, task_column)
    for name in module.__all__
    if isinstance(found := getattr(module, name), type)
}

RECORDS: dict[str, type] = {
    record.__name__: record
    for record in (
        AdaptedMembers,
        AdaptedMixture,
        AdaptedTasks,
        BlockScale,
        Checkpoint,
        ClassNoise,
        ClassWhitening,
        KernelHyperparameters,
        NumericScale,
        Evidence,
        LevelModel,
        OldRows,
        PooledModel,
        RandomIntercept,
        RefittedModels,
        SharedColumns,
        ShiftNoise,
        ShiftPrecision,
        Shifts,
    )
}


def build_learner(estimator: Any, weights: dict[str, torch.Tensor]) -> nn.Module:
    """Build the learner that an estimator's parameters ask for, with given weights.

    Raises
    ------
    RuntimeError
        If the weights are not those of such a learner.
    """
    # a learner draws weights that are thrown away: no one's random numbers must move
    with seeded(0, torch.device("cpu")):
        learner = estimator._build_learner(*estimator.learner_shape_)
    learner = learner.to(torch.float64).eval()
    learner.load_state_dict(weights)
    return learner
