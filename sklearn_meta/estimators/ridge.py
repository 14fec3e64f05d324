"""A ridge regression on learned features: adapting is a linear system (R2-D2)."""

from typing import Any

import numpy as np
import torch
from torch import nn

from sklearn_meta.base import BaseMetaEstimator
from sklearn_meta.estimators.networks import build_network, embed_rows
from sklearn_meta.learners import RidgeLearner

__all__ = ["RidgeEstimator"]


class RidgeEstimator(BaseMetaEstimator):
    """Build a ridge learner, and tell the space in which both estimators regress."""

    learner_: RidgeLearner

    def _ridge_learner(self, n_features: int, **options: Any) -> RidgeLearner:
        network = build_network(self, n_features, None)
        width = _width(network, n_features)
        return RidgeLearner(network, embedding_size=width, **options)

    def _learned_blocks(self, X: np.ndarray) -> list[np.ndarray]:
        """Return rows (n_rows, width), then what was learned: features and level."""
        X = self._scale(X)
        columns = embed_rows(self.learner_.describe_rows, X, self.device_)
        # nothing is left of them where classes are local to the task
        width = self.learner_.embedding_size or columns.shape[1]
        features, base = np.split(columns, [width], axis=1)
        return [X, features, *([base] if base.shape[1] else [])]


def _width(network: nn.Module, n_features: int) -> int:
    """Return the width of an embedding, by trying it."""
    was_training = network.training
    with torch.no_grad():
        width = network.eval()(torch.zeros(1, n_features)).shape[1]
    network.train(was_training)
    return width
