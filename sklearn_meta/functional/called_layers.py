"""The layers that a module's ``forward`` calls, found by calling it without numbers.

A module that is a class of the user's own may well be a plain stack of layers. Its
``forward`` is called with a tensor without numbers that stands for rows and remembers
the layers that it went through; whatever else is done to it, were it a look at its
shape, is an error. So what becomes of rows is known for sure.
"""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Layers = list[tuple[str, nn.Module]]

# a function of torch, called with rows and options, does what the layer does
ACTIVATIONS: dict[Callable, Callable[..., nn.Module]] = {
    F.relu: lambda inplace=False: nn.ReLU(),
    torch.relu: nn.ReLU,
    Tensor.relu: nn.ReLU,
    torch.tanh: nn.Tanh,
    Tensor.tanh: nn.Tanh,
    torch.sigmoid: nn.Sigmoid,
    Tensor.sigmoid: nn.Sigmoid,
    F.gelu: nn.GELU,
    F.silu: lambda inplace=False: nn.SiLU(),
    F.elu: lambda alpha=1.0, inplace=False: nn.ELU(alpha),
    F.leaky_relu: lambda slope=0.01, inplace=False, negative_slope=None: nn.LeakyReLU(
        slope if negative_slope is None else negative_slope
    ),
    F.softplus: nn.Softplus,
}


def called_layers(module: nn.Module) -> Layers | None:
    """Layers that a module's ``forward`` calls, if it does nothing else.

    Parameters
    ----------
    module : nn.Module
        Any network. Its ``forward`` is called twice, in training mode and not.

    Returns
    -------
    list of (str, nn.Module) or None
        Names and layers in order, activations without a name of the module's. None
        unless rows go through nn.Linear, nn.LayerNorm, nn.Dropout and elementwise
        activations, one after another, every weight once and all of them.

    Notes
    -----
    A ``forward`` that does another thing from call to call is found out where it asks
    Python or torch for random numbers, or sets an attribute.

    Examples
    --------
    >>> from torch import nn
    >>> from sklearn_meta.functional.called_layers import called_layers
    >>> class Network(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)
    ...     def forward(self, X):
    ...         return self.last(self.first(X).relu())
    >>> called_layers(Network())
    [('first', Linear(...)), ('<1>', ReLU()), ('last', Linear(...))]
    """
    modes = {part: part.training for part in module.modules()}
    found = []
    try:
        for training in (True, False):
            for part in modes:
                part.training = training
            found.append(_call(module))
    finally:
        for part, training in modes.items():
            part.training = training
    layers, others = found
    if layers is None or others is None or not _are_alike(layers, others):
        return None
    own = [id(p) for _, layer in layers for p in layer.parameters()]
    if sorted(own) != sorted(id(p) for p in module.parameters()):
        return None
    return [(name or f"<{i}>", layer) for i, (name, layer) in enumerate(layers)]


class _UnknownError(Exception):
    """Rows were put to a use of which nothing is known."""


class _Rows(Tensor):
    """Stands for rows in the ``forward`` of a module."""

    module: nn.Module
    layers: Layers  # what the rows went through

    @classmethod
    def of(cls, module: nn.Module, layers: Layers) -> "_Rows":
        """Return rows without numbers."""
        rows: _Rows = torch.empty(0).as_subclass(cls)
        rows.module, rows.layers = module, layers
        return rows

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Any, args: tuple = (), kwargs: Any = None
    ) -> "_Rows":
        """Take a call of one of torch's functions, or a look at an attribute."""
        rows, *options = args or (None,)
        if not isinstance(rows, _Rows):
            raise _UnknownError
        kwargs = kwargs or {}
        after = rows._through(function, *options, **kwargs)
        if not kwargs.get("inplace"):
            return after
        rows.layers = after.layers  # whoever holds the rows sees what became of them
        return rows

    def _through(self, function: Callable, *options: Any, **kwargs: Any) -> "_Rows":
        """Return the rows after a function of torch, if it is that of a layer."""
        if function in ACTIVATIONS:
            return self._after("", ACTIVATIONS[function](*options, **kwargs))
        if function is F.linear:
            return self._through_linear(*options, **kwargs)
        if function is F.layer_norm:
            return self._through_layer_norm(*options, **kwargs)
        if function is F.dropout:
            return self._through_dropout(*options, **kwargs)
        raise _UnknownError

    def _after(self, name: str, layer: nn.Module) -> "_Rows":
        return _Rows.of(self.module, [*self.layers, (name, layer)])

    def _through_linear(self, weight: Tensor, bias: Tensor | None = None) -> "_Rows":
        for name, layer in self.module.named_modules():
            if type(layer) is nn.Linear and layer.weight is weight:
                if layer.bias is bias:
                    return self._after(name, layer)
        raise _UnknownError

    def _through_layer_norm(
        self,
        normalized_shape: Any,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> "_Rows":
        for name, layer in self.module.named_modules():
            if type(layer) is nn.LayerNorm and layer.weight is weight is not None:
                same = layer.bias is bias and layer.eps == eps
                if same and len(layer.normalized_shape) == 1:
                    return self._after(name, layer)
        raise _UnknownError

    def _through_dropout(
        self, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> "_Rows":
        # of the module's own, which follow its mode
        for name, layer in self.module.named_modules():
            if type(layer) is nn.Dropout and layer.p == p:
                if layer.training == training:
                    return self._after(name, layer)
        raise _UnknownError


def _call(module: nn.Module) -> Layers | None:
    """Return what rows go through in a module, as it is now."""
    before = [dict(part.__dict__) for part in module.modules()]
    chance = random.getstate(), torch.get_rng_state()
    try:
        rows = module(_Rows.of(module, []))
    except Exception:  # of any kind: these are no rows
        return None
    # one that throws dice, or notes something, may do another thing the next time
    if random.getstate() != chance[0] or (torch.get_rng_state() != chance[1]).any():
        return None
    for part, old in zip(module.modules(), before, strict=True):
        new = part.__dict__
        if new.keys() != old.keys() or any(new[key] is not old[key] for key in old):
            return None
    return rows.layers if isinstance(rows, _Rows) else None


def _are_alike(layers: Layers, others: Layers) -> bool:
    """Return whether two lists name the same layers, and activations of a kind."""
    return [(name, repr(layer)) for name, layer in layers] == [
        (name, repr(layer)) for name, layer in others
    ]
