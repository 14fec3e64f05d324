r"""Loss of query rows under prototypes, and its gradient, without autograd's tape.

For one task, with support features :math:`a_i`, one-hot classes :math:`y_i` and
:math:`n_k` rows of class k, the prototypes are

.. math:: c_k = (\sum_i y_{ik} a_i + w m) / (n_k + w), \quad m = \mathrm{mean}(a_i),

linear in the features: :math:`c = M a`. With d columns and the scale
:math:`\sigma_k = \exp(u + v \log n_k)`, the logits of a query row b are
:math:`l_k = -\sigma_k \lVert b - c_k \rVert^2 / d`. All distances stay the same if an
origin is subtracted from b and c; it is the mean prototype, so that float32 does not
cancel. Where every class has as many rows, :math:`\lVert b \rVert^2` is in all logits
of a row alike, and is left out.

With :math:`G = \partial L / \partial l` (softmax minus target, times the row's weight)
and :math:`h_k = 2 \sigma_k / d` the derivatives are

.. math::

    \partial L / \partial b   &= \sum_k G_k h_k (c_k - b) \\
    \partial L / \partial c_k &= h_k \sum_b G_{bk} (b - c_k) \\
    \partial L / \partial a   &= M^T\, \partial L / \partial c \\
    \partial L / \partial w   &= \sum_k (m - c_k) \cdot
                                 \partial L / \partial c_k / (n_k + w) \\
    \partial L / \partial \log \sigma_k &= \sum_b G_{bk} l_{bk}.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable
from torch.nn import functional as F

from sklearn_meta.functional.at_hand import is_at_hand


class _Support(NamedTuple):
    """What is known of the support without its features; classes come before rows."""

    counts: Tensor  # (n_tasks, n_classes, 1)
    weights: Tensor  # (n_tasks, n_classes + 1, n_support): M, and that of the mean
    prior_weight: Tensor  # (), w
    scale: Tensor  # (n_tasks, n_classes, 1), sigma
    is_even: bool  # whether every class of a task is known to have as many rows


class _Points(NamedTuple):
    """Places in the embedding, seen from the mean prototype."""

    prototypes: Tensor  # (n_tasks, n_classes, n_features)
    mean: Tensor  # (n_tasks, 1, n_features)
    queries: Tensor  # (n_tasks, n_query, n_features)


class _Gradient(NamedTuple):
    """Derivatives of the loss."""

    of_features: Tensor  # (n_tasks, n_support + n_query, n_features)
    of_log_scale: Tensor  # (n_tasks, n_classes, 1)
    of_prior_weight: Tensor  # ()


def prototype_loss(
    features: Tensor,
    Y_support: Tensor,
    Y_query: Tensor,
    row_weight: Tensor,
    log_scale: Tensor,
    log_scale_slope: Tensor,
    raw_prior_weight: Tensor,
) -> Tensor:
    """Cross-entropy of query rows under prototypes, by squared Euclidean distance.

    Parameters
    ----------
    features : Tensor of shape (n_tasks, n_support + n_query, n_features)
        Embedded rows, the support first.
    Y_support : Tensor of shape (n_tasks, n_support, n_classes)
        One-hot classes; rows of padding are all zero.
    Y_query : Tensor of shape (n_tasks, n_query, n_classes)
        The same of query rows.
    row_weight : Tensor of shape (n_tasks, n_query)
        Weight of each query row in the loss; 0 for padding.
    log_scale, log_scale_slope : Tensor of shape ()
        Logarithm of the scale of logits, and its slope in the logarithm of the number
        of rows of a class.
    raw_prior_weight : Tensor of shape ()
        Its softplus is the weight of the support's mean in a prototype, in rows.

    Returns
    -------
    Tensor of shape ()
        The loss in nats. Autograd knows its first derivatives by the features and the
        last three arguments. A class without support rows is ruled out.

    References
    ----------
    J. Snell, K. Swersky, R. Zemel, "Prototypical Networks for Few-shot Learning",
    NeurIPS 2017, algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional.prototype_loss import prototype_loss
    >>> features = torch.tensor([[[1.0], [-1.0], [1.0]]])
    >>> Y, zero = torch.eye(2)[None], torch.tensor(0.0)
    >>> weight = torch.ones(1, 1)
    >>> prototype_loss(features, Y, Y[:, :1], weight, zero, zero, zero - 100)
    tensor(0.0181)
    """
    loss: Tensor = _PrototypeLoss.apply(
        features,
        Y_support,
        Y_query,
        row_weight,
        log_scale,
        log_scale_slope,
        raw_prior_weight,
    )
    return loss


class _PrototypeLoss(Function):
    """The loss, whose gradient is computed with it."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        Y_support: Tensor,
        Y_query: Tensor,
        row_weight: Tensor,
        log_scale: Tensor,
        log_scale_slope: Tensor,
        raw_prior_weight: Tensor,
    ) -> Tensor:
        """Return the loss and keep its gradient; shapes as in `prototype_loss`."""
        log_counts = Y_support.sum(1).clamp_min(1).log().unsqueeze(-1)
        scale = torch.exp(log_scale + log_scale_slope * log_counts)
        support = _describe(Y_support, F.softplus(raw_prior_weight), scale)
        loss, found = _loss_and_gradient(
            support, features, Y_query.mT, row_weight.unsqueeze(1)
        )
        ctx.gradients = (
            found.of_features,
            found.of_log_scale.sum(),
            (found.of_log_scale * log_counts).sum(),
            found.of_prior_weight * raw_prior_weight.sigmoid(),
        )
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        """Hand the gradient out; the factor () is that of the loss."""
        of_features, *others = ctx.gradients
        # nearly always 1
        if not is_at_hand(factor) or float(factor) != 1:
            of_features = of_features * factor
        return of_features, None, None, None, *(part * factor for part in others)


