"""Perceptrons, rows and rates as the library in C takes them."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sklearn_meta.functional.at_hand import is_at_hand
from sklearn_meta.functional.compiled_library import (
    Layer,
    Problem,
    Rows,
    load_library,
)
from sklearn_meta.functional.derivatives import IDENTITY, InnerLoss, activation_of
from sklearn_meta.functional.inner_loop import Rates
from sklearn_meta.functional.perceptron import Chain, Parameters
from sklearn_meta.functional.recursion import learned_rates

TYPES = (torch.float32, torch.float64)
MOST_LAYERS = 16  # of _perceptron.c

NUMBERS_OF_ACTIVATIONS = {
    IDENTITY: 0,
    **{
        activation_of(kind()): i
        for i, kind in enumerate(
            (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.GELU, nn.ELU), start=1
        )
    },
}


def has_kernel(chain: Chain) -> bool:
    """Whether the library is there, and knows a perceptron.

    Parameters
    ----------
    chain : tuple of (str, Activation)
        As of :func:`perceptron_chain`.

    Returns
    -------
    bool
        True if the functions of this file take the chain.
    """
    known = all(activation in NUMBERS_OF_ACTIVATIONS for _, activation in chain)
    return known and len(chain) <= MOST_LAYERS and load_library() is not None


def is_served(values: Tensor) -> bool:
    """Whether the library is there, and computes with tensors like this one.

    Parameters
    ----------
    values : Tensor of any shape
        A parameter, say.

    Returns
    -------
    bool
        True for float32 and float64 on the CPU.
    """
    return values.dtype in TYPES and is_at_hand(values) and load_library() is not None


class Call:
    """What is passed to one call of the library, and the tensors that it points into.

    Parameters
    ----------
    chain : tuple of (str, Activation)
        As of :func:`perceptron_chain`.
    params : mapping of str to Tensor of shape (n_tasks, ...) or shape
        "<name>.weight" and "<name>.bias" of every layer.
    X : Tensor of shape (n_tasks, n_rows, n_in)
        Rows, of whose type all tensors must be.
    """

    def __init__(self, chain: Chain, params: Mapping[str, Tensor], X: Tensor):
        # of the shape: the length of a tensor takes a look for overrides of it
        self.chain, self.X, self.n_tasks = chain, X, X.shape[0]
        self.dtype = X.dtype
        self.layers = (Layer * len(chain))()
        self.problem = Problem(
            X.dtype == torch.float64, self.n_tasks, len(chain), layers=self.layers
        )
        self._kept: list[Tensor] = []
        self.n_in = n_in = params[f"{chain[0][0]}.weight"].shape[-1]
        for layer, (name, activation) in zip(self.layers, chain, strict=True):
            weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
            layer.n_in, layer.n_out = n_in, (n_out := weight.shape[-2])
            layer.activation = NUMBERS_OF_ACTIVATIONS[activation]
            layer.weight, layer.weight_step = self.parameter(weight, n_out, n_in)
            layer.bias, layer.bias_step = self.parameter(bias, n_out)
            n_in = n_out
        self.n_out = n_in

    def address(self, values: Tensor, *shape: int) -> int:
        """Address of the numbers of a tensor of a shape, kept until the call is over.

        The library would read past the end of one that is smaller.
        """
        if values.shape != shape:
            raise ValueError(
                f"expected a tensor of shape {shape}; got {tuple(values.shape)}."
            )
        if values.dtype != self.dtype and values.dtype != torch.bool:
            raise TypeError(
                f"expected tensors of one type; got {self.dtype} and {values.dtype}."
            )
        values = values.contiguous()
        self._kept.append(values)
        return values.data_ptr()

    def parameter(self, values: Tensor, *shape: int) -> tuple[int, int]:
        """Address of a parameter, and how far it is to that of the next task.

        Tasks share one of the shape; others are of shape (n_tasks, *shape).
        """
        if values.ndim == len(shape):  # tasks share it
            return self.address(values, *shape), 0
        return self.address(values, self.n_tasks, *shape), math.prod(shape)

    def new(self, *shape: int) -> tuple[Tensor, int]:
        """A tensor that the call fills, and its address."""
        values = self.X.new_empty(shape)
        return values, values.data_ptr()

    def set_rates(self, lr: Rates) -> None:
        """Describe the rates of the steps."""
        if not isinstance(lr, Mapping):
            self.problem.lr = lr
            return
        for layer, (name, _) in zip(self.layers, self.chain, strict=True):
            shape = layer.n_out, layer.n_in
            layer.weight_rate = self._rate(lr[f"{name}.weight"], shape)
            layer.bias_rate = self._rate(lr[f"{name}.bias"], shape[:1])

    def _rate(self, rate: float | Tensor, shape: tuple[int, ...]) -> int:
        """Address of a rate, () or of a shape, for every number of a parameter."""
        rates = torch.as_tensor(rate, dtype=self.dtype).expand(shape)
        return self.address(rates, *shape)

    def rows(self, X: Tensor, loss: InnerLoss) -> Rows:
        """Rows X (n_tasks, n_rows, n_in) with their loss."""
        n_tasks, n_rows = self.n_tasks, X.shape[1]
        is_shared = not loss.weight.stride(0)  # the same weights in all tasks
        weight = loss.weight[:1] if is_shared else loss.weight
        rows = self.plain_rows(X, loss.Y)
        rows.weight = self.address(weight, 1 if is_shared else n_tasks, n_rows, 1)
        rows.weight_step = 0 if is_shared else n_rows
        if loss.present is not None:
            rows.present = self.address(loss.present, n_tasks, self.n_out)
        if loss.offset is not None:
            rows.offset = self.address(loss.offset, n_tasks, n_rows, self.n_out)
            rows.offset_row = self.n_out
        return rows

    def masked_rows(
        self, X: Tensor, Y: Tensor, mask: Tensor, total_weight: float, n_offsets: int
    ) -> Rows:
        """Rows with a mask, of which the last columns may be offsets.

        X is of shape (n_tasks, n_rows, n_in), Y of (n_tasks, n_rows, n_out). The mask
        (n_tasks, n_rows) is True for a real row.
        """
        rows = self.plain_rows(X, Y)
        rows.mask = self.address(mask, *X.shape[:2])
        rows.total_weight = total_weight
        if n_offsets and rows.X:  # None where there are no rows
            rows.offset = rows.X + (self.n_in - n_offsets) * X.element_size()
            rows.offset_row = self.n_in
        return rows

    def plain_rows(self, X: Tensor, Y: Tensor | None = None) -> Rows:
        """Rows X (n_tasks, n_rows, n_in); targets Y (n_tasks, n_rows, n_out)."""
        n_rows = X.shape[1]
        rows = Rows(n_rows, self.address(X, self.n_tasks, n_rows, self.n_in))
        if Y is not None:
            rows.Y = self.address(Y, self.n_tasks, n_rows, self.n_out)
        return rows

    def new_parameters(self, n_tasks: int | None = None) -> Parameters:
        """Tensors that the call fills: one for every parameter, of each task.

        Without a number of tasks they are gradients, which have an axis of tasks
        where the parameter has one.
        """
        found = {}
        for layer, (name, _) in zip(self.layers, self.chain, strict=True):
            n_weights = n_tasks or (self.n_tasks if layer.weight_step else 0)
            n_biases = n_tasks or (self.n_tasks if layer.bias_step else 0)
            weight = layer.n_out, layer.n_in
            bias = weight[:1]
            found[f"{name}.weight"], layer.weight_out = self.new(
                *((n_weights, *weight) if n_weights else weight)
            )
            found[f"{name}.bias"], layer.bias_out = self.new(
                *((n_biases, *bias) if n_biases else bias)
            )
        return found

    def new_rates(self, lr: Rates) -> Parameters:
        """Tensors that the call fills with gradients by the rates that are tensors."""
        found, learned = {}, learned_rates(lr)
        for layer, (name, _) in zip(self.layers, self.chain, strict=True):
            weight, bias = f"{name}.weight", f"{name}.bias"
            if weight in learned:
                values = self.new(layer.n_out, layer.n_in)
                found[weight], layer.weight_rate_out = values
            if bias in learned:
                found[bias], layer.bias_rate_out = self.new(layer.n_out)
        return {name: found[name] for name in learned}

    def set_v(self, v: Mapping[str, Tensor]) -> None:
        """Describe the gradient (n_tasks, ...) by each parameter at the end."""
        for layer, (name, _) in zip(self.layers, self.chain, strict=True):
            shape = self.n_tasks, layer.n_out, layer.n_in
            layer.weight_v = self.address(v[f"{name}.weight"], *shape)
            layer.bias_v = self.address(v[f"{name}.bias"], *shape[:2])

    def run(self, function: str) -> None:
        """Call a function of the library.

        Raises
        ------
        MemoryError
            If the tape of a task does not fit.
        """
        library = load_library()
        if library is None:
            raise RuntimeError(
                "expected the compiled engine; it is not there. Ask `has_kernel`."
            )
        self.problem.instructions = library.widest_instructions()
        if getattr(library, function)(self.problem):
            raise MemoryError(
                f"expected room for the steps of one task; got none for "
                f"{self.problem.n_steps} steps on {self.problem.support.n_rows} rows. "
                "Take fewer of either, or first order."
            )
