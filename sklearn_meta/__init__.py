"""Meta-learning across many small tables, as scikit-learn estimators."""

from sklearn_meta.adaptation import adapt, adapt_tasks
from sklearn_meta.adapted import AdaptedClassifier, AdaptedRegressor
from sklearn_meta.estimators import (
    DeepKernelClassifier,
    DeepKernelRegressor,
    MAMLClassifier,
    MAMLRegressor,
    MetaEmbedding,
    MetaStackingClassifier,
    MetaStackingRegressor,
    ModelBasedMetaClassifier,
    ModelBasedMetaRegressor,
    PooledClassifier,
    PooledRegressor,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    TaskEnsembleClassifier,
    TaskEnsembleRegressor,
)
from sklearn_meta.estimators.hyperparameters import KernelHyperparameters
from sklearn_meta.exceptions import NotAdaptedError
from sklearn_meta.tasks import Task, TaskCollection, few_shot_split
from sklearn_meta.training import Checkpoint

__version__ = "0.1.0.dev0"

__all__ = [
    "AdaptedClassifier",
    "AdaptedRegressor",
    "Checkpoint",
    "DeepKernelClassifier",
    "DeepKernelRegressor",
    "KernelHyperparameters",
    "MAMLClassifier",
    "MAMLRegressor",
    "MetaEmbedding",
    "MetaStackingClassifier",
    "MetaStackingRegressor",
    "ModelBasedMetaClassifier",
    "ModelBasedMetaRegressor",
    "NotAdaptedError",
    "PooledClassifier",
    "PooledRegressor",
    "ProtoNetClassifier",
    "RidgeHeadClassifier",
    "RidgeHeadRegressor",
    "Task",
    "TaskCollection",
    "TaskEnsembleClassifier",
    "TaskEnsembleRegressor",
    "adapt",
    "adapt_tasks",
    "few_shot_split",
]
