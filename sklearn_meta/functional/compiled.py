"""The formulas of `recursion` in C, one task after another.

There every line runs for all tasks at once, one call of torch after another. In C a
task's weights and activations stay in the nearest cache while it runs through all of
them. The functions here take and return what those of the same name in `recursion`,
`descent`, `outer_gradient` and `perceptron` do.

The library is built when the package is installed, if there is a compiler. It knows
tensors of float32 or float64 on the CPU. The global interpreter lock is released while
it runs, and it keeps nothing between two calls, so any number of threads may call it.
"""

import ctypes
import os
from collections.abc import Mapping
from ctypes import c_double, c_int64, c_void_p
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from sklearn_meta.functional.derivatives import IDENTITY, InnerLoss, activation_of
from sklearn_meta.functional.evaluation import evaluate_by_formulas
from sklearn_meta.functional.inner_loop import Rates, descend
from sklearn_meta.functional.outer_gradient import OuterGradient
from sklearn_meta.functional.perceptron import Chain, Parameters, run_perceptron
from sklearn_meta.functional.recursion import Plan, learned_rates, with_task_axis

# "0" leaves the library alone
SWITCH = "SKLEARN_META_COMPILED"
_TYPES = (torch.float32, torch.float64)
MOST_LAYERS = 16  # of _perceptron.c

_NUMBERS_OF_ACTIVATIONS = {
    IDENTITY: 0,
    **{
        activation_of(kind()): i
        for i, kind in enumerate(
            (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.GELU, nn.ELU), start=1
        )
    },
}


class _Layer(ctypes.Structure):
    """`Layer` of _perceptron.c."""

    _fields_ = [
        ("n_in", c_int64),
        ("n_out", c_int64),
        ("activation", c_int64),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("weight_step", c_int64),
        ("bias_step", c_int64),
        ("weight_rate", c_void_p),
        ("bias_rate", c_void_p),
        ("weight_v", c_void_p),
        ("bias_v", c_void_p),
        ("weight_out", c_void_p),
        ("bias_out", c_void_p),
        ("weight_rate_out", c_void_p),
        ("bias_rate_out", c_void_p),
    ]


class _Rows(ctypes.Structure):
    """`Rows` of _perceptron.c."""

    _fields_ = [
        ("n_rows", c_int64),
        ("X", c_void_p),
        ("Y", c_void_p),
        ("weight", c_void_p),
        ("weight_step", c_int64),
        ("mask", c_void_p),
        ("total_weight", c_double),
        ("present", c_void_p),
        ("offset", c_void_p),
        ("offset_row", c_int64),
        ("out", c_void_p),
    ]


class _Noise(ctypes.Structure):
    """`Noise` of _perceptron.c."""

    _fields_ = [
        ("intercept", c_void_p),
        ("slope", c_void_p),
        ("floor", c_double),
        ("intercept_out", c_void_p),
        ("slope_out", c_void_p),
    ]


class _Problem(ctypes.Structure):
    """`Problem` of _perceptron.c."""

    _fields_ = [
        ("is_double", c_int64),
        ("n_tasks", c_int64),
        ("n_layers", c_int64),
        ("n_steps", c_int64),
        ("second_order", c_int64),
        ("has_classes", c_int64),
        ("lr", c_double),
        ("layers", ctypes.POINTER(_Layer)),
        ("support", _Rows),
        ("query", _Rows),
        ("noise", _Noise),
        ("losses", c_void_p),
        ("diverged", c_void_p),
        ("instructions", c_int64),
    ]


@cache
def load_library() -> ctypes.CDLL | None:
    """The library, if it was built and is not switched off.

    Returns
    -------
    ctypes.CDLL or None
        None too where the file cannot be loaded.
    """
    spec = find_spec("sklearn_meta.functional._perceptron")
    if os.environ.get(SWITCH) == "0" or spec is None or spec.origin is None:
        return None
    try:
        library = ctypes.CDLL(spec.origin)
    except OSError:  # built for another machine
        return None
    for name in ("adapt", "differentiate", "predict"):
        getattr(library, name).argtypes = [ctypes.POINTER(_Problem)]
    library.name_of_instructions.argtypes = [c_int64]
    library.name_of_instructions.restype = ctypes.c_char_p
    library.widest_instructions.restype = c_int64
    return library


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
    known = all(activation in _NUMBERS_OF_ACTIVATIONS for _, activation in chain)
    return known and len(chain) <= MOST_LAYERS and load_library() is not None


def is_served(values: Tensor) -> bool:
    """Whether the library is there, and computes with tensors like this one.

    Parameters
    ----------
    values : Tensor
        A parameter, say.

    Returns
    -------
    bool
        True for float32 and float64 on the CPU.
    """
    return values.dtype in _TYPES and values.is_cpu and load_library() is not None


