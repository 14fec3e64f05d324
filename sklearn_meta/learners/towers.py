"""Perceptrons of one shape that read the same rows, run side by side."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sklearn_meta.functional import ACTIVATIONS
from sklearn_meta.functional.compiled_layers import has_layers, run_layers


class Towers(nn.Module):
    """Hidden layers of several perceptrons, one batched product a layer for all.

    Parameters
    ----------
    n_in : int
        Number of inputs, the same rows for all towers.
    hidden_layer_sizes : sequence of int
        Width of each hidden layer, at least one.
    n_towers : int
        Number of perceptrons.
    activation : str, default="gelu"
        One of :data:`sklearn_meta.functional.ACTIVATIONS`, after every layer.

    Raises
    ------
    ValueError
        If the activation is not known.
    """

    def __init__(
        self,
        n_in: int,
        hidden_layer_sizes: Sequence[int],
        n_towers: int,
        activation: str = "gelu",
    ):
        if activation not in ACTIVATIONS:
            known = ", ".join(map(repr, ACTIVATIONS))
            raise ValueError(f"activation must be one of {known}; got {activation!r}.")
        super().__init__()
        self.activation = ACTIVATIONS[activation]()
        sizes = list(zip((n_in, *hidden_layer_sizes), hidden_layer_sizes, strict=False))
        self.weights = nn.ParameterList(torch.empty(n_towers, *size) for size in sizes)
        self.biases = nn.ParameterList(torch.empty(n_towers, 1, n) for _, n in sizes)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            # as nn.Linear starts
            bound = 1 / math.sqrt(weight.shape[1])
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)

    @staticmethod
    def joined(parts: Sequence["Towers"]) -> "Towers":
        """Return the towers of several of one shape, side by side, as constants."""
        first = parts[0]
        joined = Towers.__new__(Towers)
        nn.Module.__init__(joined)
        joined.activation = first.activation
        for name in ("weights", "biases"):
            layers = zip(*(getattr(part, name) for part in parts), strict=True)
            # a list, not a ParameterList: constants of it are found without a look-up
            setattr(joined, name, [torch.cat(layer).detach() for layer in layers])
        return joined

    def forward(self, rows: Tensor) -> Tensor:
        """Last hidden layers (n_towers, n_rows, width) of rows (n_rows, n_in).

        Rows of shape (n_towers, n_rows, n_in) are the own ones of each tower.
        """
        if has_layers(self.activation, rows):
            layers = list(self.weights), list(self.biases)
            return run_layers(rows, *layers, self.activation)
        hidden = rows.expand(len(self.weights[0]), -1, -1)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = self.activation(torch.baddbmm(bias, hidden, weight))
        return hidden
