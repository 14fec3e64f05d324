"""Learners: torch modules that adapt to support rows and predict query rows.

All share one contract, tasks first: ``adapt(X_support, Y_support, support_mask)``
gives a state, ``query(state, X_query)`` the prediction, ``forward`` both;
``contract.py`` has it in code. A learner with a ``training_loss`` has an outer loss of
its own in place of that of its predictions; ``steady.py`` marks from when on it is the
same in every step.
"""

from sklearn_meta.learners.class_blocks import LocalClassKernelLearner
from sklearn_meta.learners.class_kernel import SharedClassKernelLearner
from sklearn_meta.learners.discriminant import DiscriminantLearner
from sklearn_meta.learners.function_draws import FunctionDraws
from sklearn_meta.learners.gradient import GradientLearner
from sklearn_meta.learners.implicit import ImplicitLearner
from sklearn_meta.learners.kernel import KernelLearner
from sklearn_meta.learners.kernel_team import KernelTeam
from sklearn_meta.learners.latent import LatentProcessLearner
from sklearn_meta.learners.logistic import LogisticPrototypeLearner
from sklearn_meta.learners.metric import PrototypeLearner
from sklearn_meta.learners.multi_step import MultiStepLearner
from sklearn_meta.learners.process import ProcessLearner
from sklearn_meta.learners.reptile import ReptileLearner
from sklearn_meta.learners.ridge import RidgeLearner

__all__ = [
    "DiscriminantLearner",
    "FunctionDraws",
    "GradientLearner",
    "ImplicitLearner",
    "KernelLearner",
    "KernelTeam",
    "LatentProcessLearner",
    "LocalClassKernelLearner",
    "LogisticPrototypeLearner",
    "MultiStepLearner",
    "ProcessLearner",
    "PrototypeLearner",
    "ReptileLearner",
    "RidgeLearner",
    "SharedClassKernelLearner",
]
