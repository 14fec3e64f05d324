"""Class means with a prior: what two covariances, learned across classes, know."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from sklearn_meta.functional import (
    class_counts,
    class_means,
    mask_absent,
    zero_padding,
)
from sklearn_meta.learners.contract import Learner
from sklearn_meta.learners.parts import LearnedNumbers, State


class DiscriminantLearner(Learner):
    r"""Probabilistic linear discriminant analysis on whitened rows.

    Along each axis class means spread with variance :math:`b` around zero, and rows
    around their class mean with variance :math:`v`. With :math:`K` rows of a class and
    their mean :math:`m`, the class mean is known to be about :math:`w m` with
    :math:`w = K b / (v + K b)`, and the logit of a new row is its log-density

    .. math:: -\frac{e^{\tau}}2 \sum \Big( \frac{(z - w m)^2}{v + w v / K}
        + \log\big(v + w v / K\big) \Big).

    Several views of a row add up. Five numbers are learned of each: how far the spreads
    are pulled to their geometric mean, a factor of all :math:`b` and one of :math:`v`,
    and :math:`\tau` with its slope in log K.

    Parameters
    ----------
    n_views : int, default=1
        Number of views. Each is two blocks of equal width: the whitened row, of mean
        square 1 over all classes, and the logarithm of :math:`b` along each axis.

    References
    ----------
    S. Ioffe, "Probabilistic linear discriminant analysis", ECCV 2006.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.learners import DiscriminantLearner
    >>> X, Y = torch.eye(2, 6)[None], torch.eye(2)[None]
    >>> X[..., 3:] = -1.0
    >>> mask = torch.ones(1, 2, dtype=torch.bool)
    >>> DiscriminantLearner()(X, Y, mask, X).argmax(-1).tolist()
    [[0, 1]]
    """

    STARTS: ClassVar[dict[str, float]] = {
        "flatten": -2.0,
        "spread": 0.0,
        "within": 0.0,
        "temperature": -0.7,
        "temperature_shots": 0.0,
    }

    def __init__(self, n_views: int = 1) -> None:
        super().__init__()
        self.n_views = n_views
        starts = {name: torch.full((n_views,), v) for name, v in self.STARTS.items()}
        starts["temperature"] -= math.log(n_views)
        self.numbers = LearnedNumbers(**starts)

    def adapt(
        self, X_support: Tensor, Y_support: Tensor, support_mask: Tensor
    ) -> State:
        """Find what is known of each class's mean.

        Parameters
        ----------
        X_support : Tensor of shape (n_tasks, n_support, n_views * 2 * n_axes)
            Whitened support rows, and the spread of classes.
        Y_support : Tensor of shape (n_tasks, n_support, n_classes)
            One-hot classes.
        support_mask : Tensor of shape (n_tasks, n_support), bool
            True for a real row.

        Returns
        -------
        dict of str to Tensor, tasks first
            The log-density of a class as a polynomial of a row: "squares" and "slopes"
            (n_tasks, n_classes, n_views * n_axes), "constant" and "present"
            (n_tasks, n_classes).
        """
        Y = zero_padding(Y_support, support_mask)
        rows, log_spread = self._views(zero_padding(X_support, support_mask))
        between, within = self._variances(log_spread, support_mask)
        counts = class_counts(Y)
        present = counts > 0
        n = counts[:, :, None, None]
        # (n_tasks, n_classes, n_views, n_axes) from here on
        known = between / (within + n * between)
        means = known * n * class_means(rows.flatten(2), Y).unflatten(2, rows.shape[2:])
        variances = within + known * within
        factor = self._factor(counts, present)
        weights = factor / variances
        constant = weights * means.square() + factor * variances.log()
        return {
            "squares": -0.5 * weights.flatten(2),
            "slopes": (weights * means).flatten(2),
            "constant": -0.5 * constant.sum((2, 3)),
            "present": present,
        }

    def query(self, state: State, X_query: Tensor) -> Tensor:
        """Return the log-densities of query rows, at the temperature.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `adapt`.
        X_query : Tensor of shape (n_tasks, n_query, n_views * 2 * n_axes)
            Query rows; each is scored on its own.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_classes)
            Logits; the dtype's minimum for a class without support rows.
        """
        rows = self._views(X_query)[0].flatten(2)
        logits = rows.square() @ state["squares"].mT + rows @ state["slopes"].mT
        return mask_absent(logits + state["constant"].unsqueeze(1), state["present"])

    def _views(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and log spreads, each (n_tasks, n_rows, n_views, n_axes)."""
        rows, log_spread = X.unflatten(-1, (self.n_views, 2, -1)).unbind(-2)
        return rows, log_spread

    def _variances(self, log_spread: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Variances between and within classes, (n_tasks, 1, n_views, n_axes or 1)."""
        # the same in all rows of a task
        count = mask.sum(1).clamp_min(1)[:, None, None, None]
        log_spread = log_spread.sum(1, keepdim=True) / count
        level = log_spread.mean(-1, keepdim=True)
        share = torch.sigmoid(self.numbers("flatten"))[:, None]
        pulled = log_spread + share * (level - log_spread)
        between = (pulled + self.numbers("spread")[:, None]).exp()
        rest = 1 - log_spread.exp().mean(-1, keepdim=True)
        within = rest.clamp_min(1e-3) * self.numbers("within").exp()[:, None]
        return between, within

    def _factor(self, counts: Tensor, present: Tensor) -> Tensor:
        """The factor of each view's log-density, (n_tasks, 1, n_views, 1)."""
        shots = counts.sum(1) / present.sum(1).clamp_min(1)
        slope = self.numbers("temperature_shots") * shots.clamp_min(1).log()[:, None]
        return (self.numbers("temperature") + slope).exp()[:, None, :, None]
