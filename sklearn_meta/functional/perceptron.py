r"""Value, gradient and Hessian products of perceptrons, one for every task.

A layer takes rows :math:`h` to :math:`f(z)`, with a weight W and a bias b:

.. math:: z = h W^\top + b, \qquad h_{next} = f(z).

**The gradient.** Let L be a task's loss and :math:`u = \partial L / \partial h_{next}`,
known at the outputs. Then, from the last layer back,

.. math::

    \delta = \frac{\partial L}{\partial z} = u f'(z), \qquad
    \frac{\partial L}{\partial W} = \delta^\top h, \qquad
    \frac{\partial L}{\partial b} = \sum_{rows} \delta, \qquad
    \frac{\partial L}{\partial h} = \delta W,

where the last one is the u of the layer before.

**The product with the Hessian H.** Let :math:`R\{\cdot\}` be the derivative along a
direction p in the parameters, :math:`R\{x\} = \frac{d}{d\epsilon} x(\theta +
\epsilon\, p)`. With g the gradient, :math:`H p = R\{g\}`. With P and q the parts of p
that belong to W and b, R applied to every line above gives, forwards and then
backwards,

.. math::

    R\{z\} &= h P^\top + q + R\{h\} W^\top \\
    R\{h_{next}\} &= f'(z)\, R\{z\} \\
    R\{\delta\} &= f'(z)\, R\{u\} + u f''(z)\, R\{z\} \\
    R\{\delta^\top h\} &= R\{\delta\}^\top h + \delta^\top R\{h\} \\
    R\{\delta W\} &= R\{\delta\} W + \delta P .

The rows do not move: :math:`R\{h\} = 0` at the first layer, where the last line is the
derivative of :math:`g \cdot p` by the rows. At the outputs an `InnerLoss` has
:math:`u = \omega (\mu - Y)` with row weights :math:`\omega`, hence
:math:`R\{u\} = \omega R\{\mu\}`. The tape keeps what these lines need of a point: W,
h, :math:`f'(z)`, :math:`\delta`, :math:`u f''(z)` and :math:`\mu`. In the code
``z_change`` is :math:`R\{z\}`, and so on.

References
----------
B. A. Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6(1),
1994, section 3.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sklearn_meta.functional.derivatives import (
    IDENTITY,
    Activation,
    InnerLoss,
    activation_of,
)
from sklearn_meta.functional.networks import Layers
from sklearn_meta.functional.task_products import (
    add_matmul_,
    add_product,
    add_product_,
    add_rows,
    affine,
    matmul,
    product,
)

Parameters = dict[str, Tensor]
# Names of the linear layers in order, each with the function that follows it.
Chain = tuple[tuple[str, Activation], ...]


class Trace(NamedTuple):
    """Values of one layer in a forward pass."""

    name: str
    activation: Activation
    weight: Tensor  # W
    h: Tensor  # the rows that come in
    z: Tensor
    h_next: Tensor


class LayerTape(NamedTuple):
    """What one layer keeps of a step."""

    name: str
    weight: Tensor  # W
    h: Tensor
    slope: Tensor | None  # f'(z), None for 1
    delta: Tensor
    bend: Tensor | None  # u f''(z), None for 0


class Tape(NamedTuple):
    """What a step keeps for its derivative."""

    layers: list[LayerTape]
    mean: Tensor


def perceptron_chain(layers: Layers) -> Chain | None:
    """Linear layers of a perceptron, each with the activation that follows.

    Parameters
    ----------
    layers : list of (str, nn.Module)
        As of :func:`stackable_layers`.

    Returns
    -------
    tuple of (str, Activation) or None
        None if the layers are anything but linear ones with a bias, each followed by
        at most one activation of which two derivatives are known.

    Examples
    --------
    >>> from sklearn_meta.functional import (
    ...     build_mlp, perceptron_chain, stackable_layers)
    >>> [name for name, _ in perceptron_chain(stackable_layers(build_mlp(4, (8,), 2)))]
    ['0', '2']
    """
    chain: list[tuple[str, Activation]] = []
    may_follow = False
    for name, layer in layers:
        if type(layer) is nn.Linear and layer.bias is not None:
            chain.append((name, IDENTITY))
        elif may_follow and (activation := activation_of(layer)) is not None:
            chain[-1] = (chain[-1][0], activation)
        else:
            return None
        may_follow = isinstance(layer, nn.Linear)
    return tuple(chain) or None


def forward_pass(chain: Chain, params: Mapping[str, Tensor], X: Tensor) -> list[Trace]:
    """Values of every layer of a perceptron.

    Parameters
    ----------
    chain : tuple of (str, Activation)
        As of :func:`perceptron_chain`.
    params : mapping of str to Tensor
        "<name>.weight" of shape (n_out, n_in) and "<name>.bias" of shape (n_out,),
        where all tasks share them; else with a leading axis of tasks.
    X : Tensor of shape (n_tasks, n_rows, n_in)
        Rows of every task.

    Returns
    -------
    list of Trace
        One a layer; the outputs are ``h_next`` of the last.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import (
    ...     build_mlp, perceptron_chain, stackable_layers)
    >>> from sklearn_meta.functional.perceptron import forward_pass
    >>> network = build_mlp(4, (8,), 2).requires_grad_(False)
    >>> chain = perceptron_chain(stackable_layers(network))
    >>> params = dict(network.named_parameters())
    >>> forward_pass(chain, params, torch.zeros(3, 5, 4))[-1].h_next.shape
    torch.Size([3, 5, 2])
    """
    traces, h = [], X
    for name, activation in chain:
        weight = params[f"{name}.weight"]
        z = affine(h, weight, params[f"{name}.bias"])
        traces.append(Trace(name, activation, weight, h, z, activation.value(z)))
        h = traces[-1].h_next
    return traces


def backward_pass(
    traces: list[Trace], u: Tensor, *, curved: bool = False
) -> list[LayerTape]:
    """Derivatives by the values of a forward pass.

    Parameters
    ----------
    traces : list of Trace
        As of :func:`forward_pass`.
    u : Tensor of shape (n_tasks, n_rows, n_out)
        Derivative by the outputs.
    curved : bool, default=False
        Whether the bends are kept, for :func:`add_hessian_product`.

    Returns
    -------
    list of LayerTape
        One a layer, in the order of the layers.
    """
    layers = []
    for trace in reversed(traces):
        slope = _evaluate(trace.activation.slope, trace)
        curvature = _evaluate(trace.activation.curvature, trace) if curved else None
        delta = _times(slope, u)
        bend = None if curvature is None else curvature * u
        layers.append(LayerTape(trace.name, trace.weight, trace.h, slope, delta, bend))
        if trace is not traces[0]:
            u = matmul(delta, trace.weight)
    return layers[::-1]


def record(traces: list[Trace], loss: InnerLoss, *, curved: bool = True) -> Tape:
    """The tape of the loss of every task.

    Parameters
    ----------
    traces : list of Trace
        As of :func:`forward_pass`.
    loss : InnerLoss
        Loss of the outputs.
    curved : bool, default=True
        As in :func:`backward_pass`.

    Returns
    -------
    Tape
        For :func:`add_hessian_product`.
    """
    mean = loss.mean(traces[-1].h_next)
    u = loss.weight * (mean - loss.Y)
    return Tape(backward_pass(traces, u, curved=curved), mean)


def gradient_of(
    layers: list[LayerTape], names: Collection[str] | None = None
) -> Parameters:
    """Gradient by the parameters of every task.

    Parameters
    ----------
    layers : list of LayerTape
        As of :func:`backward_pass`.
    names : collection of str, default=None
        The parameters that are asked for; None for all.

    Returns
    -------
    dict of str to Tensor of shape (n_tasks, ...)
        By the names of the parameters.
    """
    found = {}
    for layer in layers:
        weight, bias = f"{layer.name}.weight", f"{layer.name}.bias"
        if names is None or weight in names:
            found[weight] = product(layer.delta, layer.h)
        if names is None or bias in names:
            found[bias] = layer.delta.sum(1)
    return found


def add_hessian_product(
    base: Mapping[str, Tensor],
    tape: Tape,
    loss: InnerLoss,
    direction: Mapping[str, Tensor],
    alpha: float = 1.0,
    *,
    with_rows: bool = False,
) -> tuple[Parameters, Tensor | None]:
    """``base + alpha * H direction`` for the Hessian H of every task's loss.

    Parameters
    ----------
    base : mapping of str to Tensor of shape (n_tasks, ...) or shape
        By the names of the parameters. What has no axis of tasks gets the sum over
        tasks.
    tape : Tape
        As of :func:`record`, at the parameters where the Hessian is taken.
    loss : InnerLoss
        The loss of that pass.
    direction : mapping of str to Tensor of shape (n_tasks, ...)
        Of the product.
    alpha : float, default=1.0
        Factor of the product.
    with_rows : bool, default=False
        Whether the second result is wanted.

    Returns
    -------
    sums : dict of str to Tensor
        In the shapes of `base`.
    row_change : Tensor of shape (n_tasks, n_support, n_in) or None
        Derivative of (gradient . direction) by the rows, without `alpha`.
    """
    # Tensors made here are written into: fresh memory would cost as much as a product.
    z_changes, h_changes = _forward_changes(tape, direction)
    u_change = loss.weight * loss.mean_change(tape.mean, h_changes[-1])
    sums: Parameters = {}
    for i, layer in reversed(list(enumerate(tape.layers))):
        weight, bias = f"{layer.name}.weight", f"{layer.name}.bias"
        delta_change = u_change if layer.slope is None else u_change.mul_(layer.slope)
        if layer.bend is not None:
            delta_change.addcmul_(layer.bend, z_changes[i])
        sums[bias] = add_rows(base[bias], delta_change, alpha)
        sums[weight] = add_product(base[weight], delta_change, layer.h, alpha)
        if i:
            add_product_(sums[weight], layer.delta, h_changes[i - 1], alpha)
        if i or with_rows:
            u_change = matmul(delta_change, layer.weight)
            u_change.baddbmm_(layer.delta, direction[weight])
    return sums, u_change if with_rows else None


def run_perceptron(chain: Chain, params: Mapping[str, Tensor], X: Tensor) -> Tensor:
    """Outputs of a perceptron, which may be differentiated once.

    Parameters
    ----------
    chain : tuple of (str, Activation)
        As of :func:`perceptron_chain`.
    params : mapping of str to Tensor of shape (n_tasks, ...)
        "<name>.weight" and "<name>.bias" of every layer of the chain.
    X : Tensor of shape (n_tasks, n_rows, n_in)
        Rows of every task.

    Returns
    -------
    Tensor of shape (n_tasks, n_rows, n_out)
        One output a row. Gradients reach `params` and `X`.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import (
    ...     build_mlp, perceptron_chain, run_perceptron, stack_parameters,
    ...     stackable_layers)
    >>> network = build_mlp(4, (8,), 2)
    >>> params = stack_parameters(dict(network.named_parameters()), n_tasks=3)
    >>> chain = perceptron_chain(stackable_layers(network))
    >>> run_perceptron(chain, params, torch.zeros(3, 5, 4)).shape
    torch.Size([3, 5, 2])
    """
    names = tuple(f"{name}.{kind}" for name, _ in chain for kind in ("weight", "bias"))
    outputs: Tensor = _Outputs.apply(chain, names, X, *(params[name] for name in names))
    return outputs


class _Outputs(torch.autograd.Function):
    """Forward and backward pass of `run_perceptron`, for autograd."""

    @staticmethod
    def forward(
        ctx: Any, chain: Chain, names: tuple[str, ...], X: Tensor, *values: Tensor
    ) -> Tensor:
        """Return the outputs (n_tasks, n_rows, n_out) and keep the pass."""
        ctx.names = names
        ctx.traces = forward_pass(chain, dict(zip(names, values, strict=True)), X)
        # The tensor itself would refer to `ctx`, and `ctx` to it, for ever.
        return ctx.traces[-1].h_next.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        """Go back from the derivative u by the outputs, which is of their shape."""
        layers = backward_pass(ctx.traces, u)
        found = gradient_of(layers)
        first = layers[0]
        of_rows = first.delta @ first.weight if ctx.needs_input_grad[2] else None
        return None, None, of_rows, *(found[name] for name in ctx.names)


def _forward_changes(
    tape: Tape, direction: Mapping[str, Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """R{z} and R{h_next} of every layer, each (n_tasks, n_rows, width)."""
    z_changes: list[Tensor] = []
    h_changes: list[Tensor] = []
    for layer in tape.layers:
        P, q = direction[f"{layer.name}.weight"], direction[f"{layer.name}.bias"]
        z_change = affine(layer.h, P, q)
        if h_changes:
            add_matmul_(z_change, h_changes[-1], layer.weight.mT)
        z_changes.append(z_change)
        h_changes.append(_times(layer.slope, z_change))
    return z_changes, h_changes


def _evaluate(
    function: Callable[[Tensor, Tensor], Tensor] | None, trace: Trace
) -> Tensor | None:
    """A derivative of an activation, in the shape of z; None where it is constant."""
    return None if function is None else function(trace.z, trace.h_next)


def _times(factor: Tensor | None, value: Tensor) -> Tensor:
    """The product of two of one shape, where None stands for a factor of 1."""
    return value if factor is None else factor * value
