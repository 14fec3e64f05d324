"""A logistic head on a fixed embedding: a few numbers are learned, no network."""

from typing import ClassVar

import torch
from torch import Tensor

from sklearn_meta.functional import (
    mask_absent,
    softmax_coefficients,
    squared_exponential,
    zero_padding,
)
from sklearn_meta.learners.contract import Learner
from sklearn_meta.learners.parts import LearnedNumbers


class LogisticPrototypeLearner(Learner):
    """Softmax regression on the support, started at its class means.

    The rows come in three blocks of equal width: in their own units, standardised, and
    whitened; all are centred on the support. A task's classifier is softmax regression
    with the kernel ``K^shots (bias + sum of terms)``, where K is the number of shots.
    There is a linear term ``x.x'`` for each block, and a squared exponential of the
    distance for the first and the last. Inner products and squared distances are
    divided by the width of a block. Eleven numbers are learned: the weight of each
    term, two length scales, and two that say how regular the solution is and how sure
    the logits are, with a slope in log K.

    Notes
    -----
    The numbers start at values that do well untrained on tables with few classes.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.learners import LogisticPrototypeLearner
    >>> learner = LogisticPrototypeLearner()
    >>> X, Y = torch.randn(1, 2, 6), torch.eye(2)[None]
    >>> mask = torch.ones(1, 2, dtype=torch.bool)
    >>> learner(X, Y, mask, torch.randn(1, 7, 6)).shape
    torch.Size([1, 7, 2])
    """

    STARTS: ClassVar[dict[str, float]] = {
        "bias": 0.0,
        "plain": 0.6,
        "scaled": 0.6,
        "white": 0.4,
        "rbf_plain": 1.2,
        "rbf_white": 1.2,
        "width_plain": -0.5,
        "width_white": -0.75,
        "shots": 0.5,
        "temperature": 0.75,
        "temperature_shots": -0.1,
    }

    def __init__(self) -> None:
        super().__init__()
        self.numbers = LearnedNumbers(**self.STARTS)

    def adapt(
        self, X_support: Tensor, Y_support: Tensor, support_mask: Tensor
    ) -> dict[str, Tensor]:
        """Solve the softmax regression of every task.

        Parameters
        ----------
        X_support : Tensor of shape (n_tasks, n_support, 3 * block_size)
            Support rows, block by block.
        Y_support : Tensor of shape (n_tasks, n_support, n_classes)
            One-hot classes.
        support_mask : Tensor of shape (n_tasks, n_support), bool
            True for a real row.

        Returns
        -------
        dict of str to Tensor, tasks first
            The centre, the centred support rows, their coefficients, "present"
            (n_tasks, n_classes) and "log_shots" (n_tasks,).
        """
        X = zero_padding(X_support, support_mask)
        Y = zero_padding(Y_support, support_mask)
        count = support_mask.sum(1).clamp_min(1)
        center = X.sum(1, keepdim=True) / count[:, None, None]
        present = Y.sum(1) > 0
        log_shots = (count / present.sum(1).clamp_min(1)).to(X).log()
        rows = zero_padding(X - center, support_mask)
        kernel = self._kernel(rows, rows, log_shots)
        return {
            "center": center,
            "rows": rows,
            "coefficients": softmax_coefficients(kernel, Y, support_mask),
            "present": present,
            "log_shots": log_shots,
        }

    def query(self, state: dict[str, Tensor], X_query: Tensor) -> Tensor:
        """Return the logits of query rows.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `adapt`.
        X_query : Tensor of shape (n_tasks, n_query, 3 * block_size)
            Query rows; each is scored on its own.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_classes)
            Logits.
        """
        log_shots = state["log_shots"]
        rows = X_query - state["center"]
        logits = self._kernel(rows, state["rows"], log_shots) @ state["coefficients"]
        temperature = self.numbers("temperature") + log_shots * self.numbers(
            "temperature_shots"
        )
        return mask_absent(logits * temperature.exp()[:, None, None], state["present"])

    def _kernel(self, a: Tensor, b: Tensor, log_shots: Tensor) -> Tensor:
        """Kernel of centred rows, (n_tasks, n_a, n_b)."""
        size = a.shape[-1] // 3
        kernel = self._weight("bias") * torch.ones((), dtype=a.dtype, device=a.device)
        for i, name in enumerate(("plain", "scaled", "white")):
            block_a = a[..., i * size : (i + 1) * size]
            block_b = b[..., i * size : (i + 1) * size]
            kernel = kernel + self._weight(name) * (block_a @ block_b.mT) / size
            if name != "scaled":
                width = self._weight(f"width_{name}")
                rbf = squared_exponential(block_a, block_b, width)
                kernel = kernel + self._weight(f"rbf_{name}") * rbf
        return kernel * (self.numbers("shots") * log_shots).exp()[:, None, None]

    def _weight(self, name: str) -> Tensor:
        """A learned number that must be positive."""
        weight: Tensor = self.numbers(name).exp()
        return weight
