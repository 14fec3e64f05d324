"""What learners share whose outer gradient needs no step of the inner loop."""

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_meta.functional import add_offset, descend, stack_parameters
from sklearn_meta.functional.evaluation import (
    Evaluate,
    evaluate_by_autograd,
    evaluate_by_formulas,
)
from sklearn_meta.learners.adaptable import Params
from sklearn_meta.learners.descent import INNER_LOSSES
from sklearn_meta.learners.gradient import GradientLearner


class Support(NamedTuple):
    """Support rows, and what the loss of their predictions depends on besides."""

    rows: Tensor
    Y: Tensor
    mask: Tensor
    state: dict[str, Tensor]
    offset: Tensor | None


class PathFreeLearner(GradientLearner):
    """A gradient learner that takes its steps without a graph.

    Parameters and attributes are those of :class:`GradientLearner`. The formulas of the
    "recursion" serve every inner optimizer, since no derivative of a step is asked for.
    A subclass says what the outer gradient is instead.

    Notes
    -----
    A head of prototypes moves in units in which its logits have a scale of one, so that
    the learned scale is a part of where the head starts.
    """

    @abstractmethod
    def _attach(self, start: Params, ended: Params, support: Support) -> Params:
        """Where the steps ended, with the outer gradient's way to where they started.

        Both have an axis of tasks; autograd tracks `start`.
        """

    def _objective(self, evaluate: Evaluate, start: Params) -> Evaluate:
        """What the steps go down, given the support loss and where they started."""
        return evaluate

    def _has_formulas(self) -> bool:
        """Whatever the optimizer: formulas give gradients, and those are enough."""
        return True

    def _descend(
        self,
        start: Params,
        rows: Tensor,
        Y: Tensor,
        mask: Tensor,
        state: dict[str, Tensor],
        offset: Tensor | None,
        visit: Callable[[Params], None] | None = None,
    ) -> tuple[Params, Tensor]:
        """Run the inner loop, guarded against steps that diverge.

        Shapes are those of the base class.
        """
        start = self._stacked_start(start, len(rows))
        support = Support(rows, Y, mask, state, offset)
        with torch.set_grad_enabled(not self._is_recursive(start)):
            ended, diverged = self._solve(
                self._objective(self._support_loss(start, support), start),
                leaves(start),
                visit,
            )
        if self._is_differentiable():
            ended = self._attach(start, ended, support)
        return self._release_scale(ended), diverged

    def _solve(
        self,
        evaluate: Evaluate,
        start: Params,
        visit: Callable[[Params], None] | None,
    ) -> tuple[Params, Tensor]:
        """Where the steps lead, and which tasks diverge."""
        return descend(
            evaluate,
            start,
            self.inner_lr,
            self._n_steps(),
            rule=self.rule,
            guard=True,  # nothing looks through the steps: in training, too
            visit=visit,
        )

    def _stacked_start(self, start: Params, n_tasks: int) -> Params:
        """Where each task starts, the scale of the logits being a part of its head."""
        stacked = stack_parameters(self._network_parameters(), n_tasks)
        heads = {name: start[name] for name in self._head_names()}
        if heads:
            scale = self._logit_scale(heads["head.weight"])
            heads = {name: scale * head for name, head in heads.items()}
        return {**stacked, **heads}

    def _release_scale(self, params: Params) -> Params:
        """Parameters whose head leaves the scale to `query`."""
        heads = {name: params[name] for name in self._head_names()}
        if not heads:
            return params
        scale = self._logit_scale(heads["head.weight"])
        return {**params, **{name: head / scale for name, head in heads.items()}}

    def _support_loss(
        self, start: Params, support: Support, *, second_order: bool = False
    ) -> Evaluate:
        """Losses and gradients of support rows, by this learner's engine."""
        rows, Y, mask, state, offset = support
        if self._is_recursive(start):
            loss = self._known_loss(Y, mask, state, offset)
            return evaluate_by_formulas(self._chain, rows, loss)

        def forward(params: Params, X: Tensor) -> Tensor:
            outputs = self._outputs(self._release_scale(params), state, X)
            return add_offset(outputs, offset)

        return evaluate_by_autograd(
            forward,
            rows,
            Y,
            mask,
            INNER_LOSSES[self.likelihood],
            tuple(start),
            second_order=second_order,
        )


def leaves(params: Params) -> Params:
    """The same values, from which autograd starts anew."""
    return {name: p.detach().requires_grad_() for name, p in params.items()}
