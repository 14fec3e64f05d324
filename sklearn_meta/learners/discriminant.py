"""Class means with a prior: what two covariances, learned across classes, know."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from sklearn_meta.functional import (
    class_counts,
    class_means,
    mask_absent,
    zero_padding,
)
from sklearn_meta.learners.parts import LearnedNumbers, State


class DiscriminantLearner(nn.Module):
    r"""Probabilistic linear discriminant analysis on whitened rows.

    Along each axis class means spread with variance :math:`b` around zero, and rows
    around their class mean with variance :math:`v`. With :math:`K` rows of a class and
    their mean :math:`m`, the class mean is known to be about :math:`w m` with
    :math:`w = K b / (v + K b)`, and the logit of a new row is its log-density

    .. math:: -\\frac{e^{\\tau}}2 \\sum \\Big( \\frac{(z - w m)^2}{v + w v / K}
        + \\log\\big(v + w v / K\\big) \\Big).

    Five numbers are learned: how far the spreads are pulled to their geometric mean, a
    factor of all :math:`b` and one of :math:`v`, and :math:`\\tau` with its slope in
    log K.

    A row comes as two blocks of equal width: the whitened row, of mean square 1 over
    all classes, and the logarithm of :math:`b` along each axis.

    References
    ----------
    S. Ioffe, "Probabilistic linear discriminant analysis", ECCV 2006.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.learners import DiscriminantLearner
    >>> X, Y = torch.randn(1, 2, 6), torch.eye(2)[None]
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

    def __init__(self) -> None:
        super().__init__()
        self.numbers = LearnedNumbers(**self.STARTS)

    def adapt(
        self, X_support: Tensor, Y_support: Tensor, support_mask: Tensor
    ) -> State:
        """Find what is known of each class's mean.

        Parameters
        ----------
        X_support : Tensor of shape (n_tasks, n_support, 2 * n_axes)
            Whitened support rows, and the spread of classes.
        Y_support : Tensor of shape (n_tasks, n_support, n_classes)
            One-hot classes.
        support_mask : Tensor of shape (n_tasks, n_support), bool
            True for a real row.

        Returns
        -------
        dict of str to Tensor, tasks first
            "means" and "variances" of a class's new rows, (n_tasks, n_classes, n_axes),
            "present" (n_tasks, n_classes) and "factor" (n_tasks, 1).
        """
        Y = zero_padding(Y_support, support_mask)
        rows, log_spread = zero_padding(X_support, support_mask).chunk(2, -1)
        between, within = self._variances(log_spread, support_mask)
        counts = class_counts(Y).unsqueeze(-1)
        known = between / (within + counts * between)
        present = counts.squeeze(-1) > 0
        shots = counts.sum((1, 2)) / present.sum(1).clamp_min(1)
        slope = self.numbers("temperature_shots") * shots.clamp_min(1).log()
        return {
            "means": known * counts * class_means(rows, Y),
            "variances": within + known * within,
            "present": present,
            "factor": (self.numbers("temperature") + slope).exp().unsqueeze(1),
        }

    def query(self, state: State, X_query: Tensor) -> Tensor:
        """Return the log-densities of query rows, at the temperature.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `adapt`.
        X_query : Tensor of shape (n_tasks, n_query, 2 * n_axes)
            Query rows; each is scored on its own.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_classes)
            Logits; the dtype's minimum for a class without support rows.
        """
        rows, _ = X_query.chunk(2, -1)
        means, variances = state["means"], state["variances"]
        # |z|^2 / v - 2 z m / v + m^2 / v, without a row for each pair of row and class
        distances = (
            rows.square() @ (1 / variances).mT - 2 * rows @ (means / variances).mT
        )
        constant = (means.square() / variances + variances.log()).sum(-1)
        logits = -0.5 * (distances + constant.unsqueeze(1))
        return mask_absent(logits * state["factor"].unsqueeze(1), state["present"])

    def forward(
        self,
        X_support: Tensor,
        Y_support: Tensor,
        support_mask: Tensor,
        X_query: Tensor,
    ) -> Tensor:
        """Adapt to the support rows, then score the query rows."""
        return self.query(self.adapt(X_support, Y_support, support_mask), X_query)

    def _variances(self, log_spread: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Variances between and within classes, (n_tasks, 1, n_axes or 1)."""
        # the same in all rows of a task
        count = mask.sum(1).clamp_min(1)[:, None, None]
        log_spread = log_spread.sum(1, keepdim=True) / count
        level = log_spread.mean(-1, keepdim=True)
        share = torch.sigmoid(self.numbers("flatten"))
        between = (
            log_spread + share * (level - log_spread) + self.numbers("spread")
        ).exp()
        rest = 1 - log_spread.exp().mean(-1, keepdim=True)
        within = rest.clamp_min(1e-3) * self.numbers("within").exp()
        return between, within
