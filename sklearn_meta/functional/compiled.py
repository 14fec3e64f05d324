"""The formulas of `recursion` in C, one task after another.

There every line runs for all tasks at once, one call of torch after another. In C a
task's weights and activations stay in the nearest cache while it runs through all of
them. The functions here take and return what those of the same name in `recursion`,
`descent`, `outer_gradient` and `perceptron` do, for tensors of float32 or float64 on
the CPU.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from sklearn_meta.functional.compiled_call import Call
from sklearn_meta.functional.compiled_library import Noise
from sklearn_meta.functional.derivatives import InnerLoss
from sklearn_meta.functional.evaluation import evaluate_by_formulas
from sklearn_meta.functional.inner_loop import Rates, descend
from sklearn_meta.functional.outer_gradient import OuterGradient
from sklearn_meta.functional.perceptron import Chain, Parameters, run_perceptron
from sklearn_meta.functional.recursion import (
    Plan,
    apply_loop,
    learned_rates,
    with_task_axis,
)


def compiled_outer_gradient(
    chain: Chain,
    params: Mapping[str, Tensor],
    X: Tensor,
    loss: InnerLoss,
    lr: Rates,
    n_steps: int,
    X_query: Tensor,
    query_loss: InnerLoss,
    *,
    second_order: bool = True,
) -> OuterGradient:
    """The same as :func:`outer_gradient`.

    Parameters
    ----------
    chain, params, X, loss, lr, n_steps, X_query, query_loss, second_order
        As in :func:`outer_gradient`.

    Returns
    -------
    OuterGradient
        As of :func:`outer_gradient`.
    """
    with torch.no_grad():
        call = Call(chain, params, X)
        _set_support(call, loss, lr, n_steps)
        call.problem.query = call.rows(X_query, query_loss)
        call.problem.second_order = second_order
        losses, call.problem.losses = call.new(len(X))
        of_start = call.new_parameters()
        of_rates = call.new_rates(lr)
        call.run("differentiate")
        return OuterGradient(losses, of_start, _in_shape(of_rates, lr))


def compiled_outer_loss(
    chain: Chain,
    params: Mapping[str, Tensor],
    support: tuple[Tensor, Tensor, Tensor],
    query: tuple[Tensor, Tensor, Tensor],
    lr: Rates,
    n_steps: int,
    *,
    second_order: bool,
    noise: tuple[Tensor, Tensor, float] | None = None,
    n_offsets: int = 0,
    present: Tensor | None = None,
) -> tuple[Tensor, Parameters, Parameters, list[Tensor]]:
    """Everything about an outer step in one call: its loss and all gradients.

    Parameters
    ----------
    chain, params, lr, n_steps, second_order
        As in :func:`outer_gradient`.
    support, query : tuple of Tensor
        Rows (n_tasks, n_rows, n_in), targets (n_tasks, n_rows, n_out) and a mask
        (n_tasks, n_rows) that is True for a real row.
    noise : tuple of (Tensor, Tensor, float), default=None
        Intercept, slope and floor of the spread, for a squared error with noise; None
        for classes.
    n_offsets : int, default=0
        How many of the last columns of the rows are added to the outputs.
    present : Tensor of shape (n_tasks, n_classes), bool, default=None
        True for a class that may be predicted; None for all.

    Returns
    -------
    losses : Tensor of shape (n_tasks,)
        Shares of the tasks in the loss: their sum is a mean over a task's own query
        rows, then over the tasks that have any.
    of_start, of_rates : dict of str to Tensor
        Gradients of the sum.
    of_noise : list of Tensor
        Those by intercept and slope.
    """
    X = support[0]
    has_classes = noise is None
    call = Call(chain, params, X)
    call.set_rates(lr)
    problem = call.problem
    problem.n_steps, problem.second_order = n_steps, second_order
    problem.has_classes = has_classes
    weight = 1.0 if has_classes else 2.0  # of a squared residual, halved
    problem.support = call.masked_rows(*support, weight, n_offsets)
    problem.query = call.masked_rows(*query, weight, n_offsets)
    if present is not None:
        known = call.address(present, len(X), call.n_out)
        problem.support.present = problem.query.present = known
    losses, problem.losses = call.new(len(X))
    of_start = call.new_parameters()
    of_rates = call.new_rates(lr)
    of_noise: list[Tensor] = []
    if noise is not None:
        of_noise, problem.noise = _new_noise(call, *noise)
    call.run("differentiate")
    return losses, of_start, _in_shape(of_rates, lr), of_noise


def _new_noise(
    call: Call, intercept: Tensor, slope: Tensor, floor: float
) -> tuple[list[Tensor], Noise]:
    """Gradients () by the two numbers () of a noise, and the noise for the library."""
    pairs = [call.new(), call.new()]
    known = call.address(intercept), call.address(slope), floor
    return [value for value, _ in pairs], Noise(*known, *(at for _, at in pairs))


def compiled_adapt_without_graph(
    chain: Chain,
    params: Mapping[str, Tensor],
    X: Tensor,
    loss: InnerLoss,
    lr: Rates,
    n_steps: int,
    *,
    guard: bool = False,
) -> tuple[Parameters, Tensor]:
    """The same as :func:`adapt_without_graph`.

    Parameters
    ----------
    chain, params, X, loss, lr, n_steps, guard
        As in :func:`adapt_without_graph`.

    Returns
    -------
    params : dict of str to Tensor of shape (n_tasks, ...)
        Adapted parameters.
    diverged : Tensor of shape (n_tasks,), bool
        As of :func:`inner_loop`.
    """
    with torch.no_grad():
        diverged = X.new_zeros(len(X), dtype=torch.bool)
        if not n_steps:
            return with_task_axis(chain, params, len(X)), diverged
        call = Call(chain, params, X)
        _set_support(call, loss, lr, n_steps)
        adapted = call.new_parameters(len(X))
        if guard:
            call.problem.diverged = diverged.data_ptr()
        call.run("adapt")
        if guard and bool(diverged.any()):  # to go back takes the iterates
            start = with_task_axis(chain, params, len(X))
            evaluate = evaluate_by_formulas(chain, X, loss)
            return descend(evaluate, start, lr, n_steps, guard=True)
        return adapted, diverged


def compiled_adapt_rows(
    chain: Chain,
    params: Mapping[str, Tensor],
    support: tuple[Tensor, Tensor, Tensor],
    lr: Rates,
    n_steps: int,
    *,
    has_classes: bool,
    n_offsets: int = 0,
) -> tuple[Parameters, Tensor, Tensor]:
    """The same as :func:`adapt_without_graph` of rows and a mask, without a way back.

    Parameters
    ----------
    chain, params, lr, n_steps
        As in :func:`adapt_without_graph`; at least one step.
    support : tuple of Tensor
        Rows (n_tasks, n_rows, n_in), targets (n_tasks, n_rows, n_out) and a mask
        (n_tasks, n_rows) that is True for a real row. Padding may hold anything.
    has_classes : bool
        Whether the loss is the cross-entropy, not the squared error.
    n_offsets : int, default=0
        How many of the last columns of the rows are added to the outputs.

    Returns
    -------
    params : dict of str to Tensor of shape (n_tasks, ...)
        Parameters at the end of the steps, wherever these led.
    diverged : Tensor of shape (n_tasks,), bool
        As of :func:`inner_loop`.
    present : Tensor of shape (n_tasks, n_out), bool
        True for a class of which the support has a row.
    """
    call = Call(chain, params, support[0])
    problem = call.problem
    weight = 1.0 if has_classes else 2.0  # of a squared residual, halved
    problem.support = call.masked_rows(*support, weight, n_offsets)
    problem.n_steps, problem.has_classes = n_steps, has_classes
    call.set_rates(lr)
    adapted = call.new_parameters(call.n_tasks)
    diverged = support[2].new_empty(call.n_tasks)
    present = support[2].new_empty((call.n_tasks, call.n_out))
    problem.diverged, problem.seen = diverged.data_ptr(), present.data_ptr()
    call.run("adapt")
    return adapted, diverged, present


def compiled_adapt(
    chain: Chain,
    params: Mapping[str, Tensor],
    X: Tensor,
    loss: InnerLoss,
    lr: Rates,
    n_steps: int,
    *,
    second_order: bool = True,
) -> Parameters:
    """The same as :func:`adapt_by_recursion`, which takes the steps again to go back.

    Parameters
    ----------
    chain, params, X, loss, lr, n_steps, second_order
        As in :func:`adapt_by_recursion`.

    Returns
    -------
    dict of str to Tensor of shape (n_tasks, ...)
        Adapted parameters. Gradients reach `params`, `X` and `lr`.
    """
    return apply_loop(_InnerLoop, chain, params, X, loss, lr, n_steps, second_order)


class _InnerLoop(Function):
    """The steps of `compiled_adapt` and their derivative, for autograd."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, X: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
        """Take the steps on X (n_tasks, n_rows, n_in)."""
        ctx.plan, ctx.X = plan, X
        ctx.params = dict(zip(plan.names, inputs, strict=False))
        adapted, _ = compiled_adapt_without_graph(
            plan.chain, ctx.params, X, plan.loss, plan.lr, plan.n_steps
        )
        return tuple(adapted[name] for name in plan.names)

    @staticmethod
    @once_differentiable  # the recursion itself has no graph
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Take the steps again, with a tape, and go back.

        Gradients are by the parameters (n_tasks, ...) after the steps.
        """
        plan: Plan = ctx.plan
        call = Call(plan.chain, ctx.params, ctx.X)
        _set_support(call, plan.loss, plan.lr, plan.n_steps)
        call.problem.second_order = plan.second_order
        of_rows = None
        if ctx.needs_input_grad[1] and plan.second_order:
            of_rows = torch.zeros_like(ctx.X, memory_format=torch.contiguous_format)
            call.problem.support.out = of_rows.data_ptr()
        call.set_v(dict(zip(plan.names, gradients, strict=True)))
        of_start = call.new_parameters()
        of_rates = call.new_rates(plan.lr)
        call.run("differentiate")
        of_rates = _in_shape(of_rates, plan.lr)
        return (
            None,
            of_rows,
            *(of_start[name] for name in plan.names),
            *(of_rates.get(name) for name in plan.rate_names),
        )


def run_compiled(chain: Chain, params: Mapping[str, Tensor], X: Tensor) -> Tensor:
    """The same as :func:`run_perceptron`, which runs where a graph is wanted.

    Parameters
    ----------
    chain, params, X
        As in :func:`run_perceptron`.

    Returns
    -------
    Tensor of shape (n_tasks, n_rows, n_out)
        One output a row.
    """
    needs_graph = X.requires_grad or any(p.requires_grad for p in params.values())
    if needs_graph and torch.is_grad_enabled():
        return run_perceptron(chain, params, X)
    call = Call(chain, params, X)
    call.problem.query = call.plain_rows(X)
    outputs, call.problem.query.out = call.new(*X.shape[:2], call.n_out)
    call.run("predict")
    return outputs


def _set_support(call: Call, loss: InnerLoss, lr: Rates, n_steps: int) -> None:
    """Describe the inner loop."""
    problem = call.problem
    problem.support = call.rows(call.X, loss)
    problem.n_steps, problem.has_classes = n_steps, loss.has_classes
    call.set_rates(lr)


def _in_shape(found: Parameters, lr: Rates) -> Parameters:
    """Gradients by the numbers of the rates, summed to the shapes of the rates."""
    rates = learned_rates(lr)
    return {name: found[name].sum_to_size(rates[name].shape) for name in found}
