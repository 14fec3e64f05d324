"""Episodes over the rows of tasks."""

import copy

import numpy as np
import torch
from torch import Tensor

from sklearn_meta.draws import draw_shots, draw_shots_log_uniform, shuffled_cycle
from sklearn_meta.episodes._rows import EpisodeRows, Episodes, look_up, split_draws
from sklearn_meta.functional.at_hand import is_whole


class RowEpisodeSampler:
    """Episodes over the rows of tasks, for numeric targets and for shared labels.

    Parameters
    ----------
    X : Tensor of shape (n_rows, n_features)
        Rows of all tasks, those of a task adjacent.
    Y : Tensor of shape (n_rows, n_outputs)
        Targets, or one-hot labels.
    sizes : ndarray of shape (n_tasks,)
        Rows of each task, at least 2.
    n_support : (int, int)
        Fewest and most support rows; drawn uniformly for each episode. A small task
        keeps at least one row as query.
    n_queries : int
        Most query rows of an episode.
    log_uniform : bool, default=False
        Whether the logarithm of the number of support rows is uniform instead, so that
        few rows are as common as many in a wide range.
    order : {"random", "first"}, default="random"
        Whether supports are drawn, or the first rows of their tasks.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn_meta.episodes import RowEpisodeSampler
    >>> X = torch.arange(12.0).reshape(12, 1)
    >>> sampler = RowEpisodeSampler(X, 2 * X, np.array([4, 8]), (1, 3), 2)
    >>> rows = sampler.sample(5, torch.Generator().manual_seed(0))
    >>> sampler.gather(rows).X_support.shape
    torch.Size([5, 3, 1])
    """

    def __init__(
        self,
        X: Tensor,
        Y: Tensor,
        sizes: np.ndarray,
        n_support: tuple[int, int],
        n_queries: int,
        log_uniform: bool = False,
        order: str = "random",
    ) -> None:
        self.X, self.Y = X, Y
        self.log_uniform, self.order = log_uniform, order
        self._asked = (*n_support, n_queries)
        n_rows = torch.as_tensor(sizes)
        self._choose(n_rows, n_rows.cumsum(0) - n_rows)

    def _choose(self, sizes: Tensor, starts: Tensor) -> None:
        """Set the tasks to draw from, and how many rows they have to give."""
        self.sizes, self.starts = sizes, starts
        room = int(sizes.max()) - 1
        low, high, self.n_queries = (min(n, room) for n in self._asked)
        self.n_support = (low, high)

    def select(self, keep: np.ndarray) -> "RowEpisodeSampler":
        """Return a sampler of the tasks where ``keep`` (n_tasks,) is True.

        It shares the table: tasks are held out without a copy of their rows.
        """
        chosen = torch.as_tensor(keep)
        new = copy.copy(self)
        new._choose(self.sizes[chosen], self.starts[chosen])
        return new

    def targets(self) -> Tensor:
        """Return the targets (n_rows, n_outputs) of its own tasks."""
        rows = row_runs(self.starts, self.sizes)
        return self.Y[rows.to(self.Y.device)]

    @property
    def n_tasks(self) -> int:
        """Number of tasks to draw from."""
        return len(self.sizes)

    def sample(self, n_episodes: int, generator: torch.Generator) -> EpisodeRows:
        """Draw the row numbers of episodes, tasks in random order and equally often."""
        task = shuffled_cycle(self.n_tasks, n_episodes, generator)
        draw = draw_shots_log_uniform if self.log_uniform else draw_shots
        shots = draw(self.n_support, n_episodes, generator)
        return split_draws(
            self.starts[task],
            self.sizes[task],
            shots,
            self.n_support[1],
            self.n_queries,
            generator,
            self.order,
        )

    def gather(self, rows: EpisodeRows) -> Episodes:
        """Look the rows up in the table."""
        return Episodes(
            look_up(self.X, rows.support),
            _zero_padding_(look_up(self.Y, rows.support), rows.support_mask),
            rows.support_mask,
            look_up(self.X, rows.query),
            _zero_padding_(look_up(self.Y, rows.query), rows.query_mask),
            rows.query_mask,
        )


def row_runs(starts: Tensor, sizes: Tensor) -> Tensor:
    """Return the row numbers of runs of rows, one run after another."""
    offsets = sizes.cumsum(0) - sizes
    return (starts - offsets).repeat_interleave(sizes) + torch.arange(int(sizes.sum()))


def _zero_padding_(values: Tensor, mask: Tensor) -> Tensor:
    """Set values (n_episodes, n_rows, n_columns) of padding to zero, in place."""
    return values if is_whole(mask) else values.mul_(mask.unsqueeze(-1))
