"""A reader of support sets that takes in one row after the other."""

import torch
from torch import Tensor, nn

from sklearn_meta.learners.parts import (
    SplitDecoder,
    State,
    log_counts,
    unit_scale_mlp,
)
from sklearn_meta.learners.reader import MemoryReader


class RecurrentReader(MemoryReader):
    """A recurrent network that reads support rows with their labels, one by one.

    What it says after each row goes into a memory, which queries read by content. Since
    a support is a set, it is not read in the order in which it is given, but in
    ``N_ORDERS`` orders of its own: each sorts the rows along a fixed random direction.

    Parameters
    ----------
    n_inputs, n_values, n_outputs : int
        Widths of a row, of what is known of a support row, and of the output.
    hidden_size : int
        Width of each hidden layer; a multiple of `n_heads`.
    n_layers : int
        Number of hidden layers of the encoders and of the decoder.
    n_heads : int
        Number of attention heads.

    Notes
    -----
    Both papers feed queries into the sequence, so that a label has to come one step
    after its row [1]_. Here the sequence ends with the support and queries only read:
    none changes what another one finds. Memory is addressed by content [1]_ with
    attention over all steps [2]_. Neither paper's order carries meaning; sorting makes
    that exact, where averaging over random orders would do so in the limit.

    References
    ----------
    .. [1] A. Santoro et al., "Meta-learning with memory-augmented neural networks",
       ICML 2016, sections 2 and 3.
    .. [2] N. Mishra et al., "A simple neural attentive meta-learner", ICLR 2018,
       section 3.
    """

    N_ORDERS = 3

    directions: Tensor

    def __init__(
        self,
        n_inputs: int,
        n_values: int,
        n_outputs: int,
        hidden_size: int,
        n_layers: int,
        n_heads: int,
    ):
        super().__init__()
        hidden = (hidden_size,) * n_layers
        self.n_heads = n_heads
        self.encoder = unit_scale_mlp(n_inputs + n_values, hidden, hidden_size)
        self.locator = unit_scale_mlp(n_inputs, hidden, hidden_size)
        self.controller = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.decoder = SplitDecoder(
            n_inputs + hidden_size, hidden_size + 1, hidden_size, n_layers, n_outputs
        )
        # fixed, not learned: the orders are the same before and after training
        directions = torch.randn(
            self.N_ORDERS,
            n_inputs + n_values,
            generator=torch.Generator().manual_seed(0),
        )
        self.register_buffer("directions", directions)

    def read(self, rows: Tensor, values: Tensor, mask: Tensor) -> State:
        """Read each support in every order; keep all steps and the mean last one.

        "keys" and "values" are of shape (n_sets, n_steps, hidden_size), "context" of
        (n_sets, hidden_size + 1).
        """
        joined = torch.cat([rows, values], -1)
        order = self._orders(joined, mask)  # (n_sets * N_ORDERS, n_support)
        tokens = _rows_in_order(self.encoder(joined), order)
        steps = self._run(tokens)
        in_order = _rows_in_order(mask.unsqueeze(-1), order).squeeze(-1)
        last = _last_row(steps, in_order).unflatten(0, (-1, self.N_ORDERS))
        keys = _rows_in_order(self.locator(rows), order)
        # the steps of all orders of a set side by side: (n_sets, n_steps, ...)
        n_sets, n_steps = len(rows), self.N_ORDERS * rows.shape[1]
        return {
            "keys": keys.reshape(n_sets, n_steps, keys.shape[-1]),
            "values": steps.reshape(n_sets, n_steps, steps.shape[-1]),
            "mask": in_order.reshape(n_sets, n_steps),
            "context": torch.cat([last.mean(1), log_counts(mask, rows)], -1),
        }

    def _orders(self, joined: Tensor, mask: Tensor) -> Tensor:
        """Sort rows (n_sets, n, width) along each direction, (n_sets * n_orders, n).

        Padding comes last.
        """
        # a sum of products, whose rounding does not depend on the size of the stack
        places = (joined.unsqueeze(1) * self.directions[:, None]).sum(-1)
        places = places.masked_fill(~mask.unsqueeze(1), torch.inf)
        return places.argsort(-1).flatten(0, 1)

    def _run(self, tokens: Tensor) -> Tensor:
        """Return what the controller says after each row, (n_sets * n_orders, n, d)."""
        if tokens.shape[1] == 0:
            return tokens
        steps: Tensor = self.controller(tokens)[0]
        return steps


def _last_row(values: Tensor, mask: Tensor) -> Tensor:
    """Last real row of each set (n_sets, n_columns), zeros for an empty one.

    Real rows come before padding.
    """
    if values.shape[1] == 0:
        return values.new_zeros(len(values), values.shape[2])
    last = (mask.sum(1) - 1).clamp_min(0)
    rows = values[torch.arange(len(values), device=values.device), last]
    return rows * mask.any(1, keepdim=True)


def _rows_in_order(rows: Tensor, order: Tensor) -> Tensor:
    """Rows (n_sets, n, n_columns) in several orders of each set, sets first."""
    repeated = rows.repeat_interleave(len(order) // len(rows), 0)
    return repeated.gather(1, order.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))
