"""MAML and its relatives: adapting is a few gradient steps on the support."""

import copy
from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_meta.base import BaseMetaEstimator, SupportLimit
from sklearn_meta.estimators.networks import build_network
from sklearn_meta.functional.inner_optimizers import INNER_OPTIMIZERS
from sklearn_meta.learners import (
    GradientLearner,
    ImplicitLearner,
    MultiStepLearner,
    ReptileLearner,
)
from sklearn_meta.tasks import TaskRows

__all__ = ["GradientEstimator"]

# larger ones overflow in the single precision of training
MAX_RATE = 1e30
# the activations of all rows of a task are in memory at an inner step, and the mean
# gradient of so many is that of more
MAX_GRADIENT_ROWS = 100_000
VARIANTS = {"maml", "fomaml", "anil", "metasgd", "maml++", "reptile", "imaml"}


class GradientEstimator(BaseMetaEstimator):
    """Build a gradient learner from the parameters of both estimators."""

    learner_: GradientLearner

    _parameter_constraints: dict = {
        **BaseMetaEstimator._parameter_constraints,
        "variant": [StrOptions(VARIANTS)],
        "inner_lr": [Interval(Real, 0, MAX_RATE, closed="neither")],
        "inner_steps": [Interval(Integral, 0, None, closed="left")],
        "inner_optimizer": [StrOptions(set(INNER_OPTIMIZERS))],
        "inner_batch_size": [Interval(Integral, 1, None, closed="left")],
        "proximity": [Interval(Real, 0, None, closed="neither")],
        "cg_steps": [Interval(Integral, 0, None, closed="left")],
        "adapt_steps": [Interval(Integral, 0, None, closed="left"), None],
    }

    def _gradient_learner(
        self, n_features: int, n_outputs: int | None, **options: Any
    ) -> GradientLearner:
        learner_class, own_options = self._learner_of_variant()
        learner = learner_class(
            build_network(self, n_features, n_outputs),
            inner_lr=float(self.inner_lr),
            inner_steps=self.inner_steps,
            inner_optimizer=self.inner_optimizer,
            **own_options,
            **options,
        )
        learner.adapt_steps = self._steps_now()
        return learner

    def _steps_now(self) -> int:
        """Return the steps that a new task takes."""
        return self.inner_steps if self.adapt_steps is None else self.adapt_steps

    def _learner_of_variant(self) -> tuple[type[GradientLearner], dict[str, Any]]:
        """Return the class of learner, and options that only it has."""
        if self.variant == "maml++":
            return MultiStepLearner, {}
        if self.variant == "reptile":
            return ReptileLearner, {"inner_batch_size": self.inner_batch_size}
        if self.variant == "imaml":
            options = {"proximity": self.proximity, "cg_steps": self.cg_steps}
            return ImplicitLearner, options
        return GradientLearner, {
            "second_order": self.variant != "fomaml",
            "adapted": "head" if self.variant == "anil" else "all",
            "learn_inner_lr": self.variant == "metasgd",
        }

    def _adapt_to(self, rows: TaskRows) -> None:
        """Take the steps that are asked for now, which may have changed since fit."""
        if self.learner_.adapt_steps != self._steps_now():
            # a copy that shares the weights: others may adapt the same learner now
            self.learner_ = copy.copy(self.learner_)
            self.learner_.adapt_steps = self._steps_now()
        super()._adapt_to(rows)

    def _support_limits(self) -> list[SupportLimit]:
        """Return how many rows fit into memory at an inner step."""
        advice = "Fit a model of its own to a task of that size."
        return [SupportLimit(MAX_GRADIENT_ROWS, "an inner step", advice)]