def _describe(Y: Tensor, prior_weight: Tensor, scale: Tensor) -> _Support:
    """Return how prototypes and the mean of the support depend on its features.

    Y is of shape (n_tasks, n_support, n_classes), with zeros at padding; the weight of
    the prior is (), the scale broadcasts to (n_tasks, n_classes, 1).
    """
    counts = Y.sum(1).unsqueeze(-1)
    real = Y.sum(-1).unsqueeze(1)
    of_mean = real / real.sum(-1, keepdim=True).clamp_min(1)
    of_classes = (Y.mT + prior_weight * of_mean) / (counts + prior_weight)
    weights = torch.cat([of_classes, of_mean], 1)
    even = is_at_hand(Y) and bool((counts == counts[:, :1].clamp_min(1)).all())
    return _Support(counts, weights, prior_weight, scale, even)


def _loss_and_gradient(
    support: _Support, features: Tensor, targets: Tensor, weight: Tensor
) -> tuple[Tensor, _Gradient]:
    """Return the loss and its gradient; targets (n_tasks, n_classes, n_query)."""
    points = _locate(support, features)
    slope = 2 * support.scale / features.shape[-1]  # h
    logits = _score(support, points, slope)
    # 0 * -inf would be NaN where the logit of an absent class underflows further
    log_proba = logits.log_softmax(1).clamp_min_(torch.finfo(logits.dtype).min)
    loss = -(log_proba * targets * weight).sum()
    G = log_proba.exp_().sub_(targets).mul_(weight)
    of_queries = torch.bmm(G.mT, slope * points.prototypes)
    if not support.is_even:
        G.masked_fill_(support.counts == 0, 0)
        of_queries -= (slope * G).sum(1).unsqueeze(-1) * points.queries
    moments = torch.bmm(G, points.queries) - G.sum(-1, keepdim=True) * points.prototypes
    of_prototypes = slope * moments
    of_support = torch.bmm(support.weights[:, :-1].mT, of_prototypes)
    pull = (points.mean - points.prototypes) / (support.counts + support.prior_weight)
    return loss, _Gradient(
        torch.cat([of_support, of_queries], 1),
        (G * logits).sum(-1, keepdim=True),
        (of_prototypes * pull).sum(),
    )


def _locate(support: _Support, features: Tensor) -> _Points:
    """Compute prototypes of features (n_tasks, n_rows, d); look from their mean."""
    n_support = support.weights.shape[-1]
    found = torch.bmm(support.weights, features[:, :n_support])
    origin = found[:, :-1].mean(1, keepdim=True)
    found -= origin
    return _Points(found[:, :-1], found[:, -1:], features[:, n_support:] - origin)


def _score(support: _Support, points: _Points, slope: Tensor) -> Tensor:
    """Logits (n_tasks, n_classes, n_query), up to what all of a row have in common."""
    squares = points.prototypes.square().sum(-1, keepdim=True)
    logits = torch.baddbmm(
        -0.5 * slope * squares, slope * points.prototypes, points.queries.mT
    )
    if support.is_even:
        return logits
    logits -= 0.5 * slope * points.queries.square().sum(-1).unsqueeze(1)
    return logits.masked_fill_(support.counts == 0, torch.finfo(logits.dtype).min)
