"""The inner loop of a gradient learner: steps on the support rows of all tasks."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sklearn_meta.functional import (
    add_offset,
    categorical_nll,
    cross_entropy_loss,
    inner_loop,
    last_columns,
    squared_error,
    squared_error_loss,
    stack_parameters,
)
from sklearn_meta.functional.compiled import compiled_adapt_rows
from sklearn_meta.functional.compiled_call import is_served
from sklearn_meta.functional.derivatives import InnerLoss
from sklearn_meta.functional.inner_loop import Rates
from sklearn_meta.functional.inner_optimizers import UpdateRule
from sklearn_meta.learners.adaptable import Params
from sklearn_meta.learners.engines import PlannedNetwork
from sklearn_meta.learners.outer_step import Rows


class DescentLearner(PlannedNetwork):
    """A network whose tasks go down the loss of their support, by its engine."""

    second_order: bool
    n_offsets: int
    rule: UpdateRule

    def _adapt(
        self,
        X_support: Tensor,
        Y_support: Tensor,
        support_mask: Tensor,
        visit: Callable[[Params], None] | None = None,
    ) -> dict[str, Tensor]:
        """As `adapt`; `visit` is shown the parameters after every step."""
        if torch.is_inference_mode_enabled():
            # Its tensors cannot carry the gradients that adapting consists of.
            with torch.inference_mode(False):
                return self._adapt(
                    X_support.clone(), Y_support.clone(), support_mask.clone(), visit
                )
        rows = Rows(X_support, Y_support, support_mask)
        if visit is None and self._is_served_by_row():
            state = self._adapt_by_row(rows)
            if state is not None:
                return state
        X, Y, _ = rows if rows.is_whole() else rows.without_padding()
        state = self._describe_support(Y, support_mask)
        start, encoded = self._starting_parameters(X, Y), self._encode(X)
        if not self._is_differentiable():
            start, encoded = _detached(start), encoded.detach()
        with torch.enable_grad():
            offset = last_columns(X, self.n_offsets)
            params, diverged = self._descend(
                start, encoded, Y, support_mask, state, offset, visit
            )
        state = {**state, **params, "diverged": diverged}
        return state if self._is_differentiable() else _detached(state)

    def _is_served_by_row(self) -> bool:
        """Whether a new task can go to the compiled engine as it is."""
        return (
            not self.training
            and self._engine == "compiled"
            and self.head == "linear"
            and not self._frozen_layers
            and self.adapt_steps > 0
        )

    def _adapt_by_row(self, rows: Rows) -> dict[str, Tensor] | None:
        """As `_adapt`; None if the engine is not there or a task has diverged."""
        start = self._chain_parameters()
        first = start.get(self._chain[0][0] + ".weight")
        if first is None or not is_served(first) or len(start) < len(self._chain_names):
            return None
        has_classes = self.likelihood == "categorical"
        params, diverged, present = compiled_adapt_rows(
            self._chain,
            start,
            rows,
            self._current_rates(),
            self.adapt_steps,
            has_classes=has_classes,
            n_offsets=self.n_offsets,
        )
        if any(diverged.tolist()):
            return None
        if has_classes:
            return {"present": present, **params, "diverged": diverged}
        noise = _detached(self._describe_support(rows.Y, rows.mask))
        return {**noise, **params, "diverged": diverged}

    def _descend(
        self,
        start: dict[str, Tensor],
        rows: Tensor,
        Y: Tensor,
        mask: Tensor,
        support: dict[str, Tensor],
        offset: Tensor | None,
        visit: Callable[[Params], None] | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Run the inner loop; guarded and first order where nothing looks through.

        Parameters
        ----------
        start : dict of str to Tensor
            Where the tasks start, shared by them or of shape (n_tasks, ...).
        rows : Tensor of shape (n_tasks, n_support, n_inputs)
            Encoded support rows.
        Y, mask : Tensor
            As of `adapt`.
        support : dict of str to Tensor
            As of `_describe_support`.
        offset : Tensor of shape (n_tasks, n_support, n_outputs) or None
            Added to the outputs.
        visit : callable, default=None
            Called with the parameters after every step.

        Returns
        -------
        params : dict of str to Tensor of shape (n_tasks, ...)
            Where the steps lead.
        diverged : Tensor of shape (n_tasks,), bool
            Whether they leave the finite numbers or lead up.
        """
        if self._is_recursive(start):
            return self._descend_by_formulas(start, rows, Y, mask, support, offset)
        shared = self._network_parameters()
        start = {**start, **stack_parameters(shared, len(rows))}
        return inner_loop(
            lambda params, X: add_offset(self._outputs(params, support, X), offset),
            start,
            rows,
            Y,
            mask,
            INNER_LOSSES[self.likelihood],
            self._rates_of_steps(),
            self._n_steps(),
            rule=self.rule,
            second_order=self.second_order and self._is_differentiable(),
            clip=self.clip_inner_gradient,
            guard=not self.training,
            visit=visit,
        )

    def _takes_plain_steps(self) -> bool:
        """Whether the steps are those of this class."""
        return type(self)._descend is DescentLearner._descend

    def _descend_by_formulas(
        self,
        start: dict[str, Tensor],
        rows: Tensor,
        Y: Tensor,
        mask: Tensor,
        support: dict[str, Tensor],
        offset: Tensor | None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Run the inner loop of a perceptron by formulas; shapes as in `_descend`."""
        start, lr = self._absorb_scale(start, self._current_rates())
        loss = self._known_loss(Y, mask, support, offset)
        formulas = self._formulas(start)
        if self._is_differentiable():
            params = formulas.adapt(
                self._chain,
                start,
                rows,
                loss,
                lr,
                self._n_steps(),
                second_order=self.second_order,
            )
            diverged = mask.new_zeros(len(mask))
        else:
            params, diverged = formulas.adapt_without_graph(
                self._chain,
                start,
                rows,
                loss,
                lr,
                self._n_steps(),
                guard=not self.training,
            )
        for name in self._head_names():
            params[name] = params[name] / self._logit_scale(start["head.weight"])
        return params, diverged

    def _known_loss(
        self,
        Y: Tensor,
        mask: Tensor,
        support: dict[str, Tensor],
        offset: Tensor | None,
    ) -> InnerLoss:
        """Loss of the support rows, for formulas; shapes as in `_descend`."""
        if self.likelihood == "gaussian":
            return squared_error_loss(Y, mask)
        present = support["present"] if self.head == "prototypes" else None
        return cross_entropy_loss(Y, mask, present, offset)

    def _absorb_scale(
        self, start: dict[str, Tensor], lr: Rates
    ) -> tuple[dict[str, Tensor], Rates]:
        """Parameters and rates of a head whose outputs are the logits themselves.

        With logits s (w z + b), steps of rate r on w are steps of rate r s^2 on s w.
        Shapes are those of `_descend`.
        """
        names = self._head_names()
        if not names:
            return start, lr
        scale = self._logit_scale(start["head.weight"])
        rates = lr if isinstance(lr, Mapping) else dict.fromkeys(start, lr)
        # First order holds the inner gradient, of which one factor is a part.
        squared = scale * (scale if self.second_order else scale.detach())
        return (
            {**start, **{name: scale * start[name] for name in names}},
            {**rates, **{name: squared * rates[name] for name in names}},
        )


def _inner_squared_error(outputs: Tensor, Y: Tensor) -> Tensor:
    """Squared error of the network's only output, (n_tasks, n_rows)."""
    return squared_error(outputs.squeeze(-1), Y)


INNER_LOSSES = {"gaussian": _inner_squared_error, "categorical": categorical_nll}


def _detached(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, of any shape, without a graph."""
    return {
        name: value.detach() if value.requires_grad else value
        for name, value in tensors.items()
    }
