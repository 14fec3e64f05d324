"""Gaussian processes on several forms of a row, for labels local to the task."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from sklearn_meta.functional import (
    apply_rows,
    check_row_independent,
    class_counts,
    mask_absent,
    squared_exponential,
    zero_padding,
)
from sklearn_meta.learners.laplace import LaplaceLearner
from sklearn_meta.learners.parts import LearnedNumbers, State
from sklearn_meta.learners.process import ProcessLearner


class LocalClassKernelLearner(LaplaceLearner):
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
        Maps rows (n, block_size) to features (n, width) that make one more block. It
        reads the second block, or the first one where there is no other.
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
        """As of the base class; the count is that of rows per class.

        Classes without rows are absent. "center" (n_tasks, 1, n_coordinates) is the
        mean of the support.
        """
        present = class_counts(Y) > 0
        count = mask.sum(1).clamp_min(1)
        shots = (count / present.sum(1).clamp_min(1)).to(X)
        rows = zero_padding(self._with_features(X), mask)
        center = rows.sum(1, keepdim=True) / count[:, None, None]
        return {"present": present, "log_count": shots.log(), "center": center}

    def _rows(self, state: State, X: Tensor) -> Tensor:
        """Rows (n_tasks, n_rows, n_coordinates) seen from the support's middle."""
        return self._with_features(X) - state["center"]

    def _with_features(self, X: Tensor) -> Tensor:
        """Rows (n_tasks, n_rows, n_coordinates), learned features as last block."""
        if self.network is None:
            return X
        begin = self.block_size if self.n_blocks > 1 else 0
        read = X[..., begin : begin + self.block_size]
        return torch.cat([X, apply_rows(self.network, read)], -1)

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """A linear and a squared exponential term a block, (n_tasks, n_a, n_b)."""
        terms = [
            linear * (part_a @ part_b.mT) / part_a.shape[-1]
            + rbf * squared_exponential(part_a, part_b, width)
            for part_a, part_b, linear, rbf, width in zip(
                self._blocks(a), self._blocks(b), *self._weights(), strict=True
            )
        ]
        return torch.stack(terms).sum(0)

    def _variance(self, rows: Tensor) -> Tensor:
        """The diagonal of the kernel, (n_tasks, n_rows)."""
        linear, rbf, _ = self._weights()
        squares = [block.square().mean(-1) for block in self._blocks(rows)]
        return torch.stack(squares, -1) @ linear + rbf.sum()

    def _blocks(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The blocks of rows, each (n_tasks, n_rows, width), learned features last."""
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
        """Classes of the support are alike, (n_tasks, n_rows, n_classes)."""
        present = state["present"]
        zero = X.new_zeros(*X.shape[:-1], present.shape[-1])
        return mask_absent(zero, present)
