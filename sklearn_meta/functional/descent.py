"""Gradient descent of perceptrons that nothing looks through, in place.

`adapt` needs the adapted parameters only. So the first step runs on the parameters
that all tasks share, and every later one overwrites its own copies.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_meta.functional.derivatives import Activation, InnerLoss
from sklearn_meta.functional.evaluation import evaluate_by_formulas
from sklearn_meta.functional.inner_loop import Rates, descend, is_diverged
from sklearn_meta.functional.perceptron import (
    Chain,
    Parameters,
    forward_pass,
    record,
)
from sklearn_meta.functional.recursion import step_down, with_task_axis
from sklearn_meta.functional.task_products import add_product_


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


class _Layer(NamedTuple):
    """One layer of every task, and views of it that see what is written into it."""

    activation: Activation
    weight: Tensor  # (n_tasks, n_out, n_in)
    bias: Tensor  # (n_tasks, n_out)
    weight_T: Tensor
    bias_row: Tensor  # (n_tasks, 1, n_out)


def _descend_in_place(
    chain: Chain,
    params: Mapping[str, Tensor],
    X: Tensor,
    loss: InnerLoss,
    lr: Rates,
    n_steps: int,
) -> tuple[Parameters, Tensor]:
    """Parameters (n_tasks, ...) after the steps, and the outputs before them."""
    traces = forward_pass(chain, params, X)
    tape = record(traces, loss, curved=False)
    adapted = step_down(with_task_axis(chain, params, len(X)), tape, lr)
    layers = _layers_of(chain, adapted)
    rates = [_rates_of(name, lr) for name, _ in chain]
    for _ in range(n_steps - 1):
        _step_in_place(layers, rates, X, loss)
    return adapted, traces[-1].h_next


def _layers_of(chain: Chain, params: Parameters) -> list[_Layer]:
    """The layers with parameters of (n_tasks, ...)."""
    layers = []
    for name, activation in chain:
        weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
        views = weight.mT, bias.unsqueeze(1)
        layers.append(_Layer(activation, weight, bias, *views))
    return layers


def _rates_of(name: str, lr: Rates) -> tuple[float | Tensor, float | Tensor]:
    """The rates of a layer's weight (n_out, n_in) and bias (n_out,), or one for all."""
    if isinstance(lr, Mapping):
        return lr[f"{name}.weight"], lr[f"{name}.bias"]
    return lr, lr


def _step_in_place(
    layers: list[_Layer],
    rates: list[tuple[float | Tensor, float | Tensor]],
    X: Tensor,
    loss: InnerLoss,
) -> None:
    """One step of every task down its gradient on X (n_tasks, n_rows, n_in), in place.

    The gradient is as `perceptron` derives it.
    """
    h, inputs, values = X, [], []
    for layer in layers:
        inputs.append(h)
        z = torch.baddbmm(layer.bias_row, h, layer.weight_T)
        h = layer.activation.value(z)
        values.append((z, h))
    u = loss.gradient(h)
    for i in range(len(layers) - 1, -1, -1):
        layer, slope = layers[i], layers[i].activation.slope
        delta = u if slope is None else slope(*values[i]).mul_(u)
        if i:  # before the weight moves
            u = torch.bmm(delta, layer.weight)
        _subtract_gradient(layer, delta, inputs[i], *rates[i])


def _subtract_gradient(
    layer: _Layer,
    delta: Tensor,
    h: Tensor,
    weight_rate: float | Tensor,
    bias_rate: float | Tensor,
) -> None:
    """Move a layer's parameters, in place; delta and h are (n_tasks, n_rows, width)."""
    if isinstance(weight_rate, Tensor):
        layer.weight.sub_(weight_rate * (delta.mT @ h))
    else:
        add_product_(layer.weight, delta, h, -weight_rate)
    if isinstance(bias_rate, Tensor):
        layer.bias.sub_(bias_rate * delta.sum(1))
    else:
        layer.bias.sub_(delta.sum(1), alpha=bias_rate)
