"""The gradient by a shared start of perceptrons, of what their tasks end in.

Autograd has no part in it: the query rows are run forwards and backwards by formulas,
and `recursion` carries the gradient from there to the start.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, zeros_like

from sklearn_meta.functional.derivatives import InnerLoss
from sklearn_meta.functional.inner_loop import Rates
from sklearn_meta.functional.perceptron import (
    Chain,
    LayerTape,
    Parameters,
    backward_pass,
    forward_pass,
    gradient_of,
)
from sklearn_meta.functional.recursion import (
    learned_rates,
    meta_gradient,
    take_steps,
)


class OuterGradient(NamedTuple):
    """What an outer step asks of the tasks."""

    losses: Tensor  # (n_tasks,), of the query rows
    of_start: Parameters
    of_rates: Parameters


def outer_gradient(
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
    """Losses of query rows after the inner loop, and the gradient of their sum.

    Parameters
    ----------
    chain : tuple of (str, Activation)
        As of :func:`perceptron_chain`.
    params : mapping of str to Tensor of shape
        Where all tasks start: "<name>.weight" and "<name>.bias" of every layer.
    X : Tensor of shape (n_tasks, n_support, n_in)
        Support rows.
    loss : InnerLoss
        Their loss.
    lr : float or mapping of str to (float or Tensor)
        Inner rate, as in :func:`adapt_by_recursion`.
    n_steps : int
        Number of steps, >= 0.
    X_query : Tensor of shape (n_tasks, n_query, n_in)
        Query rows.
    query_loss : InnerLoss
        Their loss.
    second_order : bool, default=True
        Whether the outer gradient goes through the inner gradient.

    Returns
    -------
    OuterGradient
        The losses, and the gradients by `params` and by the rates that are tensors.

    See Also
    --------
    adapt_by_recursion : The same steps, for autograd.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import (
    ...     build_mlp, outer_gradient, perceptron_chain, squared_error_loss,
    ...     stackable_layers)
    >>> chain = perceptron_chain(stackable_layers(build_mlp(1, (), 1)))
    >>> X, Y = torch.zeros(2, 1, 1), torch.tensor([[[1.0]], [[3.0]]])
    >>> loss = squared_error_loss(Y, torch.ones(2, 1, dtype=torch.bool))
    >>> start = {"0.weight": torch.zeros(1, 1), "0.bias": torch.zeros(1)}
    >>> found = outer_gradient(chain, start, X, loss, 0.25, 1, X, loss)
    >>> found.losses, found.of_start["0.bias"]
    (tensor([0.2500, 2.2500]), tensor([-2.]))
    """
    with torch.no_grad():
        adapted, tapes = take_steps(
            chain, params, X, loss, lr, n_steps, second_order=second_order
        )
        traces = forward_pass(chain, adapted, X_query)
        outputs = traces[-1].h_next
        losses = query_loss.per_task(outputs)
        layers = backward_pass(traces, query_loss.gradient(outputs))
        if not tapes:
            untouched = {n: zeros_like(rate) for n, rate in learned_rates(lr).items()}
            return OuterGradient(losses, _shared_gradient_of(layers), untouched)
        found = meta_gradient(
            tapes,
            loss,
            lr,
            gradient_of(layers),
            second_order=second_order,
            shared=params.keys(),
        )
        return OuterGradient(losses, found.of_start, found.of_rates)


def _shared_gradient_of(layers: list[LayerTape]) -> Parameters:
    """Gradient by parameters that all tasks share: one product for all rows."""
    found = {}
    for layer in layers:
        delta, h = layer.delta.flatten(0, 1), layer.h.flatten(0, 1)
        found[f"{layer.name}.weight"] = delta.mT @ h
        found[f"{layer.name}.bias"] = delta.sum(0)
    return found
