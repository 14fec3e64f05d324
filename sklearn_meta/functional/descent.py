"""Gradient descent of perceptrons that nothing looks through, in place.

`adapt` needs the adapted parameters only. So the first step runs on the parameters
that all tasks share, and every later one overwrites its own copies.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from sklearn_meta.functional.derivatives import InnerLoss
from sklearn_meta.functional.evaluation import evaluate_by_formulas
from sklearn_meta.functional.inner_loop import Rates, descend, is_diverged
from sklearn_meta.functional.perceptron import (
    Chain,
    LayerTape,
    Parameters,
    add_product_,
    forward_pass,
    gradient_of,
    record,
)
from sklearn_meta.functional.recursion import step_down, with_task_axis


def adapt_without_graph(
    chain: Chain,
    params: Mapping[str, Tensor],
    X: Tensor,
    loss: InnerLoss,
    lr: Rates,
    n_steps: int,
    *,
    guard: bool = False,
) -> tuple[Parameters, Tensor]:
    """Parameters of every task after some steps on its support, to predict with.

    Parameters
    ----------
    chain : tuple of (str, Activation)
        As of :func:`perceptron_chain`.
    params : mapping of str to Tensor of shape (n_tasks, ...) or shape
        Where to start, as in :func:`adapt_by_recursion`.
    X : Tensor of shape (n_tasks, n_support, n_in)
        Support rows.
    loss : InnerLoss
        Their loss.
    lr : float or mapping of str to (float or Tensor)
        Inner rate, as in :func:`adapt_by_recursion`.
    n_steps : int
        Number of steps, >= 0.
    guard : bool, default=False
        As in :func:`inner_loop`.

    Returns
    -------
    params : dict of str to Tensor of shape (n_tasks, ...)
        Adapted parameters.
    diverged : Tensor of shape (n_tasks,), bool
        As of :func:`inner_loop`.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import (
    ...     adapt_without_graph, build_mlp, perceptron_chain, squared_error_loss,
    ...     stackable_layers)
    >>> network = build_mlp(1, (), 1)
    >>> X, Y = torch.zeros(2, 1, 1), torch.ones(2, 1, 1)
    >>> loss = squared_error_loss(Y, torch.ones(2, 1, dtype=torch.bool))
    >>> start = {"0.weight": torch.zeros(1, 1), "0.bias": torch.zeros(1)}
    >>> chain = perceptron_chain(stackable_layers(network))
    >>> adapted, diverged = adapt_without_graph(
    ...     chain, start, X, loss, lr=9.0, n_steps=1, guard=True
    ... )
    >>> diverged, adapted["0.bias"].squeeze()
    (tensor([True, True]), tensor([0., 0.]))
    """
    with torch.no_grad():
        start = with_task_axis(chain, params, len(X))
        if not n_steps:
            return start, X.new_zeros(len(X), dtype=torch.bool)
        adapted, outputs = _descend_in_place(chain, params, X, loss, lr, n_steps)
        if not guard:
            return adapted, X.new_zeros(len(X), dtype=torch.bool)
        last = forward_pass(chain, adapted, X)[-1].h_next
        diverged = is_diverged(loss.per_task(outputs), loss.per_task(last), adapted)
        # One look at the device. To go back takes the iterates, which are not kept.
        if bool(diverged.any()):
            evaluate = evaluate_by_formulas(chain, X, loss)
            return descend(evaluate, start, lr, n_steps, guard=True)
        return adapted, diverged


def _descend_in_place(
    chain: Chain,
    params: Mapping[str, Tensor],
    X: Tensor,
    loss: InnerLoss,
    lr: Rates,
    n_steps: int,
) -> tuple[Parameters, Tensor]:
    """Parameters after the steps, and the outputs before them."""
    traces = forward_pass(chain, params, X)
    tape = record(traces, loss, curved=False)
    adapted = step_down(with_task_axis(chain, params, len(X)), tape, lr)
    for _ in range(n_steps - 1):
        tape = record(forward_pass(chain, adapted, X), loss, curved=False)
        _step_down_(adapted, tape.layers, lr)
    return adapted, traces[-1].h_next


def _step_down_(params: Parameters, layers: list[LayerTape], lr: Rates) -> None:
    """One step of every task against its gradient, in place."""
    if isinstance(lr, Mapping):
        for name, gradient in gradient_of(layers).items():
            params[name].sub_(lr[name] * gradient)
        return
    for layer in layers:
        add_product_(params[f"{layer.name}.weight"], layer.delta, layer.h, -lr)
        params[f"{layer.name}.bias"].sub_(layer.delta.sum(1), alpha=lr)
