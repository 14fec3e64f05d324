"""Training a deep Gaussian process from the shallow one of its own tasks."""

from dataclasses import dataclass
from typing import Any

import torch

from sklearn_meta.episodes import RowEpisodeSampler
from sklearn_meta.estimators.hyperparameters import KernelHyperparameters
from sklearn_meta.learners import KernelLearner
from sklearn_meta.training import (
    MarginalLikelihood,
    OuterLoop,
    TrainingRecord,
    ValidationEpisodes,
)

__all__ = ["FromShallow"]


@dataclass
class FromShallow:
    """An outer loop whose start is the shallow process of its own tasks.

    Parameters
    ----------
    first : MarginalLikelihood
        Fits the shallow process.
    then : OuterLoop
        Trains the learner from there.
    shallow : KernelLearner
        An untrained shallow process.
    """

    first: MarginalLikelihood
    then: OuterLoop
    shallow: KernelLearner

    def run(
        self,
        learner: KernelLearner,
        sampler: RowEpisodeSampler,
        validation: ValidationEpisodes | None,
        generator: torch.Generator,
        optimizer_state: dict | None = None,
        *how: Any,
    ) -> TrainingRecord:
        """Train a learner in place, as :class:`OuterLoop` does.

        With an optimizer to go on with, it starts where the learner is.
        """
        if optimizer_state is None:
            shallow = self.shallow.to(sampler.X)
            guess = KernelHyperparameters.guess(shallow.n_features, sampler.targets())
            guess.put_into(shallow)
            self.first.run(shallow, sampler, None, generator)
            KernelHyperparameters.of(shallow).put_into(learner)
        return self.then.run(
            learner, sampler, validation, generator, optimizer_state, *how
        )
