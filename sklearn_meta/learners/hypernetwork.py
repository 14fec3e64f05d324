"""A reader of support sets that writes the weights of each task's network."""

import torch
from torch import Tensor, nn

from sklearn_meta.learners.parts import (
    State,
    embed_and_pool,
    layers_of,
    log_counts,
    unit_scale_mlp,
    zero_last_layer,
)
from sklearn_meta.learners.reader import Reader


class HypernetworkReader(Reader):
    r"""A network that writes the weights of the task's network.

    The support is embedded row by row and averaged to a context :math:`c`. Each layer
    of the task's network, a perceptron, has the weights

    .. math::

        W(c) = W_0 + A(c) B(c)^\top, \qquad b(c) = b_0 + d(c)

    with learned :math:`W_0, b_0` for all tasks and with factors of rank ``RANK`` that
    are linear in the context.

    Parameters
    ----------
    n_inputs, n_values, n_outputs : int
        Widths of a row, of what is known of a support row, and of the output.
    hidden_size : int
        Width of each hidden layer, of the encoder and of the task's network.
    n_layers : int
        Number of hidden layers of each of the two.
    n_heads : int
        Ignored here.

    Notes
    -----
    [1]_ and [2]_ generate the weights in pieces, from a learned code of each piece. A
    change of low rank keeps the number of generated values, and so the generator, as
    small. [3]_ generates scales of channels from the mean of embedded support rows:
    the same with a diagonal change.

    References
    ----------
    .. [1] D. Ha, A. Dai, Q. V. Le, "HyperNetworks", ICLR 2017, section 3.1.
    .. [2] J. von Oswald et al., "Continual learning with hypernetworks", ICLR 2020.
    .. [3] J. Requeima et al., "Fast and flexible multi-task classification using
       conditional neural adaptive processes", NeurIPS 2019, section 2.
    """

    RANK = 4
    # entries of the context start near 1 in size
    CONTEXT_LIMIT = 6.0

    def __init__(
        self,
        n_inputs: int,
        n_values: int,
        n_outputs: int,
        hidden_size: int,
        n_layers: int,
        n_heads: int,
    ):
        del n_heads  # part of the readers' common signature
        super().__init__()
        hidden = (hidden_size,) * n_layers
        self.encoder = unit_scale_mlp(n_inputs + n_values, hidden, hidden_size)
        network = unit_scale_mlp(n_inputs, hidden, n_outputs)
        zero_last_layer(network)
        layers = layers_of(nn.Linear, network)
        self.shared = nn.ModuleList(layers)
        self.generators = nn.ModuleList(
            self._generator(hidden_size + 1, layer) for layer in layers
        )

    def _generator(self, n_context: int, layer: nn.Linear) -> nn.Linear:
        """Return what maps a context to both factors and the bias of a layer.

        The second factor and the bias start at zero: the task's network starts as the
        one that all tasks share, and only the product's other factor is random.
        """
        n_first = self.RANK * layer.in_features
        generator = nn.Linear(n_context, n_first + (self.RANK + 1) * layer.out_features)
        nn.init.zeros_(generator.weight[n_first:])
        nn.init.zeros_(generator.bias)
        nn.init.normal_(generator.weight[:n_first], std=layer.in_features**-0.5)
        return generator

    def read(self, rows: Tensor, values: Tensor, mask: Tensor) -> State:
        """Write the layers of each set's network.

        They are "weight_i" (n_sets, n_in, n_out) and "bias_i" (n_sets, n_out).
        """
        pooled = embed_and_pool(self.encoder, rows, values, mask)
        # weights are multiplied layer by layer: a wild support must not make them wild
        pooled = pooled.clamp(-self.CONTEXT_LIMIT, self.CONTEXT_LIMIT)
        context = torch.cat([pooled, log_counts(mask, pooled)], -1)
        # one step of Adam moves all weights of a generator by as much: its sum over the
        # context, and the product's over the rank, must not grow with their sizes
        context = context / (context.shape[-1] * self.RANK) ** 0.5
        state = {}
        for i, layer in enumerate(layers_of(nn.Linear, self.shared)):
            change, bias = self._write(self.generators[i](context), layer)
            # contiguous, so that a state from a file answers alike to the last bit
            state[f"weight_{i}"] = (layer.weight.mT + change).contiguous()
            state[f"bias_{i}"] = layer.bias + bias
        return state

    def _write(self, generated: Tensor, layer: nn.Linear) -> tuple[Tensor, Tensor]:
        """Return the change of a layer's weight (n_sets, n_in, n_out) and bias."""
        n_first = self.RANK * layer.in_features
        ends = (n_first, n_first + self.RANK * layer.out_features)
        first, second, bias = generated.tensor_split(ends, dim=-1)
        first = first.unflatten(-1, (layer.in_features, self.RANK))
        return first @ second.unflatten(-1, (self.RANK, layer.out_features)), bias

    def answer(self, state: State, rows: Tensor) -> Tensor:
        """Outputs (n_sets, n, n_outputs) of each set's own network."""
        for i in range(len(self.shared)):
            rows = nn.functional.gelu(rows) if i else rows
            weight, bias = state[f"weight_{i}"], state[f"bias_{i}"]
            rows = torch.baddbmm(bias[:, None], rows, weight)
        return rows
