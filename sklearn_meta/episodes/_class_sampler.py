"""Episodes over the classes of tasks."""

import numpy as np
import torch
from torch import Tensor

from sklearn_meta.draws import draw_shots, draw_without_replacement, shuffled_cycle
from sklearn_meta.episodes._rows import EpisodeRows, Episodes, look_up, split_draws
from sklearn_meta.functional.at_hand import is_whole


class ClassEpisodeSampler:
    """N-way episodes over classes, for labels that are local to their task.

    The ways of an episode are classes of one task in random order, so that a label
    carries no meaning from one episode to the next.

    Parameters
    ----------
    X : Tensor of shape (n_rows, n_features)
        Rows of all tasks, those of a class of a task adjacent.
    cell_sizes : ndarray of shape (n_cells,)
        Rows of each class of each task, at least 2.
    cells_per_task : ndarray of shape (n_tasks,)
        Number of classes of each task, at least 2.
    n_ways : int
        Most classes of an episode.
    n_shots : (int, int)
        Fewest and most support rows of each class, drawn for each episode.
    n_queries : int
        Most query rows of each class.
    is_scored : ndarray of shape (n_cells,), default=None
        True for a class whose query rows count; None for all.
    order : {"random", "first"}, default="random"
        Whether supports are drawn, or the first rows of their classes.
    """

    def __init__(
        self,
        X: Tensor,
        cell_sizes: np.ndarray,
        cells_per_task: np.ndarray,
        n_ways: int,
        n_shots: tuple[int, int],
        n_queries: int,
        is_scored: np.ndarray | None = None,
        order: str = "random",
    ) -> None:
        self.X, self.order = X, order
        self.is_scored = torch.as_tensor(
            np.ones(len(cell_sizes), bool) if is_scored is None else is_scored
        )
        self.cell_sizes = torch.as_tensor(cell_sizes)
        self.cell_starts = self.cell_sizes.cumsum(0) - self.cell_sizes
        self.n_cells = torch.as_tensor(cells_per_task)
        self.first_cell = self.n_cells.cumsum(0) - self.n_cells
        room = int(self.cell_sizes.max()) - 1
        self.n_shots = (min(n_shots[0], room), min(n_shots[1], room))
        self.n_queries = min(n_queries, room)
        self.n_ways = min(n_ways, int(self.n_cells.max()))

    @property
    def n_tasks(self) -> int:
        """Number of tasks to draw from."""
        return len(self.n_cells)

    def sample(self, n_episodes: int, generator: torch.Generator) -> EpisodeRows:
        """Draw the row numbers of episodes, way by way."""
        task = shuffled_cycle(self.n_tasks, n_episodes, generator)
        ways, is_way = draw_without_replacement(
            self.n_cells[task], self.n_ways, generator
        )
        cell = (self.first_cell[task].unsqueeze(1) + ways).flatten()
        shots = draw_shots(self.n_shots, n_episodes, generator)
        rows = split_draws(
            self.cell_starts[cell],
            self.cell_sizes[cell],
            shots.repeat_interleave(self.n_ways),
            self.n_shots[1],
            self.n_queries,
            generator,
            self.order,
        )
        is_way = is_way.flatten()
        rows = rows._replace(
            support_mask=_of_rows(is_way, rows.support_mask),
            query_mask=_of_rows(is_way & self.is_scored[cell], rows.query_mask),
        )
        # (n_episodes * n_ways, n_shots) -> (n_episodes, n_ways * n_shots)
        return EpisodeRows(*(part.reshape(n_episodes, -1) for part in rows))

    def gather(self, rows: EpisodeRows) -> Episodes:
        """Look the rows up in the table; the label of a row is its way."""
        return Episodes(
            look_up(self.X, rows.support),
            self._labels(rows.support_mask),
            rows.support_mask,
            look_up(self.X, rows.query),
            self._labels(rows.query_mask),
            rows.query_mask,
        )

    def _labels(self, mask: Tensor) -> Tensor:
        """One-hot ways of rows that lie way by way, (n_episodes, n_rows, n_ways)."""
        eye = torch.eye(self.n_ways, dtype=self.X.dtype, device=mask.device)
        # as `repeat_interleave`, in half the time
        n_rows = mask.shape[1] // self.n_ways
        labels = eye.unsqueeze(1).expand(-1, n_rows, -1).reshape(-1, self.n_ways)
        if is_whole(mask):
            return labels.expand(len(mask), -1, -1)
        return labels * mask.unsqueeze(-1)


def _of_rows(keep: Tensor, mask: Tensor) -> Tensor:
    """Return a mask (n_urns, n_rows) that is False too where ``keep`` (n_urns,) is."""
    return mask if bool(keep.all()) else mask & keep.unsqueeze(1)
