"""What the outer loop makes smaller: the loss of episodes under a learner."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_meta.episodes import Episodes
from sklearn_meta.functional.gaussian_loss import mean_gaussian_nll
from sklearn_meta.functional.likelihoods import gaussian_nll, masked_task_mean
from sklearn_meta.training._precision import Precision

__all__ = ["EpisodeLoss"]


class EpisodeLoss:
    """The learner's own loss in training, if it has one, or the mean over tasks.

    Parameters
    ----------
    learner : nn.Module
        What learns.
    forward : callable
        Its forward pass in training.
    criterion : callable
        Maps a prediction and the query targets to a loss per query row, of shape
        (n_tasks, n_query).
    precision : Precision
        In which it is computed.
    """

    def __init__(
        self,
        learner: nn.Module,
        forward: Callable,
        criterion: Callable[[Any, Tensor], Tensor],
        precision: Precision,
    ) -> None:
        self.learner, self.forward = learner, forward
        self.criterion, self.precision = criterion, precision

    def __call__(self, episodes: Episodes, progress: float) -> Tensor:
        """Return the loss, of shape (); NaN where there is none.

        Where the numbers run away, a matrix may have no factor before a loss is NaN.
        ``progress`` is the share of the outer steps that are done.
        """
        try:
            with self.precision.of_loss():
                return self._compute(episodes, progress)
        except torch.linalg.LinAlgError:
            learned = (p for p in self.learner.parameters() if p.requires_grad)
            return next(learned).sum() * math.nan

    def _compute(self, episodes: Episodes, progress: float) -> Tensor:
        is_training = self.learner.training
        own = getattr(self.learner, "training_loss", None) if is_training else None
        if own is not None:
            return own(*episodes, criterion=self.criterion, progress=progress)
        X, Y, mask, X_query, Y_query, query_mask = episodes
        forward = self.forward if is_training else self.learner
        prediction = forward(X, Y, mask, X_query)
        if self.criterion is gaussian_nll:
            return mean_gaussian_nll(prediction, Y_query, query_mask)
        return masked_task_mean(self.criterion(prediction, Y_query), query_mask)
