"""Gaussian processes of logits, whose kernel is learned across tasks."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from sklearn_meta.functional import (
    LaplacePosterior,
    apply_rows,
    check_row_independent,
    class_counts,
    laplace_logits,
    laplace_posterior,
    mask_absent,
    squared_exponential,
    zero_padding,
)
from sklearn_meta.learners.parts import LearnedNumbers, State
from sklearn_meta.learners.process import ProcessLearner

_OF_CORRECTION = "correction_"
# how far a column's number goes from that of all columns: with few tasks, not far
COLUMN_REACH = 5.0


class _LaplaceLearner(nn.Module):
    """Adapting is Laplace's approximation with the kernel of a subclass.

    A subclass has ``numbers`` with at least "shots" and "kappa", and fills in what
    rows are, their kernel, and the logits before the support is seen.
    """

    numbers: LearnedNumbers
    correction: ProcessLearner | None

    def adapt(
        self, X_support: Tensor, Y_support: Tensor, support_mask: Tensor
    ) -> State:
        """Find the posterior of every task's logits.

        Parameters
        ----------
        X_support : Tensor of shape (n_tasks, n_support, n_columns)
            Support rows.
        Y_support : Tensor of shape (n_tasks, n_support, n_classes)
            One-hot classes.
        support_mask : Tensor of shape (n_tasks, n_support), bool
            True for a real row.

        Returns
        -------
        dict of str to Tensor, tasks first
            The support's part in the kernel, the posterior, "present" (n_tasks,
            n_classes), and the state of the correction if there is one.
        """
        X = zero_padding(X_support, support_mask)
        Y = zero_padding(Y_support, support_mask)
        state = self._describe(X, Y, support_mask)
        rows = self._rows(state, X)
        scale = (self.numbers("shots") * state["log_count"]).exp()
        kernel = self._kernel(rows, rows) * scale[:, None, None]
        offset = self._offset(state, X)
        posterior = laplace_posterior(kernel, offset, Y, support_mask)
        state |= {"rows": rows, "scale": scale, **posterior._asdict()}
        if self.correction is not None:
            read = self.correction.adapt(X, Y, support_mask)
            state |= {_OF_CORRECTION + name: part for name, part in read.items()}
        return state

    def query(self, state: State, X_query: Tensor) -> Tensor:
        """Return the logits of query rows.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `adapt`.
        X_query : Tensor of shape (n_tasks, n_query, n_columns)
            Query rows; each is scored on its own.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_classes)
            Logits.
        """
        rows = self._rows(state, X_query)
        scale = state["scale"].unsqueeze(1)
        logits = laplace_logits(
            LaplacePosterior(state["coefficients"], state["precision"]),
            self._kernel(rows, state["rows"]) * scale.unsqueeze(1),
            self._variance(rows) * scale,
            self._offset(state, X_query),
            state["present"],
            self.numbers("kappa").exp(),
        )
        if self.correction is None:
            return logits
        start = len(_OF_CORRECTION)
        read = {k[start:]: v for k, v in state.items() if k.startswith(_OF_CORRECTION)}
        return mask_absent(
            logits + self.correction.query(read, X_query), state["present"]
        )

    def forward(
        self,
        X_support: Tensor,
        Y_support: Tensor,
        support_mask: Tensor,
        X_query: Tensor,
    ) -> Tensor:
        """Adapt to the support rows, then score the query rows."""
        return self.query(self.adapt(X_support, Y_support, support_mask), X_query)

    def _describe(self, X: Tensor, Y: Tensor, mask: Tensor) -> State:
        """Return "present" (n_tasks, n_classes), "log_count" (n_tasks,), and more."""
        raise NotImplementedError

    def _rows(self, state: State, X: Tensor) -> Tensor:
        """Return what the kernel reads of rows, (n_tasks, n_rows, n_coordinates)."""
        raise NotImplementedError

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the kernel of rows, (n_tasks, n_a, n_b)."""
        raise NotImplementedError

    def _variance(self, rows: Tensor) -> Tensor:
        """Return the kernel of each row with itself, (n_tasks, n_rows)."""
        raise NotImplementedError

    def _offset(self, state: State, X: Tensor) -> Tensor:
        """Return the logits before the support, (n_tasks, n_rows, n_classes)."""
        raise NotImplementedError


