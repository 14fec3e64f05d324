"""Gaussian processes on top of known logits, for labels shared by all tasks."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from sklearn_meta.functional import (
    apply_rows,
    check_row_independent,
    squared_exponential,
)
from sklearn_meta.learners.laplace import LaplaceLearner
from sklearn_meta.learners.parts import LearnedNumbers, State
from sklearn_meta.learners.process import ProcessLearner

# how far a column's number goes from that of all columns: with few tasks, not far
COLUMN_REACH = 5.0


class SharedClassKernelLearner(LaplaceLearner):
    r"""Gaussian process on top of logits that were known before, for shared labels.

    With prior logits :math:`\ell(x)`, the logits of a task are
    :math:`e^t \ell(x) + g(x)`, where :math:`g` is a Gaussian process with the kernel

    .. math:: K^\alpha \Big(c^2 + \frac1d \sum_j a_j^2 x_j x'_j + s^2 \exp\Big(
        -\frac1{2d} \sum_j \frac{(x_j - x'_j)^2}{w_j^2}\Big)\Big)

    for each class, with :math:`K` support rows. All these numbers are learned.

    Parameters
    ----------
    n_features : int
        Number of columns of a row, those of the prior logits included.
    n_classes : int
        Number of classes, which mean the same in every task.
    n_offsets : int, default=0
        How many of the last columns are the prior logits: `n_classes`, or 0 for
        logits that are the same for all rows and are learned.
    log_prior : Tensor of shape (n_classes,), default=None
        Where those start; None is zero.
    network : nn.Module, default=None
        Maps rows (n, n_features) to features (n, width) that the kernel takes too.
    correction : ProcessLearner, default=None
        Reads the support itself; its logits, zero at first, are added.

    Notes
    -----
    The logits are shrunk by the posterior variance times a learned factor, which starts
    far below the pi / 8 of a posterior that is right: prior logits that a model learned
    from all tasks are averages over tasks already.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.learners import SharedClassKernelLearner
    >>> learner = SharedClassKernelLearner(3, 2)
    >>> X, Y = torch.randn(1, 4, 3), torch.eye(2)[[0, 0, 1, 0]][None]
    >>> mask = torch.ones(1, 4, dtype=torch.bool)
    >>> learner(X, Y, mask, torch.randn(1, 7, 3)).shape
    torch.Size([1, 7, 2])
    """

    STARTS: ClassVar[dict[str, float]] = {
        "offset": 0.0,
        "constant": 0.2,
        "rbf": -1.0,
        "linear": -1.5,
        "widths": 0.3,
        "shots": 0.0,
        "kappa": -3.0,
    }

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        n_offsets: int = 0,
        log_prior: Tensor | None = None,
        network: nn.Module | None = None,
        correction: ProcessLearner | None = None,
    ):
        super().__init__()
        starts: dict[str, float | Tensor] = {**self.STARTS}
        if not n_offsets:
            del starts["offset"]
            starts["prior"] = torch.zeros(n_classes) if log_prior is None else log_prior
        self.n_features, self.n_offsets = n_features, n_offsets
        self.numbers = LearnedNumbers(**starts)
        zeros = torch.zeros(n_features)
        self.of_columns = LearnedNumbers(COLUMN_REACH, linear=zeros, widths=zeros)
        self.network = network
        self.correction = correction
        if network is not None:
            check_row_independent(network)
            self.of_features = LearnedNumbers(linear=0.0, widths=0.0)

    def _describe(self, X: Tensor, Y: Tensor, mask: Tensor) -> State:
        """As of the base class: all are present, the count is that of all rows."""
        present = torch.ones_like(Y.sum(1), dtype=torch.bool)
        return {"present": present, "log_count": mask.sum(1).clamp_min(1).to(X).log()}

    def _rows(self, state: State, X: Tensor) -> Tensor:
        """Rows (n_tasks, n_rows, n_coordinates) with the learned features behind."""
        if self.network is None:
            return X
        return torch.cat([X, apply_rows(self.network, X)], -1)

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """A constant, a linear term and a squared exponential, (n_tasks, n_a, n_b)."""
        linear = self._scaled(a, "linear") @ self._scaled(b, "linear").mT
        a, b = self._scaled(a, "widths"), self._scaled(b, "widths")
        # its distances are means over coordinates, and these are already
        near = squared_exponential(a, b, a.shape[-1] ** -0.5)
        return self._amplitude("constant") + linear + self._amplitude("rbf") * near

    def _variance(self, rows: Tensor) -> Tensor:
        """The diagonal of the kernel, (n_tasks, n_rows)."""
        linear = self._scaled(rows, "linear").square().sum(-1)
        return self._amplitude("constant") + linear + self._amplitude("rbf")

    def _amplitude(self, name: str) -> Tensor:
        """A variance, from the logarithm of a standard deviation."""
        amplitude: Tensor = (2 * self.numbers(name)).exp()
        return amplitude

    def _scaled(self, rows: Tensor, name: str) -> Tensor:
        """Weighted coordinates (n_tasks, n_rows, n_coordinates).

        Their squares are means over columns, and over learned features.
        """
        d = self.n_features
        sign = -1 if name == "widths" else 1
        logs = self.numbers(name) + self.of_columns(name)
        columns = rows[..., :d] * (sign * logs).exp() / math.sqrt(d)
        if self.network is None:
            return columns
        features = rows[..., d:] * (sign * self.of_features(name)).exp()
        return torch.cat([columns, features / math.sqrt(features.shape[-1])], -1)

    def _offset(self, state: State, X: Tensor) -> Tensor:
        """The prior logits of rows, (n_tasks, n_rows, n_classes)."""
        if not self.n_offsets:
            prior: Tensor = self.numbers("prior")
            return prior.expand(*X.shape[:-1], -1)
        return X[..., -self.n_offsets :] * self.numbers("offset").exp()
