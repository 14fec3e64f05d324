"""The public estimators, a file each; a family shares the file of its name."""

from sklearn_meta.estimators.class_kernel import DeepKernelClassifier
from sklearn_meta.estimators.embedding import MetaEmbedding
from sklearn_meta.estimators.ensemble_classifier import TaskEnsembleClassifier
from sklearn_meta.estimators.ensemble_regressor import TaskEnsembleRegressor
from sklearn_meta.estimators.gradient_classifier import MAMLClassifier
from sklearn_meta.estimators.gradient_regressor import MAMLRegressor
from sklearn_meta.estimators.kernel import DeepKernelRegressor
from sklearn_meta.estimators.metric import ProtoNetClassifier
from sklearn_meta.estimators.pooled_classifier import PooledClassifier
from sklearn_meta.estimators.pooled_regressor import PooledRegressor
from sklearn_meta.estimators.process_classifier import ModelBasedMetaClassifier
from sklearn_meta.estimators.process_regressor import ModelBasedMetaRegressor
from sklearn_meta.estimators.ridge_classifier import RidgeHeadClassifier
from sklearn_meta.estimators.ridge_regressor import RidgeHeadRegressor
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
