"""The default optimizer of the outer loop, and clipping of the outer gradient."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

from sklearn_meta.functional.compiled_adamw import CompiledAdamW

# what `PlainAdamW` takes besides the rate; with other options torch's own is used
OWN_OPTIONS = {"weight_decay", "betas", "eps"}


class _TorchAdamW:
    """The same as `CompiledAdamW`, on any device."""

    def __init__(
        self,
        options: Mapping[str, Any],
        weights: Sequence[Tensor],
        moments: Sequence[Tensor],
        squares: Sequence[Tensor],
        counts: Tensor,
    ) -> None:
        self._options, self._weights = options, list(weights)
        self._moments, self._squares = list(moments), list(squares)
        # all are counted by one call, and read one by one
        self._counts, self._steps = counts, list(counts.unbind())

    def look(self) -> None:
        """Find the gradients of this step."""
        # torch's call reads numbers as they lie
        found = [p.grad.contiguous() for p in self._weights if p.grad is not None]
        self._gradients = found

    def squared_norm(self) -> Tensor:
        """Return the sum of the squares of all gradients, of shape ()."""
        flat = _flatten_dense_tensors(self._gradients)
        return flat.dot(flat)

    def run(self, divisor: Tensor | None) -> None:
        """Take a step along the gradients, after a division by a number."""
        self._counts.add_(1)
        torch._fused_adamw_(
            self._weights,
            self._gradients,
            self._moments,
            self._squares,
            [],
            self._steps,
            lr=self._options["lr"],
            beta1=self._options["betas"][0],
            beta2=self._options["betas"][1],
            weight_decay=self._options["weight_decay"],
            eps=self._options["eps"],
            amsgrad=False,
            maximize=False,
            grad_scale=None if divisor is None else divisor.float(),
            found_inf=None,
        )


class PlainAdamW(torch.optim.AdamW):
    """AdamW whose step clips the gradient and updates the weights, and does no more.

    At each step torch's own groups the tensors by type and device, opens a record for
    its profiler and looks for hooks, which takes longer than to update the weights of a
    small network; and the first of a process imports torch's compiler, to keep it away,
    which takes longer than many a fit. State and parameter groups are the same.

    Parameters
    ----------
    params : iterable of Tensor
        The weights.
    **options : dict
        As of ``torch.optim.AdamW``; ``fused=True`` is a must.
    """

    # which weights had a gradient in the last step, and how they were updated: to find
    # that out takes longer than the update
    _learned: tuple[bool, ...] | None = None
    _updates: list[CompiledAdamW] | list[_TorchAdamW]

    # without the decorator that imports the compiler
    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)

    def __setstate__(self, state: dict) -> None:
        """Take over a state, of which nothing is known yet."""
        super().__setstate__(state)
        self._learned = None

    def clip_and_step(self, max_norm: float | None) -> None:
        """Take a step along the gradient, scaled down to a norm if it is given."""
        learned = tuple(
            [p.grad is not None for group in self.param_groups for p in group["params"]]
        )
        if learned != self._learned:
            self._learned, self._updates = learned, self._find_updates()
        if not self._updates:
            return
        with torch.no_grad():
            for update in self._updates:
                update.look()
            excess = None
            if max_norm is not None:
                squared = sum(update.squared_norm() for update in self._updates)
                excess = _excess(squared, max_norm)
            for update in self._updates:
                update.run(excess)

    def _find_updates(self) -> list[CompiledAdamW] | list[_TorchAdamW]:
        """Return how to update the weights of each group that have gradients."""
        parts = []
        for group in self.param_groups:
            learned = [p for p in group["params"] if p.grad is not None]
            if learned:
                parts.append((group, learned, *self._states(learned)))
        if all(CompiledAdamW.takes(*part) for part in parts):
            return [CompiledAdamW(*part) for part in parts]
        return [_TorchAdamW(*part) for part in parts]

    def _states(
        self, weights: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Return moments, squares and counts; the latter lie in one tensor from now."""
        states = [self.state[p] or self._start(p) for p in weights]
        counts = torch.stack([state["step"] for state in states])
        for state, count in zip(states, counts.unbind(), strict=True):
            state["step"] = count
        moments = [state["exp_avg"] for state in states]
        return moments, [state["exp_avg_sq"] for state in states], counts

    def _start(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the moments of a weight before its first step."""
        self.state[weight] = {
            "step": torch.zeros((), device=weight.device),
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
        return self.state[weight]


def clip_gradient(parameters: list[Tensor], max_norm: float) -> None:
    """Scale a gradient down to a norm; `nn.utils` takes four times as long for it."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = _flatten_dense_tensors(gradients)
    torch._foreach_div_(gradients, _excess(flat.dot(flat), max_norm))


def _excess(squared: Any, max_norm: float) -> Any:
    """Return how many times a gradient is longer than a norm, at least 1.

    It is given by the square of its length, a number or, where that takes no wait for
    it, a tensor.
    """
    if isinstance(squared, Tensor):
        return squared.sqrt().div_(max_norm).clamp_min_(1.0)
    excess = math.sqrt(squared) / max_norm
    return 1.0 if excess < 1 else excess  # NaN stays NaN
