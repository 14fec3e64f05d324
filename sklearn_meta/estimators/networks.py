"""Building the network that an estimator asks for, and running it on rows."""

import copy
import inspect
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import gen_batches
from torch import nn

from sklearn_meta.functional import build_mlp
from sklearn_meta.training import one_thread

__all__ = ["build_network", "embed_rows"]

DEFAULT_SIZES = (64, 64)
# rows that go through a network at a time
BLOCK_ROWS = 2**16


def build_network(
    estimator: Any, n_features: int, n_outputs: int | None, *, any_width: bool = False
) -> nn.Module:
    """Return the user's module, or a multi-layer perceptron.

    Parameters
    ----------
    estimator : estimator
        Has ``module``, ``module_params`` and, for the perceptron,
        ``hidden_layer_sizes`` and ``activation``.
    n_features : int
        Columns of the rows.
    n_outputs : int or None
        Outputs that the network must have; None for an embedding of any width.
    any_width : bool, default=False
        Whether ``n_outputs`` is an offer that the user's module need not take.

    Returns
    -------
    network : nn.Module
        Maps rows (n, n_features) to (n, n_outputs).

    Raises
    ------
    TypeError
        If the user's module is no ``nn.Module`` or cannot be called so.
    ValueError
        If it does not map rows as it must.
    """
    if estimator.module is None:
        sizes = estimator.hidden_layer_sizes
        sizes = DEFAULT_SIZES if sizes is None else sizes
        check_widths(sizes)
        *hidden, width = sizes or (n_features,)
        if n_outputs is not None:
            hidden, width = sizes, n_outputs
        return build_mlp(n_features, hidden, width, estimator.activation)
    network = _call_module(estimator, n_features, n_outputs)
    _check_mapping(network, n_features, None if any_width else n_outputs)
    return network


def embed_rows(
    embed: Callable[[torch.Tensor], torch.Tensor], X: np.ndarray, device: torch.device
) -> np.ndarray:
    """Return what a trained network makes of rows, a block at a time.

    Parameters
    ----------
    embed : callable
        Maps rows (n, n_features), in float64 on the device, to features (n, width).
    X : ndarray of shape (n_samples, n_features)
        Scaled rows, at least one.
    device : torch.device
        Where the network lives.

    Returns
    -------
    features : ndarray of shape (n_samples, width)
        In float64.
    """
    with torch.no_grad(), one_thread(device):
        parts = [
            embed(torch.as_tensor(X[block], device=device)).cpu().numpy()
            for block in gen_batches(len(X), BLOCK_ROWS)
        ]
    return np.concatenate(parts)


def check_widths(sizes: Any) -> None:
    """Raise unless the widths of hidden layers are whole numbers of at least 1."""
    if not all(isinstance(size, Integral) and int(size) >= 1 for size in sizes):
        raise ValueError(
            f"Expected hidden_layer_sizes of whole numbers of at least 1, got {sizes!r}"
            ". Give one width per hidden layer, as in (64, 64)."
        )


def _call_module(estimator: Any, n_features: int, n_outputs: int | None) -> nn.Module:
    """Build the user's module with the arguments that it takes."""
    module, params = estimator.module, estimator.module_params or {}
    if isinstance(module, nn.Module):
        if params:
            raise TypeError(
                "module_params needs module to be a class or a callable, got an "
                f"instance of {type(module).__name__}."
            )
        return copy.deepcopy(module)
    offered = {"n_features": n_features, "n_outputs": n_outputs}
    if n_outputs is None:
        del offered["n_outputs"]
    network = module(**{k: v for k, v in offered.items() if _takes(module, k)} | params)
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"Expected module to return an nn.Module, got {type(network).__name__}."
        )
    return network


def _takes(module: Any, name: str) -> bool:
    """Return whether a callable has a parameter of that name, or any."""
    try:
        parameters = inspect.signature(module).parameters.values()
    except ValueError:  # some builtins do not tell
        return False
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def _check_mapping(network: nn.Module, n_features: int, n_outputs: int | None) -> None:
    """Try the network on two rows."""
    rows = torch.zeros(2, n_features)
    was_training = network.training
    with torch.no_grad():
        shape = tuple(network.float().eval()(rows).shape)
    network.train(was_training)
    wanted = f"(2, {'n' if n_outputs is None else n_outputs})"
    if len(shape) != 2 or shape[0] != 2 or shape[1] != (n_outputs or shape[1]):
        raise ValueError(
            f"Expected module to map 2 rows of {n_features} features to shape "
            f"{wanted}, got {shape}."
        )
