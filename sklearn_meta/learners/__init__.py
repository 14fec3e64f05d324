"""Learners: torch modules that adapt to support rows and predict query rows.

All share one contract, tasks first: ``adapt(X_support, Y_support, support_mask)``
gives a state, ``query(state, X_query)`` the prediction, ``forward`` both.
"""

from sklearn_meta.learners.function_draws import FunctionDraws
from sklearn_meta.learners.gradient import GradientLearner
from sklearn_meta.learners.kernel import KernelLearner
from sklearn_meta.learners.logistic import LogisticPrototypeLearner
from sklearn_meta.learners.metric import PrototypeLearner
from sklearn_meta.learners.process import ProcessLearner

__all__ = [
    "FunctionDraws",
    "GradientLearner",
    "KernelLearner",
    "LogisticPrototypeLearner",
    "ProcessLearner",
    "PrototypeLearner",
]
