"""Networks that read a support set and answer queries: parts of `ProcessLearner`.

All share the contract of ``reader.py``.
"""

import torch
from torch import Tensor, nn

from sklearn_meta.functional import attend, build_mlp, masked_mean_pool
from sklearn_meta.learners.hypernetwork import HypernetworkReader
from sklearn_meta.learners.parts import (
    SplitDecoder,
    State,
    embed_and_pool,
    layers_of,
    log_counts,
    unit_scale_mlp,
    zero_last_layer,
)
from sklearn_meta.learners.reader import MemoryReader, Reader
from sklearn_meta.learners.recurrent import RecurrentReader


class PooledReader(Reader):
    """Conditional neural process: the support is the mean of its embedded rows.

    Parameters
    ----------
    n_inputs, n_values, n_outputs : int
        Widths of a row, of what is known of a support row, and of the output.
    hidden_size : int
        Width of each hidden layer.
    n_layers : int
        Number of hidden layers of the encoder and of the decoder.
    n_heads : int
        Ignored here.

    References
    ----------
    M. Garnelo et al., "Conditional Neural Processes", ICML 2018, section 2.2.
    """

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
        self.decoder = SplitDecoder(
            n_inputs, hidden_size + 1, hidden_size, n_layers, n_outputs
        )

    def read(self, rows: Tensor, values: Tensor, mask: Tensor) -> State:
        """Pool the support rows to "context" (n_sets, hidden_size + 1).

        A mean loses their number, so it is kept beside.
        """
        pooled = embed_and_pool(self.encoder, rows, values, mask)
        return {"context": torch.cat([pooled, log_counts(mask, pooled)], -1)}

    def answer(self, state: State, rows: Tensor) -> Tensor:
        """Outputs (n_sets, n, n_outputs) of query rows."""
        outputs: Tensor = self.decoder(rows, state["context"])
        return outputs


class AttentiveReader(MemoryReader):
    """Attentive neural process, deterministic path: queries weigh the support rows.

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

    References
    ----------
    H. Kim et al., "Attentive Neural Processes", ICLR 2019, section 3.
    """

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
        # Keys and queries by one network, so that like rows attend to each other.
        self.locator = unit_scale_mlp(n_inputs, hidden, hidden_size)
        self.decoder = SplitDecoder(
            n_inputs + hidden_size, hidden_size + 1, hidden_size, n_layers, n_outputs
        )

    def read(self, rows: Tensor, values: Tensor, mask: Tensor) -> State:
        """Embed the support rows for attention, and pool them as well.

        "keys" and "values" are of shape (n_sets, n, hidden_size), "context" of
        (n_sets, hidden_size + 1).
        """
        embedded = self.encoder(torch.cat([rows, values], -1))
        pooled = masked_mean_pool(embedded, mask)
        return {
            "keys": self.locator(rows),
            "values": embedded,
            "mask": mask,
            "context": torch.cat([pooled, log_counts(mask, pooled)], -1),
        }


class TransformerReader(Reader):
    """Transformer neural process: support rows attend to each other, queries to them.

    Parameters
    ----------
    n_inputs, n_values, n_outputs : int
        Widths of a row, of what is known of a support row, and of the output.
    hidden_size : int
        Width of a token; a multiple of `n_heads`.
    n_layers : int
        Number of attention blocks.
    n_heads : int
        Number of attention heads.

    Notes
    -----
    TNP-D gives query tokens y = 0, which a support row may have too; here only support
    tokens get a value embedding, whose bias tells the two apart. Every token also
    gets the log of the support size, which attention cannot count.

    References
    ----------
    T. Nguyen, A. Grover, "Transformer Neural Processes: Uncertainty-Aware Meta
    Learning Via Sequence Modeling", ICML 2022, section 3.2 (TNP-D).
    """

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
        self.embed_row = unit_scale_mlp(n_inputs, (hidden_size,), hidden_size)
        self.embed_value = nn.Linear(n_values, hidden_size)
        nn.init.kaiming_normal_(self.embed_value.weight, nonlinearity="linear")
        self.embed_count = nn.Linear(1, hidden_size, bias=False)
        self.blocks = nn.ModuleList(
            AttentionBlock(hidden_size, n_heads) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(hidden_size)
        self.decoder = build_mlp(hidden_size, (hidden_size,), n_outputs, "gelu")
        zero_last_layer(self.decoder)

    def read(self, rows: Tensor, values: Tensor, mask: Tensor) -> State:
        """Run the support through the blocks; keep each block's keys and values.

        They are of shape (n_sets, n, hidden_size), "count" of (n_sets, hidden_size).
        """
        count = self.embed_count(log_counts(mask, rows))
        tokens = self.embed_row(rows) + self.embed_value(values) + count[:, None]
        state = {"mask": mask, "count": count}
        for i, block in enumerate(layers_of(AttentionBlock, self.blocks)):
            keys, contents = block.project(tokens)
            tokens = block(tokens, keys, contents, mask)
            state |= {f"keys_{i}": keys, f"values_{i}": contents}
        return state

    def answer(self, state: State, rows: Tensor) -> Tensor:
        """Outputs (n_sets, n, n_outputs) of query rows."""
        tokens = self.embed_row(rows) + state["count"][:, None]
        for i, block in enumerate(self.blocks):
            keys, contents = state[f"keys_{i}"], state[f"values_{i}"]
            tokens = block(tokens, keys, contents, state["mask"])
        outputs: Tensor = self.decoder(self.norm(tokens))
        return outputs


class AttentionBlock(nn.Module):
    """Pre-norm attention to a support set, then a pre-norm perceptron.

    Parameters
    ----------
    hidden_size : int
        Width of a token; a multiple of `n_heads`.
    n_heads : int
        Number of attention heads.
    """

    def __init__(self, hidden_size: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(hidden_size)
        self.to_query = nn.Linear(hidden_size, hidden_size)
        self.to_support = nn.Linear(hidden_size, 2 * hidden_size)
        self.merge = nn.Linear(hidden_size, hidden_size)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(hidden_size),
            build_mlp(hidden_size, (2 * hidden_size,), hidden_size, "gelu"),
        )

    def project(self, support: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (n_sets, n_support, hidden_size) of support tokens."""
        keys, contents = self.to_support(self.norm(support)).chunk(2, dim=-1)
        return keys, contents

    def forward(
        self, tokens: Tensor, keys: Tensor, contents: Tensor, mask: Tensor
    ) -> Tensor:
        """Tokens (n_sets, n, hidden_size) after one look at the support.

        Keys and contents are as of `project`; the mask (n_sets, n_support) is True for
        rows that are there.
        """
        queries = self.to_query(self.norm(tokens))
        found = attend(queries, keys, contents, mask, self.n_heads)
        tokens = tokens + self.merge(found)
        updated: Tensor = tokens + self.perceptron(tokens)
        return updated


READERS: dict[str, type[Reader]] = {
    "cnp": PooledReader,
    "attentive": AttentiveReader,
    "transformer": TransformerReader,
    "hypernetwork": HypernetworkReader,
    "recurrent": RecurrentReader,
}

# readers whose width is split among heads
WITH_HEADS = ("attentive", "transformer", "recurrent")
