r"""Hidden layers of perceptrons side by side, with activations and slopes from C.

Of :math:`h_l = f(z_l)`, :math:`z_l = h_{l-1} W_l + b_l`, the way forwards keeps
:math:`f'(z_l)`, which takes little time: both come from one exponential. With the
gradient :math:`u_l` by :math:`h_l` and :math:`\delta_l = u_l \cdot f'(z_l)`, the
gradients are :math:`h_{l-1}' \delta_l` by :math:`W_l`, the sum of the rows of
:math:`\delta_l` by :math:`b_l`, and :math:`u_{l-1} = \delta_l W_l'`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from sklearn_meta.functional.compiled_call import NUMBERS_OF_ACTIVATIONS, is_served
from sklearn_meta.functional.compiled_library import load_library
from sklearn_meta.functional.derivatives import activation_of


def has_layers(activation: nn.Module, rows: Tensor) -> bool:
    """Whether the library knows an activation, and takes rows like these.

    Parameters
    ----------
    activation : nn.Module
        Any layer.
    rows : Tensor
        Rows.

    Returns
    -------
    bool
        True for float32 and float64 on the CPU.
    """
    return is_served(rows) and activation_of(activation) in NUMBERS_OF_ACTIVATIONS


def run_layers(
    rows: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: nn.Module,
) -> Tensor:
    """Last hidden layers of perceptrons of one shape.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, n_in) or (n_perceptrons, n_rows, n_in)
        Rows, the same for all perceptrons or their own.
    weights : sequence of Tensor of shape (n_perceptrons, n_in, n_out)
        Of each layer.
    biases : sequence of Tensor of shape (n_perceptrons, 1, n_out)
        Of each layer.
    activation : nn.Module
        After every layer; one that `has_layers` knows.

    Returns
    -------
    Tensor of shape (n_perceptrons, n_rows, n_out)
        What the last layer gives. Autograd knows its first derivatives.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional.compiled_layers import run_layers
    >>> weight, bias = torch.ones(1, 2, 1), torch.zeros(1, 1, 1)
    >>> run_layers(torch.tensor([[1.0, -3.0]]), [weight], [bias], torch.nn.ReLU())
    tensor([[[0.]]])
    """
    number = NUMBERS_OF_ACTIVATIONS[activation_of(activation)]
    if not torch.is_grad_enabled():
        return _run(number, rows, weights, biases)[-1]
    hidden: Tensor = _Layers.apply(number, rows, *weights, *biases)
    return hidden


class _Layers(Function):
    """The layers, which keep the slopes of their activations."""

    @staticmethod
    def forward(ctx: Any, number: int, rows: Tensor, *parameters: Tensor) -> Tensor:
        """Return the last layer's rows, (n_perceptrons, n_rows, n_out)."""
        n_layers = len(parameters) // 2
        weights, biases = parameters[:n_layers], parameters[n_layers:]
        slopes: list[Tensor] = []
        hidden = _run(number, rows, weights, biases, slopes)
        ctx.save_for_backward(*weights, *slopes, *hidden[:-1])
        ctx.rows_are_shared = rows.ndim == 2
        return hidden[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through the layers from a gradient in the shape of the output."""
        n_layers = len(ctx.saved_tensors) // 3
        weights, slopes, hidden = (
            ctx.saved_tensors[i * n_layers : (i + 1) * n_layers] for i in range(3)
        )
        of_weights: list[Tensor] = []
        of_biases: list[Tensor] = []
        of_rows = None
        for layer in reversed(range(n_layers)):
            delta = gradient * slopes[layer]
            of_weights.insert(0, hidden[layer].mT @ delta)
            of_biases.insert(0, delta.sum(1, keepdim=True))
            if layer or ctx.needs_input_grad[1]:
                gradient = delta @ weights[layer].mT
        if ctx.needs_input_grad[1]:
            of_rows = gradient.sum(0) if ctx.rows_are_shared else gradient
        return None, of_rows, *of_weights, *of_biases


def _run(
    number: int,
    rows: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: list[Tensor] | None = None,
) -> list[Tensor]:
    """Rows and all hidden layers, each (n_perceptrons, n_rows, width).

    The slopes, which are of these shapes, are added to a list if there is one.
    """
    hidden = [rows.expand(len(weights[0]), -1, -1)]
    for weight, bias in zip(weights, biases, strict=True):
        z = torch.baddbmm(bias, hidden[-1], weight)
        slope = None
        if slopes is not None:
            slope = torch.empty_like(z)
            slopes.append(slope)
        _activate(z, number, slope)
        hidden.append(z)
    return hidden


def _activate(z: Tensor, number: int, slope: Tensor | None) -> None:
    """Put the values of an activation at z in its place, and the slopes into a tensor.

    Both are of one shape, and as a product gives them, row by row.
    """
    library = load_library()
    if library is None:
        raise RuntimeError(
            "expected the compiled engine; it is not there. Ask `has_layers`."
        )
    is_double, widest = z.dtype == torch.float64, library.widest_instructions()
    numbers = z.data_ptr(), None if slope is None else slope.data_ptr()
    library.activate(widest, is_double, number, z.numel(), *numbers)
