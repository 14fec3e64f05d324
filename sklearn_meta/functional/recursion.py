r"""Gradient descent inside every task, and its derivative, without autograd.

For a perceptron the derivative of the whole inner loop is a short recursion. It costs
about as much as the inner loop itself and stores no graph.

**The inner loop.** With all parameters of a task as one vector :math:`\theta`, the
gradient :math:`g_k` of its support loss at :math:`\theta_k` and the rates r, one for
all numbers or one for each, step k is

.. math:: \theta_{k+1} = \theta_k - r\, g_k .

**The outer gradient.** Let Q be any function of the last parameters, the loss of the
query rows say, and :math:`v_k = \partial Q / \partial \theta_k`. The step has the
derivative :math:`I - r H_k` with the Hessian :math:`H_k` of the support loss, which is
symmetric, hence

.. math::

    v_k = v_{k+1} - H_k (r\, v_{k+1}), \qquad
    \frac{\partial Q}{\partial r} = -\sum_k g_k v_{k+1}, \qquad
    \frac{\partial Q}{\partial X}
        = -\sum_k \frac{\partial (g_k \cdot r\, v_{k+1})}{\partial X},

where products of vectors are by element, :math:`\cdot` is the inner product and
:math:`r\, v_{k+1}` is held fixed under :math:`\partial X`. The recursion runs from the
last step to the first; :math:`v_0` is the meta-gradient. First order drops
:math:`H_k` and the last sum. `sklearn_meta.functional.perceptron` derives the products
with :math:`H_k`.

References
----------
D. Maclaurin, D. Duvenaud, R. P. Adams, "Gradient-based hyperparameter optimization
through reversible learning", ICML 2015, algorithm 2.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from torch import Tensor, zeros_like
from torch.autograd.function import Function, once_differentiable

from sklearn_meta.functional.derivatives import InnerLoss
from sklearn_meta.functional.inner_loop import Rates
from sklearn_meta.functional.perceptron import (
    Chain,
    Parameters,
    Tape,
    add_hessian_product,
    forward_pass,
    gradient_of,
    record,
)
from sklearn_meta.functional.task_products import add_product, add_rows


class MetaGradient(NamedTuple):
    """Gradients by all that an inner loop depends on."""

    of_start: Parameters
    of_rates: Parameters
    of_rows: Tensor | None


def meta_gradient(
    tapes: list[Tape],
    loss: InnerLoss,
    lr: Rates,
    v: Mapping[str, Tensor],
    *,
    second_order: bool = True,
    shared: Collection[str] = (),
    with_rows: bool = False,
) -> MetaGradient:
    """Gradient by what an inner loop started from, of what it ended in.

    Parameters
    ----------
    tapes : list of Tape
        Those of its steps, first to last; may be empty for first order, unless rates
        are tensors.
    loss : InnerLoss
        The inner loss.
    lr : float or mapping of str to (float or Tensor)
        Rates of the steps.
    v : mapping of str to Tensor of shape (n_tasks, ...)
        Gradient by the adapted parameters. It is not changed.
    second_order : bool, default=True
        Whether the inner gradient counts as a function of where it is taken.
    shared : collection of str, default=()
        Names of the parameters that start the same in all tasks.
    with_rows : bool, default=False
        Whether the gradient by the support rows is wanted.

    Returns
    -------
    MetaGradient
        Gradients by the start, by the rates that are tensors, and by the rows.
    """
    of_rates = {name: zeros_like(rate) for name, rate in learned_rates(lr).items()}
    of_rows: Tensor | None = None
    for tape in reversed(tapes):
        if of_rates:
            _subtract_rate_gradient(of_rates, gradient_of(tape.layers, of_rates), v)
        if not second_order:
            continue
        base = _sum_over_tasks(v, shared) if tape is tapes[0] else v
        direction, rate = _rated(v, lr)
        v, row_change = add_hessian_product(
            base, tape, loss, direction, -rate, with_rows=with_rows
        )
        if row_change is not None:
            change = -rate * row_change
            of_rows = change if of_rows is None else of_rows + change
    of_start = dict(v) if second_order else _sum_over_tasks(v, shared)
    return MetaGradient(of_start, of_rates, of_rows)


def adapt_by_recursion(
    chain: Chain,
    params: Mapping[str, Tensor],
    X: Tensor,
    loss: InnerLoss,
    lr: Rates,
    n_steps: int,
    *,
    second_order: bool = True,
) -> Parameters:
    """Parameters of every task after some steps on its support, differentiable.

    The same as :func:`inner_loop`, for a perceptron.

    Parameters
    ----------
    chain : tuple of (str, Activation)
        As of :func:`perceptron_chain`.
    params : mapping of str to Tensor of shape (n_tasks, ...) or shape
        Where to start: "<name>.weight" and "<name>.bias" of every layer of the chain.
        What has no axis of tasks is shared by all tasks.
    X : Tensor of shape (n_tasks, n_support, n_in)
        Support rows.
    loss : InnerLoss
        As of :func:`squared_error_loss` or :func:`cross_entropy_loss`. Nothing is
        differentiated by its targets and its offset.
    lr : float or mapping of str to (float or Tensor)
        Inner rate; or one per parameter, broadcastable to its shape (Meta-SGD).
    n_steps : int
        Number of steps, >= 0.
    second_order : bool, default=True
        Whether the outer gradient goes through the inner gradient.

    Returns
    -------
    dict of str to Tensor of shape (n_tasks, ...)
        Adapted parameters. Gradients reach `params`, `X` and `lr`.

    See Also
    --------
    inner_loop : The same for any network, by autograd.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import (
    ...     adapt_by_recursion, build_mlp, perceptron_chain, squared_error_loss,
    ...     stackable_layers)
    >>> network = build_mlp(1, (), 1)
    >>> X, Y = torch.zeros(2, 1, 1), torch.tensor([[[1.0]], [[3.0]]])
    >>> loss = squared_error_loss(Y, torch.ones(2, 1, dtype=torch.bool))
    >>> start = {"0.weight": torch.zeros(1, 1), "0.bias": torch.zeros(1)}
    >>> chain = perceptron_chain(stackable_layers(network))
    >>> adapt_by_recursion(chain, start, X, loss, lr=0.5, n_steps=1)["0.bias"]
    tensor([[1.],
            [3.]])
    """
    return apply_loop(_InnerLoop, chain, params, X, loss, lr, n_steps, second_order)


class Plan(NamedTuple):
    """What an inner loop needs besides the tensors that get a gradient."""

    chain: Chain
    loss: InnerLoss
    lr: Rates
    n_steps: int
    second_order: bool
    names: tuple[str, ...]
    rate_names: tuple[str, ...]


def apply_loop(
    inner_loop: type[Function],
    chain: Chain,
    params: Mapping[str, Tensor],
    X: Tensor,
    loss: InnerLoss,
    lr: Rates,
    n_steps: int,
    second_order: bool,
) -> Parameters:
    """Adapted parameters, by a function of a `Plan`, rows, parameters and rates.

    The others, and what is returned, are as of :func:`adapt_by_recursion`.
    """
    if not n_steps:
        return with_task_axis(chain, params, len(X))
    rates = lr if isinstance(lr, Mapping) else {}
    plan = Plan(chain, loss, lr, n_steps, second_order, tuple(params), tuple(rates))
    adapted = inner_loop.apply(plan, X, *params.values(), *rates.values())
    return dict(zip(params, adapted, strict=True))


class _InnerLoop(Function):
    """The steps of `adapt_by_recursion` and their derivative, for autograd."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, X: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
        """Take the steps and keep their tapes."""
        params = dict(zip(plan.names, inputs, strict=False))
        ctx.plan, ctx.shared = plan, shared_names(plan.chain, params)
        adapted, ctx.tapes = take_steps(
            plan.chain,
            params,
            X,
            plan.loss,
            plan.lr,
            plan.n_steps,
            second_order=plan.second_order,
        )
        return tuple(adapted[name] for name in plan.names)

    @staticmethod
    @once_differentiable  # the recursion itself has no graph
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Carry the gradient from the adapted parameters to the start."""
        plan: Plan = ctx.plan
        found = meta_gradient(
            ctx.tapes,
            plan.loss,
            plan.lr,
            dict(zip(plan.names, gradients, strict=True)),
            second_order=plan.second_order,
            shared=ctx.shared,
            with_rows=ctx.needs_input_grad[1],
        )
        # Products may come transposed, which optimizers do not expect.
        of_params = [found.of_start[name].contiguous() for name in plan.names]
        of_rates = [found.of_rates.get(name) for name in plan.rate_names]
        return None, found.of_rows, *of_params, *of_rates


def take_steps(
    chain: Chain,
    params: Mapping[str, Tensor],
    X: Tensor,
    loss: InnerLoss,
    lr: Rates,
    n_steps: int,
    *,
    second_order: bool = True,
) -> tuple[Parameters, list[Tape]]:
    """The steps of `adapt_by_recursion`, and the tapes that `meta_gradient` asks for.

    Parameters
    ----------
    chain, params, X, loss, lr, n_steps, second_order
        As in :func:`adapt_by_recursion`.

    Returns
    -------
    params : dict of str to Tensor of shape (n_tasks, ...)
        Adapted parameters.
    tapes : list of Tape
        Those of the steps, first to last; none for first order with a constant rate.
    """
    tapes = []
    keep = second_order or isinstance(lr, Mapping)
    for _ in range(n_steps):
        tape = record(forward_pass(chain, params, X), loss, curved=second_order)
        params = step_down(with_task_axis(chain, params, len(X)), tape, lr)
        if keep:
            tapes.append(tape)
    return with_task_axis(chain, params, len(X)), tapes


def step_down(params: Parameters, tape: Tape, lr: Rates) -> Parameters:
    """One step of every task, from (n_tasks, ...), against its gradient."""
    if isinstance(lr, Mapping):
        found = gradient_of(tape.layers)
        return {name: p - lr[name] * found[name] for name, p in params.items()}
    moved = {}
    for layer in tape.layers:
        weight, bias = f"{layer.name}.weight", f"{layer.name}.bias"
        moved[weight] = add_product(params[weight], layer.delta, layer.h, -lr)
        moved[bias] = add_rows(params[bias], layer.delta, -lr)
    return moved


def learned_rates(lr: Rates) -> Parameters:
    """The rates that are tensors, each in the shape of its parameter or ()."""
    rates = lr if isinstance(lr, Mapping) else {}
    return {name: rate for name, rate in rates.items() if isinstance(rate, Tensor)}


def _rated(v: Mapping[str, Tensor], lr: Rates) -> tuple[Mapping[str, Tensor], float]:
    """``r v`` (n_tasks, ...) as a direction and a factor: the rate, if all have one."""
    if isinstance(lr, Mapping):
        return {name: lr[name] * value for name, value in v.items()}, 1.0
    return v, lr


def _subtract_rate_gradient(
    of_rates: Parameters, gradients: Parameters, v: Mapping[str, Tensor]
) -> None:
    """Add a step's share -g v to the gradient of each rate, in place.

    g and v are (n_tasks, ...); the sum is over what a rate has no axis of.
    """
    for name, total in of_rates.items():
        total -= (gradients[name] * v[name]).sum_to_size(total.shape)


def shared_names(chain: Chain, params: Mapping[str, Tensor]) -> set[str]:
    """Names of parameters without an axis of tasks: (n_out, n_in) and (n_out,)."""
    n_axes = {f"{name}.weight": 2 for name, _ in chain}
    return {name for name, p in params.items() if p.ndim == n_axes.get(name, 1)}


def with_task_axis(
    chain: Chain, params: Mapping[str, Tensor], n_tasks: int
) -> Parameters:
    """The parameters with an axis of tasks, (n_tasks, ...), as views."""
    shared = shared_names(chain, params)
    return {
        name: p.expand(n_tasks, *p.shape) if name in shared else p
        for name, p in params.items()
    }


def _sum_over_tasks(
    v: Mapping[str, Tensor], names: Collection[str]
) -> dict[str, Tensor]:
    """The same tensors (n_tasks, ...), those with the names summed over tasks."""
    return {name: value.sum(0) if name in names else value for name, value in v.items()}