class SharedClassKernelLearner(_LaplaceLearner):
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
        starts = dict(self.STARTS)
        if not n_offsets:
            del starts["offset"]
            starts["prior"] = torch.zeros(n_classes) if log_prior is None else log_prior
        self.n_features, self.n_offsets = n_features, n_offsets
        self.numbers = LearnedNumbers(
            **starts,
            linear=-1.5,
            widths=0.3,
        )
        zeros = torch.zeros(n_features)
        self.of_columns = LearnedNumbers(COLUMN_REACH, linear=zeros, widths=zeros)
        self.network = network
        self.correction = correction
        if network is not None:
            check_row_independent(network)
            self.of_features = LearnedNumbers(linear=0.0, widths=0.0)

    def _describe(self, X: Tensor, Y: Tensor, mask: Tensor) -> State:
        """All classes are present; the count is that of all support rows."""
        present = torch.ones_like(Y.sum(1), dtype=torch.bool)
        return {"present": present, "log_count": mask.sum(1).clamp_min(1).to(X).log()}

    def _rows(self, state: State, X: Tensor) -> Tensor:
        """Rows with the learned features behind."""
        if self.network is None:
            return X
        return torch.cat([X, apply_rows(self.network, X)], -1)

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """A constant, a linear term and a squared exponential."""
        linear = self._scaled(a, "linear") @ self._scaled(b, "linear").mT
        a, b = self._scaled(a, "widths"), self._scaled(b, "widths")
        # its distances are means over coordinates, and these are already
        near = squared_exponential(a, b, a.new_tensor(a.shape[-1] ** -0.5))
        return self._amplitude("constant") + linear + self._amplitude("rbf") * near

    def _variance(self, rows: Tensor) -> Tensor:
        """The diagonal of the kernel."""
        linear = self._scaled(rows, "linear").square().sum(-1)
        return self._amplitude("constant") + linear + self._amplitude("rbf")

    def _amplitude(self, name: str) -> Tensor:
        """A variance, from the logarithm of a standard deviation."""
        amplitude: Tensor = (2 * self.numbers(name)).exp()
        return amplitude

    def _scaled(self, rows: Tensor, name: str) -> Tensor:
        """Weighted coordinates, so that squares are means over columns (features)."""
        d = self.n_features
        sign = -1 if name == "widths" else 1
        logs = self.numbers(name) + self.of_columns(name)
        columns = rows[..., :d] * (sign * logs).exp() / math.sqrt(d)
        if self.network is None:
            return columns
        features = rows[..., d:] * (sign * self.of_features(name)).exp()
        return torch.cat([columns, features / math.sqrt(features.shape[-1])], -1)

    def _offset(self, state: State, X: Tensor) -> Tensor:
        """The prior logits of rows."""
        if not self.n_offsets:
            prior: Tensor = self.numbers("prior")
            return prior.expand(*X.shape[:-1], -1)
        return X[..., -self.n_offsets :] * self.numbers("offset").exp()


