"""Episodes of old tasks as row numbers, for estimators without a learner."""

from typing import NamedTuple

import numpy as np
import torch

from sklearn_meta.episodes import RowEpisodeSampler
from sklearn_meta.tasks import TaskRows

__all__ = ["Draws", "draw_episodes"]

EPISODES_PER_TASK = 8
N_EPISODES = (64, 512)
N_QUERIES = 16


class Draws(NamedTuple):
    """Episodes of the old tasks as row numbers."""

    task: np.ndarray  # (n_episodes,)
    support: np.ndarray  # (n_episodes, n_support)
    is_support: np.ndarray  # (n_episodes, n_support), bool
    query: np.ndarray  # (n_queries,)
    episode: np.ndarray  # (n_queries,), the episode of each query

    @property
    def counts(self) -> np.ndarray:
        """Support rows of each episode."""
        return self.is_support.sum(1)

    def sum_support(self, values: np.ndarray) -> np.ndarray:
        """Return the sum over supports of values (n_rows, ...), (n_episodes, ...)."""
        mask = self.is_support.reshape(*self.is_support.shape, *[1] * (values.ndim - 1))
        return (values[self.support] * mask).sum(1)


def draw_episodes(
    rows: TaskRows, n_support: tuple[int, int], seed: int, order: str = "random"
) -> Draws:
    """Draw episodes over the rows of the old tasks.

    Parameters
    ----------
    rows : TaskRows
        Their rows, at least 2 of each.
    n_support : (int, int)
        Fewest and most support rows.
    seed : int
        Decides the draws.
    order : {"random", "first"}, default="random"
        Whether supports are drawn, or the first rows of their tasks.

    Returns
    -------
    draws : Draws
        64 to 512 episodes, of each task equally many.
    """
    n_episodes = int(np.clip(EPISODES_PER_TASK * len(rows.sizes), *N_EPISODES))
    unread = torch.empty(0)  # only row numbers are drawn
    sampler = RowEpisodeSampler(
        unread, unread, rows.sizes, n_support, N_QUERIES, order=order
    )
    generator = torch.Generator().manual_seed(seed)
    parts = (part.numpy() for part in sampler.sample(n_episodes, generator))
    support, is_support, query, is_query = parts
    episode, column = np.nonzero(is_query)
    return Draws(
        rows.codes[support[:, 0]],
        support,
        is_support,
        query[episode, column],
        episode,
    )
