"""AdamW in C: a step of a small network takes less time than one call of torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sklearn_meta.functional.compiled_call import is_served
from sklearn_meta.functional.compiled_library import Update, Weight, load_library


class CompiledAdamW:
    """Updates some weights, and what AdamW knows of each, in place.

    A step is `look`, then `squared_norm` if that is wanted, then `run`.

    Parameters
    ----------
    options : mapping of str to object
        "lr", "weight_decay", "betas" and "eps" of AdamW; may change between steps.
    weights : sequence of Tensor
        Such that `takes` is True, with gradients at every step.
    moments, squares : sequence of Tensor
        Running means of the gradient and of its square, like the weights.
    counts : Tensor of shape (n_weights,), float32
        Steps that each weight has taken.

    References
    ----------
    I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
    algorithm 2.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        weights: Sequence[Tensor],
        moments: Sequence[Tensor],
        squares: Sequence[Tensor],
        counts: Tensor,
    ) -> None:
        self._options, self._weights = options, weights
        # the library gets their addresses
        self._kept = moments, squares, counts
        library: Any = load_library()
        self._library = library
        self._entries = (Weight * len(weights))()
        for entry, moment, square in zip(self._entries, moments, squares, strict=True):
            entry.n_numbers = moment.numel()
            entry.moment, entry.square = moment.data_ptr(), square.data_ptr()
        self._update = Update(
            weights[0].dtype == torch.float64,
            len(weights),
            self._entries,
            counts.data_ptr(),
            instructions=library.widest_instructions(),
        )

    @staticmethod
    def takes(
        options: Mapping[str, Any],
        weights: Sequence[Tensor],
        moments: Sequence[Tensor],
        squares: Sequence[Tensor],
        counts: Tensor,
    ) -> bool:
        """Whether the library is there, and reads numbers as they lie.

        Parameters
        ----------
        options, weights, moments, squares, counts
            As of the class.

        Returns
        -------
        bool
            True for tensors of one type on the CPU, without gaps.
        """
        dtype = weights[0].dtype
        return (
            is_served(weights[0])
            and counts.dtype == torch.float32
            and all(
                values.dtype == dtype and values.is_cpu and values.is_contiguous()
                for values in (*weights, *moments, *squares)
            )
        )

    def look(self) -> None:
        """Find weights and gradients where they lie in this step."""
        found = [p.grad.contiguous() for p in self._weights if p.grad is not None]
        self._gradients = found
        parts = zip(self._entries, self._weights, found, strict=True)
        for entry, weight, gradient in parts:
            entry.weight, entry.gradient = weight.data_ptr(), gradient.data_ptr()

    def squared_norm(self) -> float:
        """Return the sum of the squares of all gradients."""
        squared: float = self._library.squares(self._update)
        return squared

    def run(self, divisor: float | None) -> None:
        """Take a step along the gradients, after a division by a number."""
        update, options = self._update, self._options
        update.lr, update.weight_decay = options["lr"], options["weight_decay"]
        update.beta1, update.beta2 = options["betas"]
        update.eps, update.divisor = options["eps"], divisor or 1.0
        self._library.adamw(update)