class LocalClassKernelLearner(_LaplaceLearner):
    r"""Gaussian process on several forms of a row, for labels local to the task.

    A row comes as blocks of equal width, which are forms of it. All are centred on the
    support; a class's logit has the kernel

    .. math:: K^\alpha \sum_b \Big(a_b \frac{x_b \cdot x'_b}{d}
        + r_b \exp\Big(-\frac{|x_b - x'_b|^2}{2 d h_b^2}\Big)\Big)

    with :math:`K` support rows per class. The logits are multiplied by a temperature
    that depends on :math:`K`. All these numbers are learned.

    Parameters
    ----------
    block_size : int
        Number of columns of a block.
    n_blocks : int
        Number of blocks.
    network : nn.Module, default=None
        Maps rows (n, n_columns) to features (n, width) that make one more block.
    correction : ProcessLearner, default=None
        Reads the support itself; its logits, zero at first, are added.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.learners import LocalClassKernelLearner
    >>> learner = LocalClassKernelLearner(block_size=3, n_blocks=2)
    >>> X, Y = torch.randn(1, 2, 6), torch.eye(2)[None]
    >>> mask = torch.ones(1, 2, dtype=torch.bool)
    >>> learner(X, Y, mask, torch.randn(1, 7, 6)).shape
    torch.Size([1, 7, 2])
    """

    STARTS: ClassVar[dict[str, float]] = {
        "shots": 0.7,
        "kappa": -3.5,
        "temperature": 0.7,
        "temperature_shots": 0.0,
    }
    BLOCK_STARTS: ClassVar[dict[str, float]] = {"linear": 0.0, "rbf": 1.0, "width": 0.2}

    def __init__(
        self,
        block_size: int,
        n_blocks: int,
        *,
        network: nn.Module | None = None,
        correction: ProcessLearner | None = None,
    ):
        super().__init__()
        if network is not None:
            check_row_independent(network)
        self.block_size, self.n_blocks = block_size, n_blocks
        n_terms = n_blocks + (network is not None)
        starts = self.BLOCK_STARTS.items()
        blocks = {name: torch.full((n_terms,), start) for name, start in starts}
        self.numbers = LearnedNumbers(**self.STARTS, **blocks)
        self.network = network
        self.correction = correction

    def query(self, state: State, X_query: Tensor) -> Tensor:
        """Return the logits of query rows, at the temperature of the support's size.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `adapt`.
        X_query : Tensor of shape (n_tasks, n_query, n_columns)
            Query rows; each is scored on its own.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_classes)
            Logits; the dtype's minimum for a class without support rows.
        """
        slope = self.numbers("temperature_shots")
        log_factor = self.numbers("temperature") + slope * state["log_count"]
        logits = super().query(state, X_query) * log_factor.exp()[:, None, None]
        return mask_absent(logits, state["present"])

    def _describe(self, X: Tensor, Y: Tensor, mask: Tensor) -> State:
        """Classes without rows are absent; the count is that of rows per class."""
        present = class_counts(Y) > 0
        count = mask.sum(1).clamp_min(1)
        shots = (count / present.sum(1).clamp_min(1)).to(X)
        rows = zero_padding(self._with_features(X), mask)
        center = rows.sum(1, keepdim=True) / count[:, None, None]
        return {"present": present, "log_count": shots.log(), "center": center}

    def _rows(self, state: State, X: Tensor) -> Tensor:
        """Rows as seen from the middle of the support."""
        return self._with_features(X) - state["center"]

    def _with_features(self, X: Tensor) -> Tensor:
        """Rows with the learned features as a last block."""
        if self.network is None:
            return X
        return torch.cat([X, apply_rows(self.network, X)], -1)

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """A linear term and a squared exponential for each block."""
        terms = [
            linear * (part_a @ part_b.mT) / part_a.shape[-1]
            + rbf * squared_exponential(part_a, part_b, width)
            for part_a, part_b, linear, rbf, width in zip(
                self._blocks(a), self._blocks(b), *self._weights(), strict=True
            )
        ]
        return torch.stack(terms).sum(0)

    def _variance(self, rows: Tensor) -> Tensor:
        """The diagonal of the kernel."""
        linear, rbf, _ = self._weights()
        squares = [block.square().mean(-1) for block in self._blocks(rows)]
        return torch.stack(squares, -1) @ linear + rbf.sum()

    def _blocks(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The blocks of rows, with that of the learned features last."""
        size, n_columns = self.block_size, self.block_size * self.n_blocks
        blocks = rows[..., :n_columns].split(size, -1)
        return blocks if self.network is None else (*blocks, rows[..., n_columns:])

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights of the terms and length scales, each (n_terms,)."""
        return (
            self.numbers("linear").exp(),
            self.numbers("rbf").exp(),
            self.numbers("width").exp(),
        )

    def _offset(self, state: State, X: Tensor) -> Tensor:
        """Every class of the support is as likely as another."""
        present = state["present"]
        zero = X.new_zeros(*X.shape[:-1], present.shape[-1])
        return mask_absent(zero, present)
