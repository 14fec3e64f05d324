"""Learners that compare query rows with one learned point per class."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_meta.functional import (
    add_offset,
    apply_rows,
    categorical_nll,
    check_row_independent,
    class_counts,
    class_means,
    cosine_similarity,
    covariance_factors,
    last_columns,
    mahalanobis,
    mask_absent,
    masked_task_mean,
    squared_euclidean,
    unbounded_std,
    zero_padding,
)
from sklearn_meta.functional.prototype_loss import prototype_loss
from sklearn_meta.learners.contract import Learner
from sklearn_meta.learners.parts import embedding_width
from sklearn_meta.learners.steady import steady_from

_DISTANCES = ("euclidean", "cosine", "mahalanobis")
# Small enough that five rows outvote the prior from the start.
_INITIAL_PRIOR_WEIGHT = 0.05
_INITIAL_COSINE_SCALE = 10.0


class PrototypeLearner(Learner):
    """Prototypical network: the nearest class mean in a learned embedding.

    A query row's logits are minus its distances to the classes' support means, times
    a learned scale. Adapting is one mean per class, so it cannot diverge.

    Parameters
    ----------
    network : nn.Module
        The embedding: maps rows (n, n_features) to (n, embedding_size).
    distance : {"euclidean", "cosine", "mahalanobis"}, default="euclidean"
        Squared Euclidean distance, cosine similarity, or squared Mahalanobis distance
        with a regularised covariance per class (Simple CNAPS).
    n_shared_classes : int, default=None
        Number of classes if they mean the same in every task: each then has a learned
        prior prototype, and one missing from a support keeps a probability. None for
        classes local to the task; one missing is ruled out.
    embedding_size : int, default=None
        Width of the embedding, for the shared prototypes only; None reads it from the
        network's last linear layer.
    epsilon : float, default=0.1
        Added to every variance of the Mahalanobis covariances, > 0.
    n_offsets : int, default=0
        So many of the last columns of a row are added to the logits, one per class;
        the network sees them too. Needs ``n_shared_classes``.

    Raises
    ------
    ValueError
        If the distance is unknown, there are offsets of classes that are not shared,
        the network mixes rows, or the embedding's width is needed and cannot be read.

    Notes
    -----
    Distances are divided by the embedding's width, so that logits start near 1 in size
    whatever it is. The log scale has an intercept and a slope in log(shots of the
    class). Prototypes are shrunk towards the shared prototypes, or towards the
    support's centre, with a learned pseudo-count. The papers have neither; all start
    near them.

    References
    ----------
    J. Snell, K. Swersky, R. Zemel, "Prototypical Networks for Few-shot Learning",
    NeurIPS 2017, algorithm 1.
    P. Bateni et al., "Improved Few-Shot Visual Classification", CVPR 2020, equation 2.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import build_mlp
    >>> from sklearn_meta.learners import PrototypeLearner
    >>> learner = PrototypeLearner(build_mlp(3, (8,), 8))
    >>> X, Y = torch.zeros(1, 2, 3), torch.eye(2)[None]
    >>> mask = torch.ones(1, 2, dtype=torch.bool)
    >>> learner(X, Y, mask, torch.zeros(1, 7, 3)).shape
    torch.Size([1, 7, 2])
    """

    mixed_precision = True

    def __init__(
        self,
        network: nn.Module,
        *,
        distance: str = "euclidean",
        n_shared_classes: int | None = None,
        embedding_size: int | None = None,
        epsilon: float = 0.1,
        n_offsets: int = 0,
    ):
        if distance not in _DISTANCES:
            raise ValueError(f"distance must be one of {_DISTANCES}; got {distance!r}.")
        if n_offsets and n_shared_classes != n_offsets:
            raise ValueError(
                f"n_offsets must be 0 or n_shared_classes; got {n_offsets=} and "
                f"{n_shared_classes=}."
            )
        check_row_independent(network)
        super().__init__()
        self.network = network
        self.distance = distance
        self.n_shared_classes = n_shared_classes
        self.epsilon = epsilon
        self.n_offsets = n_offsets
        cosine = distance == "cosine"
        log_scale = math.log(_INITIAL_COSINE_SCALE) if cosine else 0.0
        self.log_scale = nn.Parameter(torch.tensor(log_scale))
        self.log_scale_slope = nn.Parameter(torch.tensor(0.0))
        raw = unbounded_std(_INITIAL_PRIOR_WEIGHT, floor=0.0)
        self.raw_prior_weight = nn.Parameter(torch.tensor(raw))
        if n_shared_classes is not None:
            width = embedding_size or embedding_width(network, "n_shared_classes")
            self.shared_prototypes = nn.Parameter(torch.zeros(n_shared_classes, width))

    def adapt(
        self, X_support: Tensor, Y_support: Tensor, support_mask: Tensor
    ) -> dict[str, Tensor]:
        """Compute the prototypes of every task.

        Parameters
        ----------
        X_support : Tensor of shape (n_tasks, n_support, n_features)
            Support rows.
        Y_support : Tensor of shape (n_tasks, n_support, n_classes)
            One-hot classes.
        support_mask : Tensor of shape (n_tasks, n_support), bool
            True for a real row.

        Returns
        -------
        dict of str to Tensor, tasks first
            "prototypes" (n_tasks, n_classes, embedding_size), "scale" and "present"
            (n_tasks, n_classes), and for Mahalanobis "factors" (n_tasks, n_classes,
            embedding_size, embedding_size).
        """
        features = apply_rows(self.network, zero_padding(X_support, support_mask))
        return self._describe(features, zero_padding(Y_support, support_mask))

    def _describe(self, features: Tensor, Y: Tensor) -> dict[str, Tensor]:
        """As `adapt`, of embedded rows (n_tasks, n_support, embedding_size)."""
        counts = class_counts(Y)
        weight = nn.functional.softplus(self.raw_prior_weight)
        prototypes = class_means(features, Y, self._prior(features, Y), weight)
        log_scale = self.log_scale + self.log_scale_slope * counts.clamp_min(1).log()
        state = {
            "prototypes": prototypes,
            "scale": log_scale.exp(),
            "present": (counts > 0) | (self.n_shared_classes is not None),
        }
        if self.distance == "mahalanobis":
            state["factors"] = covariance_factors(features, Y, prototypes, self.epsilon)
        return state

    def query(self, state: dict[str, Tensor], X_query: Tensor) -> Tensor:
        """Score query rows against the prototypes.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `adapt`.
        X_query : Tensor of shape (n_tasks, n_query, n_features)
            Query rows; each is scored on its own.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_classes)
            Logits.
        """
        features = apply_rows(self.network, X_query)
        return self._score(state, features, X_query)

    def _score(
        self, state: dict[str, Tensor], features: Tensor, X_query: Tensor
    ) -> Tensor:
        """As `query`, of embedded rows (n_tasks, n_query, embedding_size)."""
        logits = state["scale"].unsqueeze(1) * self._similarity(state, features)
        logits = add_offset(logits, last_columns(X_query, self.n_offsets))
        return mask_absent(logits, state["present"])

    def forward(
        self,
        X_support: Tensor,
        Y_support: Tensor,
        support_mask: Tensor,
        X_query: Tensor,
    ) -> Tensor:
        """Adapt to the support rows, then score the query rows; shapes as in both."""
        features = self._embed(X_support, support_mask, X_query)
        sizes = X_support.shape[1], X_query.shape[1]
        support, query = features.split(sizes, 1)
        state = self._describe(support, zero_padding(Y_support, support_mask))
        return self._score(state, query, X_query)

    @steady_from(0.0)
    def training_loss(
        self,
        X_support: Tensor,
        Y_support: Tensor,
        support_mask: Tensor,
        X_query: Tensor,
        Y_query: Tensor,
        query_mask: Tensor,
        *,
        criterion: Callable[[Any, Tensor], Tensor],
        progress: float = 0.0,
    ) -> Tensor:
        """Mean loss of the query rows of the tasks, to be differentiated once.

        Where logits are squared Euclidean distances to the classes of a task, all that
        comes after the embedding is differentiated by formulas.

        Parameters
        ----------
        X_support, Y_support, support_mask : Tensor
            As in `adapt`.
        X_query, Y_query, query_mask : Tensor
            Query rows, shaped like support rows.
        criterion : callable
            Loss of every query row, given the prediction and `Y_query`.
        progress : float, default=0.0
            Share of the outer steps that are done, in [0, 1]; ignored here.

        Returns
        -------
        Tensor of shape ()
            A mean over a task's own query rows, then over tasks.
        """
        plain = self.distance == "euclidean" and self.n_shared_classes is None
        if not (plain and criterion is categorical_nll):
            prediction = self(X_support, Y_support, support_mask, X_query)
            return masked_task_mean(criterion(prediction, Y_query), query_mask)
        return prototype_loss(
            self._embed(X_support, support_mask, X_query),
            zero_padding(Y_support, support_mask),
            Y_query,
            _row_weights(query_mask, like=X_query),
            self.log_scale,
            self.log_scale_slope,
            self.raw_prior_weight,
        )

    def _embed(self, X_support: Tensor, mask: Tensor, X_query: Tensor) -> Tensor:
        """All rows of all tasks in one product: (n_tasks, n_rows, embedding_size)."""
        X = torch.cat([zero_padding(X_support, mask), X_query], 1)
        return apply_rows(self.network, X)

    def _prior(self, features: Tensor, Y: Tensor) -> Tensor:
        """Where classes are before a row is seen: (n_classes or 1, embedding_size)."""
        if self.n_shared_classes is not None:
            return self.shared_prototypes
        every_row = Y.sum(-1, keepdim=True)
        return class_means(features, every_row)

    def _similarity(self, state: dict[str, Tensor], features: Tensor) -> Tensor:
        """Unscaled logits (n_tasks, n_query, n_classes) of about 1 in size."""
        prototypes = state["prototypes"]
        if self.distance == "cosine":
            return cosine_similarity(features, prototypes)
        if self.distance == "mahalanobis":
            distances = mahalanobis(features, prototypes, state["factors"])
        else:
            distances = squared_euclidean(features, prototypes)
        return -distances / features.shape[-1]


def _row_weights(mask: Tensor, like: Tensor) -> Tensor:
    """Weights (n_tasks, n_rows) of rows in `masked_task_mean`."""
    n_tasks = mask.any(1).sum().clamp_min(1)
    return mask.to(like) / (n_tasks * mask.sum(1, keepdim=True).clamp_min(1))
