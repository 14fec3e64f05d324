"""The default optimizer of the outer loop, and clipping of the outer gradient."""

import inspect
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

# what `PlainAdamW` takes besides the rate; with other options torch's own is used
OWN_OPTIONS = {"weight_decay", "betas", "eps"}


class _Update(NamedTuple):
    """Weights that are updated by one call, and what AdamW knows of each."""

    options: dict
    weights: list[Tensor]
    moments: list[Tensor]
    squares: list[Tensor]
    counts: Tensor  # of their steps, so that all are counted by one call
    steps: list[Tensor]  # the same, one by one

    @classmethod
    def of(cls, options: dict, weights: list[Tensor], states: list[dict]) -> "_Update":
        """Gather the states of some weights, whose counts become parts of a tensor."""
        moments, squares, steps = (
            [state[name] for state in states]
            for name in ("exp_avg", "exp_avg_sq", "step")
        )
        counts = torch.stack(steps)
        steps = list(counts.unbind())
        for state, step in zip(states, steps, strict=True):
            state["step"] = step
        return cls(options, weights, moments, squares, counts, steps)

    def run(self, divisor: Tensor | None, rate: Tensor | None) -> None:
        """Update the weights by their gradients, after a division by a number.

        The rate is that of the options, unless it is given.
        """
        self.counts.add_(1)
        torch._fused_adamw_(
            self.weights,
            [g for p in self.weights if (g := p.grad) is not None],
            self.moments,
            self.squares,
            [],
            self.steps,
            lr=self.options["lr"] if rate is None else rate,
            beta1=self.options["betas"][0],
            beta2=self.options["betas"][1],
            weight_decay=self.options["weight_decay"],
            eps=self.options["eps"],
            amsgrad=False,
            maximize=False,
            grad_scale=divisor,
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
    _updates: list[_Update]

    # without the decorator that imports the compiler
    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)

    def __setstate__(self, state: dict) -> None:
        """Take over a state, of which nothing is known yet."""
        super().__setstate__(state)
        self._learned = None

    def clip_and_step(self, max_norm: float | None, rate: Tensor | None = None) -> None:
        """Take a step along the gradient, scaled down to a norm if it is given.

        A rate in the memory of the device takes the place of that of the options.
        """
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        learned = tuple([gradient is not None for gradient in gradients])
        if learned != self._learned:
            self._learned, self._updates = learned, list(self._find_updates())
        if not self._updates:
            return
        with torch.no_grad():
            excess = None if max_norm is None else _excess(gradients, max_norm)
            for update in self._updates:
                update.run(excess, rate)

    def _find_updates(self) -> Iterator[_Update]:
        """Yield the weights of each group that have gradients, with their state."""
        for group in self.param_groups:
            learned = [p for p in group["params"] if p.grad is not None]
            if learned:
                states = [self.state[p] or self._start(p) for p in learned]
                yield _Update.of(group, learned, states)

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
    torch._foreach_div_(gradients, _excess(gradients, max_norm))


def _excess(gradients: Iterable[Tensor | None], max_norm: float) -> Tensor:
    """Return how many times a gradient is longer than a norm, at least 1."""
    flat = _flatten_dense_tensors([g for g in gradients if g is not None])
    return flat.dot(flat).sqrt_().div_(max_norm).clamp_min_(1.0)
