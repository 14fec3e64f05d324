"""The public estimators, a file per family."""

from sklearn_meta.estimators.class_kernel import DeepKernelClassifier
from sklearn_meta.estimators.embedding import MetaEmbedding
from sklearn_meta.estimators.ensemble import (
    TaskEnsembleClassifier,
    TaskEnsembleRegressor,
)
from sklearn_meta.estimators.gradient import MAMLClassifier, MAMLRegressor
from sklearn_meta.estimators.kernel import DeepKernelRegressor
from sklearn_meta.estimators.metric import ProtoNetClassifier
from sklearn_meta.estimators.pooled import PooledClassifier, PooledRegressor
from sklearn_meta.estimators.process import (
    ModelBasedMetaClassifier,
    ModelBasedMetaRegressor,
)
from sklearn_meta.estimators.ridge import RidgeHeadClassifier, RidgeHeadRegressor
from sklearn_meta.estimators.stacking_classifier import MetaStackingClassifier
from sklearn_meta.estimators.stacking_regressor import MetaStackingRegressor

__all__ = [
    "DeepKernelClassifier",
    "DeepKernelRegressor",
    "MAMLClassifier",
    "MAMLRegressor",
    "MetaEmbedding",
    "MetaStackingClassifier",
    "MetaStackingRegressor",
    "ModelBasedMetaClassifier",
    "ModelBasedMetaRegressor",
    "PooledClassifier",
    "PooledRegressor",
    "ProtoNetClassifier",
    "RidgeHeadClassifier",
    "RidgeHeadRegressor",
    "TaskEnsembleClassifier",
    "TaskEnsembleRegressor",
]
