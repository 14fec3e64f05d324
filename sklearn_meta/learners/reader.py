"""What a network that reads a support set can do: part of a `ProcessLearner`."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from sklearn_meta.functional import attend
from sklearn_meta.learners.parts import SplitDecoder, State


class Reader(nn.Module, ABC):
    """A network that reads support sets once, then answers queries on their own.

    Sets come first in every tensor, of the state as well.
    """

    @abstractmethod
    def read(self, rows: Tensor, values: Tensor, mask: Tensor) -> State:
        """Read support sets.

        Parameters
        ----------
        rows : Tensor of shape (n_sets, n, n_inputs)
            Support rows.
        values : Tensor of shape (n_sets, n, n_values)
            What is known of each.
        mask : Tensor of shape (n_sets, n)
            True for rows that are there, False for padding.

        Returns
        -------
        dict of str to Tensor
            The state of each set.
        """

    @abstractmethod
    def answer(self, state: State, rows: Tensor) -> Tensor:
        """Answer query rows, none of which sees another.

        Parameters
        ----------
        state : dict of str to Tensor
            What `read` has returned.
        rows : Tensor of shape (n_sets, n, n_inputs)
            Query rows.

        Returns
        -------
        Tensor of shape (n_sets, n, n_outputs)
            Outputs.
        """


class MemoryReader(Reader):
    """A reader whose queries look up the support by content, with attention.

    `read` gives a state of "keys" and "values" (n_sets, n, hidden_size), their "mask"
    (n_sets, n), and a "context" (n_sets, hidden_size + 1).
    """

    locator: nn.Module  # of rows to keys, for support and queries alike
    decoder: SplitDecoder
    n_heads: int

    def answer(self, state: State, rows: Tensor) -> Tensor:
        """Outputs (n_sets, n, n_outputs) of query rows, which read the memory."""
        found = attend(
            self.locator(rows),
            state["keys"],
            state["values"],
            state["mask"],
            self.n_heads,
        )
        outputs: Tensor = self.decoder(torch.cat([rows, found], -1), state["context"])
        return outputs