class _Call:
    """The structures of one call, and the tensors that they point into."""

    def __init__(self, chain: Chain, params: Mapping[str, Tensor], X: Tensor):
        self.chain, self.X = chain, X
        self.layers = (_Layer * len(chain))()
        self.problem = _Problem(
            X.dtype == torch.float64, len(X), len(chain), layers=self.layers
        )
        self._kept: list[Tensor] = []
        for layer, (name, activation) in zip(self.layers, chain, strict=True):
            weight, bias = params[f"{name}.weight"], params[f"{name}.bias"]
            layer.n_out, layer.n_in = weight.shape[-2:]
            layer.activation = _NUMBERS_OF_ACTIVATIONS[activation]
            layer.weight, layer.bias = self.pointer(weight), self.pointer(bias)
            layer.weight_step = weight[0].numel() if weight.ndim == 3 else 0
            layer.bias_step = layer.n_out if bias.ndim == 2 else 0

    def pointer(self, values: Tensor | None) -> int | None:
        """Address of the numbers of a tensor, which is kept until the call is over."""
        if values is None:
            return None
        if values.is_floating_point() and values.dtype != self.X.dtype:
            raise TypeError(
                f"expected tensors of one type; got {self.X.dtype} and {values.dtype}."
            )
        values = values.contiguous()
        self._kept.append(values)
        return values.data_ptr()

    def set_support(self, loss: InnerLoss, lr: Rates, n_steps: int) -> None:
        """Describe the inner loop."""
        problem = self.problem
        problem.support = self.rows(self.X, loss)
        problem.n_steps, problem.has_classes = n_steps, loss.has_classes
        self.set_rates(lr)

    def set_rates(self, lr: Rates) -> None:
        """Describe the rates of the steps."""
        if not isinstance(lr, Mapping):
            self.problem.lr = lr
            return
        for layer, (name, _) in zip(self.layers, self.chain, strict=True):
            shape = layer.n_out, layer.n_in
            layer.weight_rate = self._rate(lr[f"{name}.weight"], shape)
            layer.bias_rate = self._rate(lr[f"{name}.bias"], shape[:1])

    def _rate(self, rate: float | Tensor, shape: tuple[int, ...]) -> int | None:
        """Address of a rate for every number of a parameter."""
        return self.pointer(torch.as_tensor(rate, dtype=self.X.dtype).expand(shape))

    def rows(self, X: Tensor, loss: InnerLoss) -> _Rows:
        """Rows with their loss."""
        weight = loss.weight
        if not weight.stride(0):  # the same in all tasks
            weight = weight[:1]
        return _Rows(
            X.shape[1],
            self.pointer(X),
            self.pointer(loss.Y),
            self.pointer(weight),
            X.shape[1] if len(weight) > 1 else 0,
            present=self.pointer(loss.present),
            offset=self.pointer(loss.offset),
            offset_row=loss.Y.shape[-1],
        )

    def masked_rows(
        self, X: Tensor, Y: Tensor, mask: Tensor, total_weight: float, n_offsets: int
    ) -> _Rows:
        """Rows with a mask, of which the last columns may be offsets."""
        rows = _Rows(X.shape[1], self.pointer(X), self.pointer(Y))
        rows.mask, rows.total_weight = self.pointer(mask), total_weight
        if n_offsets:
            n_features = X.shape[2]
            rows.offset = rows.X + (n_features - n_offsets) * X.element_size()
            rows.offset_row = n_features
        return rows

    def outputs(self, kind: str, like: Mapping[str, Tensor]) -> Parameters:
        """New tensors in the shapes of others, that the call fills."""
        found = {name: self.X.new_empty(p.shape) for name, p in like.items()}
        self.point(kind, found)
        return found

    def point(self, kind: str, values: Mapping[str, Tensor]) -> None:
        """Let the fields of a kind, as in "weight_<kind>", point to tensors."""
        for layer, (name, _) in zip(self.layers, self.chain, strict=True):
            for part in ("weight", "bias"):
                value = values.get(f"{name}.{part}")
                if value is not None:
                    setattr(layer, f"{part}_{kind}", self.pointer(value))

    def rate_outputs(self, params: Mapping[str, Tensor], lr: Rates) -> Parameters:
        """New tensors for the gradients by the rates that are tensors."""
        n_axes = {f"{name}.weight": 2 for name, _ in self.chain}
        found = {
            name: self.X.new_empty(params[name].shape[-n_axes.get(name, 1) :])
            for name in learned_rates(lr)
        }
        self.point("rate_out", found)
        return found

    def run(self, function: str) -> None:
        """Call a function of the library."""
        library = load_library()
        assert library is not None  # `has_kernel` was asked
        self.problem.instructions = library.widest_instructions()
        if getattr(library, function)(self.problem):
            raise MemoryError(
                f"no memory to adapt to {self.problem.support.n_rows} rows in "
                f"{self.problem.n_steps} steps. Take fewer of either, or "
                "second_order=False."
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
        call = _Call(chain, params, X)
        call.set_support(loss, lr, n_steps)
        call.problem.query = call.rows(X_query, query_loss)
        call.problem.second_order = second_order
        losses = X.new_empty(len(X))
        call.problem.losses = losses.data_ptr()
        of_start = call.outputs("out", params)
        of_rates = call.rate_outputs(params, lr)
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
    noise: tuple[Tensor, Tensor, float] | None,
    n_offsets: int,
) -> tuple[Tensor, Parameters, Parameters, list[Tensor]]:
    """Everything about an outer step in one call: its loss and all gradients.

    Parameters
    ----------
    chain, params, lr, n_steps, second_order
        As in :func:`outer_gradient`.
    support, query : tuple of Tensor
        Rows (n_tasks, n_rows, n_in), targets (n_tasks, n_rows, n_out) and a mask
        (n_tasks, n_rows) that is True for a real row.
    noise : tuple of (Tensor, Tensor, float) or None
        Intercept, slope and floor of the spread, for a squared error with noise; None
        for classes.
    n_offsets : int
        How many of the last columns of the rows are added to the outputs.

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
    call = _Call(chain, params, X)
    call.set_rates(lr)
    problem = call.problem
    problem.n_steps, problem.second_order = n_steps, second_order
    problem.has_classes = has_classes
    weight = 1.0 if has_classes else 2.0  # of a squared residual, halved
    problem.support = call.masked_rows(*support, weight, n_offsets)
    problem.query = call.masked_rows(*query, weight, n_offsets)
    losses = X.new_empty(len(X))
    problem.losses = losses.data_ptr()
    of_start = call.outputs("out", params)
    of_rates = call.rate_outputs(params, lr)
    of_noise = []
    if noise is not None:
        intercept, slope, floor = noise
        of_noise = [X.new_empty(()), X.new_empty(())]
        numbers = (call.pointer(value) for value in (intercept, slope, *of_noise))
        first, second, *out = numbers
        problem.noise = _Noise(first, second, floor, *out)
    call.run("differentiate")
    return losses, of_start, _in_shape(of_rates, lr), of_noise


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
        start = with_task_axis(chain, params, len(X))
        diverged = X.new_zeros(len(X), dtype=torch.bool)
        if not n_steps:
            return start, diverged
        call = _Call(chain, params, X)
        call.set_support(loss, lr, n_steps)
        adapted = call.outputs("out", start)
        call.problem.diverged = diverged.data_ptr() if guard else None
        call.run("adapt")
        if guard and bool(diverged.any()):
            evaluate = evaluate_by_formulas(chain, X, loss)
            return descend(evaluate, start, lr, n_steps, guard=True)
        return adapted, diverged


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
    if not n_steps:
        return with_task_axis(chain, params, len(X))
    rates = lr if isinstance(lr, Mapping) else {}
    plan = Plan(chain, loss, lr, n_steps, second_order, tuple(params), tuple(rates))
    inputs = (*params.values(), *rates.values())
    adapted = _InnerLoop.apply(plan, X, *inputs)
    return dict(zip(params, adapted, strict=True))


class _InnerLoop(Function):
    """The steps of `compiled_adapt` and their derivative, for autograd."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, X: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
        """Take the steps."""
        ctx.plan, ctx.X = plan, X
        ctx.params = dict(zip(plan.names, inputs, strict=False))
        adapted, _ = compiled_adapt_without_graph(
            plan.chain, ctx.params, X, plan.loss, plan.lr, plan.n_steps
        )
        return tuple(adapted[name] for name in plan.names)

    @staticmethod
    @once_differentiable  # the recursion itself has no graph
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Take the steps again, with a tape, and go back."""
        plan: Plan = ctx.plan
        call = _Call(plan.chain, ctx.params, ctx.X)
        call.set_support(plan.loss, plan.lr, plan.n_steps)
        call.problem.second_order = plan.second_order
        of_rows = None
        if ctx.needs_input_grad[1] and plan.second_order:
            of_rows = torch.zeros_like(ctx.X, memory_format=torch.contiguous_format)
            call.problem.support.out = of_rows.data_ptr()
        call.point("v", dict(zip(plan.names, gradients, strict=True)))
        of_start = call.outputs("out", ctx.params)
        of_rates = call.rate_outputs(ctx.params, plan.lr)
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
    call = _Call(chain, params, X)
    outputs = X.new_empty(*X.shape[:2], call.layers[-1].n_out)
    call.problem.query = _Rows(X.shape[1], call.pointer(X), out=outputs.data_ptr())
    call.run("predict")
    return outputs


def _in_shape(found: Parameters, lr: Rates) -> Parameters:
    """Gradients by the numbers of the rates, summed to the shapes of the rates."""
    rates = learned_rates(lr)
    return {name: found[name].sum_to_size(rates[name].shape) for name in found}
