"""Parts that the networks which read a support set have in common."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from sklearn_meta.functional import build_mlp, masked_mean_pool, output_size

State = dict[str, Tensor]
Kind = TypeVar("Kind", bound=nn.Module)

# Adam moves a number by about its rate each step, whatever the number's scale.
# Logarithms of scales have further to go than the weights of a network.
REACH = 20.0
# rows that are embedded at a time: the layers of a million would take a gigabyte
MAX_EMBEDDED_ROWS = 2**16


class LearnedNumbers(nn.Module):
    """Numbers that start at given values, and go as far as logarithms have to.

    With the rates that networks need, they move by 0.06 a step.

    Parameters
    ----------
    reach : float, default=20.0
        By what the moves are multiplied.
    **starts : float or Tensor
        The start of each number, or vector of numbers, by its name.
    """

    def __init__(self, reach: float = REACH, /, **starts: float | Tensor):
        super().__init__()
        self.reach = reach
        self.moves = nn.ParameterDict()
        for name, start in starts.items():
            start = torch.as_tensor(start, dtype=torch.get_default_dtype())
            self.register_buffer(f"start_{name}", start)
            self.moves[name] = nn.Parameter(torch.zeros_like(start))

    def forward(self, name: str) -> Tensor:
        """Return a number as it is now."""
        start: Tensor = getattr(self, f"start_{name}")
        return start + self.reach * self.moves[name]


class SplitDecoder(nn.Module):
    """A perceptron of a row and its set's representation, without joining the two.

    The first layer is split in two: the set's part is computed once per set and added
    to every row, where a concatenation would repeat it for every query.

    Parameters
    ----------
    n_inputs : int
        Width of a row.
    n_context : int
        Width of the set's representation.
    hidden_size : int
        Width of each hidden layer.
    n_layers : int
        Number of hidden layers, >= 1.
    n_outputs : int
        Width of the output, which starts at zero.
    """

    def __init__(
        self,
        n_inputs: int,
        n_context: int,
        hidden_size: int,
        n_layers: int,
        n_outputs: int,
    ):
        super().__init__()
        self.of_row = nn.Linear(n_inputs, hidden_size)
        self.of_set = nn.Linear(n_context, hidden_size, bias=False)
        hidden = (hidden_size,) * (n_layers - 1)
        self.rest = nn.Sequential(
            nn.GELU(), build_mlp(hidden_size, hidden, n_outputs, "gelu")
        )
        zero_last_layer(self.rest)

    def forward(self, rows: Tensor, context: Tensor) -> Tensor:
        """Outputs (n_sets, n, n_outputs); context (n_sets, n_context)."""
        outputs: Tensor = self.rest(self.of_row(rows) + self.of_set(context)[:, None])
        return outputs


def embed_and_pool(
    encoder: nn.Module, rows: Tensor, values: Tensor, mask: Tensor
) -> Tensor:
    """Mean of the embedded rows of each set, (n_sets, width), large sets in parts.

    Where gradients are asked for, the layers are kept and nothing would be gained.
    """
    n_sets, n_rows = mask.shape
    if torch.is_grad_enabled() or n_sets * n_rows <= MAX_EMBEDDED_ROWS:
        return masked_mean_pool(encoder(torch.cat([rows, values], -1)), mask)
    total: Tensor = torch.zeros(())
    for part in torch.arange(n_rows).split(max(1, MAX_EMBEDDED_ROWS // n_sets)):
        own = slice(int(part[0]), int(part[-1]) + 1)
        embedded = encoder(torch.cat([rows[:, own], values[:, own]], -1))
        total = total + masked_mean_pool(embedded, mask[:, own]) * _counts(mask[:, own])
    return total / _counts(mask)


def _counts(mask: Tensor) -> Tensor:
    """Number of real rows, at least 1, of shape (n_sets, 1)."""
    return mask.sum(1, keepdim=True).clamp_min(1)


def log_counts(mask: Tensor, like: Tensor) -> Tensor:
    """log(1 + number of support rows), of shape (n_sets, 1)."""
    return torch.log1p(mask.sum(1, keepdim=True).to(like))


def layers_of(kind: type[Kind], modules: Iterable[nn.Module]) -> list[Kind]:
    """Those of some modules that are of a kind, in their order."""
    return [module for module in modules if isinstance(module, kind)]


def unit_scale_mlp(
    n_in: int, hidden_layer_sizes: Sequence[int], n_out: int
) -> nn.Sequential:
    """A perceptron whose outputs start near 1 in size for standardised inputs.

    torch's own start shrinks a signal threefold at every layer, and its biases leave a
    narrow input almost linear: attention is then uniform, pooled rows are all alike,
    and training sits on a plateau for hundreds of steps.
    """
    network = build_mlp(n_in, hidden_layer_sizes, n_out, "gelu")
    for i, layer in enumerate(layers_of(nn.Linear, network)):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(layer.bias, std=1.0 if i == 0 else 0.0)
    return network


def zero_last_layer(network: nn.Module) -> None:
    """Make a network start at output zero, so that training starts at the prior."""
    last = layers_of(nn.Linear, network.modules())[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


def embedding_width(network: nn.Module, reader: str) -> int:
    """Width of a network's output, or an error that says what needs it."""
    width = output_size(network)
    if width is None:
        raise ValueError(
            f"{reader} needs the width of the embedding, which cannot be read from "
            f"{type(network).__name__}: it has no nn.Linear layer. Pass embedding_size."
        )
    return width
