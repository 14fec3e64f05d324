"""The default optimizer of the outer loop, and clipping of the outer gradient."""

import inspect

import torch
from torch import Tensor

# what `PlainAdamW` takes besides the rate; with other options torch's own is used
OWN_OPTIONS = {"weight_decay", "betas", "eps"}


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

    # without the decorator that imports the compiler
    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)

    def clip_and_step(self, max_norm: float | None) -> None:
        """Take a step along the gradient, scaled down to a norm if it is given."""
        groups = [
            (group, [p for p in group["params"] if p.grad is not None])
            for group in self.param_groups
        ]
        gradients = [p.grad for _, learned in groups for p in learned]
        excess = None
        if max_norm is not None and gradients:
            excess = _excess(gradients, max_norm)
        for group, learned in groups:
            if learned:
                self._update(group, learned, excess)

    @torch.no_grad()
    def _update(
        self, options: dict, learned: list[Tensor], divisor: Tensor | None
    ) -> None:
        """Update weights by their gradients, which are divided by a number first."""
        if not any(self.state[p] for p in learned):
            # side by side, so that all are counted by one call
            counts = torch.zeros(len(learned), device=learned[0].device)
            for weight, count in zip(learned, counts.unbind(), strict=True):
                self._start(weight, count)
        states = [self.state[p] or self._start(p) for p in learned]
        steps = [state["step"] for state in states]
        _add_one(steps)
        torch._fused_adamw_(
            learned,
            [p.grad for p in learned],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            lr=options["lr"],
            beta1=options["betas"][0],
            beta2=options["betas"][1],
            weight_decay=options["weight_decay"],
            eps=options["eps"],
            amsgrad=False,
            maximize=False,
            grad_scale=divisor,
            found_inf=None,
        )

    def _start(self, weight: Tensor, count: Tensor | None = None) -> dict[str, Tensor]:
        """Return the moments of a weight before its first step."""
        self.state[weight] = {
            "step": torch.zeros((), device=weight.device) if count is None else count,
            "exp_avg": torch.zeros_like(weight),
            "exp_avg_sq": torch.zeros_like(weight),
        }
        return self.state[weight]


def _add_one(steps: list[Tensor]) -> None:
    """Count a step; a loop over the counts takes as long as to clip the gradient."""
    whole = steps[0]._base
    side_by_side = all(step._base is whole for step in steps)
    if whole is not None and side_by_side and whole.numel() == len(steps):
        whole.add_(1)
    else:
        torch._foreach_add_(steps, 1)


def clip_gradient(parameters: list[Tensor], max_norm: float) -> None:
    """Scale a gradient down to a norm; `nn.utils` takes four times as long for it."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    torch._foreach_div_(gradients, _excess(gradients, max_norm))


def _excess(gradients: list[Tensor], max_norm: float) -> Tensor:
    """Return how many times a gradient is longer than a norm, at least 1."""
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    return flat.dot(flat).sqrt_().div_(max_norm).clamp_min_(1.0)
