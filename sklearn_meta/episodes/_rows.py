"""Stacks of episodes, and the row numbers that they are looked up by."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_meta.draws import columns_below, draw_without_replacement
from sklearn_meta.functional.at_hand import is_at_hand

__all__ = ["EpisodeRows", "Episodes", "look_up", "split_draws"]


class Episodes(NamedTuple):
    """A stack of episodes, padded to the largest one.

    Masks are True on real rows; the targets of padding rows are zero.
    """

    X_support: Tensor  # (n_tasks, n_support, n_features)
    Y_support: Tensor  # (n_tasks, n_support, n_outputs)
    support_mask: Tensor  # (n_tasks, n_support)
    X_query: Tensor  # (n_tasks, n_query, n_features)
    Y_query: Tensor  # (n_tasks, n_query, n_outputs)
    query_mask: Tensor  # (n_tasks, n_query)

    def split(self, n_tasks: int) -> "Iterator[Episodes]":
        """Yield so many episodes at a time."""
        parts = (part.split(n_tasks) for part in self)
        return map(Episodes._make, zip(*parts, strict=True))


class EpisodeRows(NamedTuple):
    """Row numbers of many episodes in the table of all rows, with masks."""

    support: Tensor  # (n_episodes, n_support)
    support_mask: Tensor
    query: Tensor  # (n_episodes, n_query)
    query_mask: Tensor

    def select(self, episodes: slice) -> "EpisodeRows":
        """Return some of the episodes."""
        return EpisodeRows(*(part[episodes] for part in self))

    def split(self, n_episodes: int) -> "Iterator[EpisodeRows]":
        """Yield so many episodes at a time."""
        parts = (part.split(n_episodes) for part in self)
        return map(EpisodeRows._make, zip(*parts, strict=True))

    def to(self, device: torch.device) -> "EpisodeRows":
        """Return the row numbers on a device."""
        return EpisodeRows(*(part.to(device) for part in self))


def split_draws(
    starts: Tensor,
    sizes: Tensor,
    shots: Tensor,
    max_shots: int,
    n_queries: int,
    generator: torch.Generator,
    order: str = "random",
) -> EpisodeRows:
    """Draw rows of each urn, ``shots`` of them as support and others as query.

    The support is drawn, or it is the first rows of the urn. At least one row of an urn
    is left for the query.
    """
    shots = torch.minimum(shots, sizes - 1)
    support_mask = columns_below(shots, max_shots)
    starts, shots = starts.unsqueeze(1), shots.unsqueeze(1)
    if order == "first":
        n_left = sizes - shots.squeeze(1)
        draws, query_mask = draw_without_replacement(n_left, n_queries, generator)
        # padding repeats the last row: what follows may be another urn's, or nothing
        support = torch.minimum(torch.arange(max_shots), shots - 1)
        query = shots + draws
    else:
        n_drawn = max_shots + n_queries
        draws, valid = draw_without_replacement(sizes, n_drawn, generator)
        support = draws[:, :max_shots]
        query, query_mask = _after(shots, n_queries, draws, valid)
    return EpisodeRows(starts + support, support_mask, starts + query, query_mask)


def _after(shots: Tensor, n_queries: int, *draws: Tensor) -> list[Tensor]:
    """Return the columns of draws (n_urns, n_drawn) from the shots (n_urns, 1) on."""
    fewest = int(shots.min())
    if fewest == int(shots.max()):  # as many everywhere: nothing to gather
        return [part[:, fewest : fewest + n_queries] for part in draws]
    next_ones = shots + torch.arange(n_queries)
    return [part.gather(1, next_ones) for part in draws]


def look_up(table: Tensor, rows: Tensor) -> Tensor:
    """Return the rows of a table, (n_episodes, n_rows, n_columns)."""
    if not is_at_hand(table):
        return table.index_select(0, rows.flatten()).unflatten(0, rows.shape)
    # numpy takes half as long as torch
    return torch.from_numpy(table.numpy().take(rows.numpy(), axis=0))
