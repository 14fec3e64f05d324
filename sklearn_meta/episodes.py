"""Seeded sampling of episodes, and the crossing from numpy tables to stacked tensors.

An episode is one draw of a task into support and query rows. Episodes are drawn for
many outer steps at once as row numbers; a step then gathers its rows, wherever the
table lives. Nothing here loops over tasks.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "ClassEpisodeSampler",
    "Episodes",
    "RowEpisodeSampler",
    "draw_without_replacement",
    "stack_rows",
    "task_chunks",
]


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


class EpisodeRows(NamedTuple):
    """Row numbers of many episodes in the table of all rows, with masks."""

    support: Tensor  # (n_episodes, n_support)
    support_mask: Tensor
    query: Tensor  # (n_episodes, n_query)
    query_mask: Tensor

    def select(self, episodes: slice) -> "EpisodeRows":
        """Return some of the episodes."""
        return EpisodeRows(*(part[episodes] for part in self))

    def to(self, device: torch.device) -> "EpisodeRows":
        """Return the row numbers on a device."""
        return EpisodeRows(*(part.to(device) for part in self))


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
    ) -> None:
        self.X, self.Y = X, Y
        self.sizes = torch.as_tensor(sizes)
        self.starts = self.sizes.cumsum(0) - self.sizes
        room = int(self.sizes.max()) - 1
        self.n_support = (min(n_support[0], room), min(n_support[1], room))
        self.n_queries = min(n_queries, room)

    @property
    def n_tasks(self) -> int:
        """Number of tasks to draw from."""
        return len(self.sizes)

    def sample(self, n_episodes: int, generator: torch.Generator) -> EpisodeRows:
        """Draw the row numbers of episodes, tasks in random order and equally often."""
        task = shuffled_cycle(self.n_tasks, n_episodes, generator)
        shots = draw_shots(self.n_support, n_episodes, generator)
        return split_draws(
            self.starts[task],
            self.sizes[task],
            shots,
            self.n_support[1],
            self.n_queries,
            generator,
        )

    def gather(self, rows: EpisodeRows) -> Episodes:
        """Look the rows up in the table."""
        return Episodes(
            self.X[rows.support],
            self.Y[rows.support] * rows.support_mask.unsqueeze(-1),
            rows.support_mask,
            self.X[rows.query],
            self.Y[rows.query] * rows.query_mask.unsqueeze(-1),
            rows.query_mask,
        )


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
    ) -> None:
        self.X = X
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
        )
        is_way = is_way.reshape(-1, 1)
        rows = rows._replace(
            support_mask=rows.support_mask & is_way,
            query_mask=rows.query_mask & is_way & self.is_scored[cell].unsqueeze(1),
        )
        # (n_episodes * n_ways, n_shots) -> (n_episodes, n_ways * n_shots)
        return EpisodeRows(*(part.reshape(n_episodes, -1) for part in rows))

    def gather(self, rows: EpisodeRows) -> Episodes:
        """Look the rows up in the table; the label of a row is its way."""
        return Episodes(
            self.X[rows.support],
            self._labels(rows.support_mask),
            rows.support_mask,
            self.X[rows.query],
            self._labels(rows.query_mask),
            rows.query_mask,
        )

    def _labels(self, mask: Tensor) -> Tensor:
        """One-hot ways of rows that lie way by way, (n_episodes, n_rows, n_ways)."""
        eye = torch.eye(self.n_ways, dtype=self.X.dtype, device=mask.device)
        rows_per_way = mask.shape[1] // self.n_ways
        return eye.repeat_interleave(rows_per_way, dim=0) * mask.unsqueeze(-1)


def draw_without_replacement(
    sizes: Tensor, n_draws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw distinct numbers below each size, in random order.

    Floyd's algorithm [1]_ for many urns at once: its cost depends on the number of
    draws, not on the size of the urns.

    Parameters
    ----------
    sizes : Tensor of shape (n_urns,)
        Numbers are drawn from ``0, ..., size - 1``.
    n_draws : int
        Draws from each urn; an urn with fewer numbers gives all of them.
    generator : torch.Generator
        Source of randomness, on the CPU.

    Returns
    -------
    draws : Tensor of shape (n_urns, n_draws)
        The numbers; 0 where there is none.
    valid : Tensor of shape (n_urns, n_draws)
        True where there is a number. These come first.

    References
    ----------
    .. [1] J. Bentley and B. Floyd, "Programming pearls: a sample of brilliance",
       Communications of the ACM 30(9), 1987.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.episodes import draw_without_replacement
    >>> draws, valid = draw_without_replacement(
    ...     torch.tensor([3, 1]), 3, torch.Generator().manual_seed(0)
    ... )
    >>> sorted(draws[0].tolist()), valid[1].tolist()
    ([0, 1, 2], [True, False, False])
    """
    n_urns = len(sizes)
    uniform = torch.rand(n_urns, n_draws, generator=generator, dtype=torch.float64)
    smallest_top = (sizes - n_draws).clamp_min(0)
    draws = torch.full((n_urns, n_draws), -1)
    for i in range(n_draws):
        top = smallest_top + i
        pick = (uniform[:, i] * (top + 1)).long()
        taken = (draws[:, :i] == pick.unsqueeze(1)).any(1)
        draws[:, i] = torch.where(taken, top, pick)
    valid = torch.arange(n_draws) < sizes.unsqueeze(1)
    # Floyd gives a uniform set, not a uniform order; invalid draws go last
    keys = torch.rand(n_urns, n_draws, generator=generator).masked_fill(~valid, 2.0)
    draws = draws.gather(1, keys.argsort(1))
    return draws.masked_fill(~valid, 0), valid


def draw_shots(
    n_shots: tuple[int, int], n_episodes: int, generator: torch.Generator
) -> Tensor:
    """Draw a number of shots for each episode, both ends included."""
    low, high = n_shots
    return torch.randint(low, high + 1, (n_episodes,), generator=generator)


def shuffled_cycle(n: int, length: int, generator: torch.Generator) -> Tensor:
    """Return ``length`` numbers below n, in shuffled passes over all of them."""
    n_passes = -(-length // n)
    keys = torch.rand(n_passes, n, generator=generator)
    return keys.argsort(1).flatten()[:length]


def split_draws(
    starts: Tensor,
    sizes: Tensor,
    shots: Tensor,
    max_shots: int,
    n_queries: int,
    generator: torch.Generator,
) -> EpisodeRows:
    """Draw rows of each urn, the first ``shots`` as support and the next as query.

    At least one row of an urn is left for the query.
    """
    draws, valid = draw_without_replacement(sizes, max_shots + n_queries, generator)
    rows = starts.unsqueeze(1) + draws
    shots = torch.minimum(shots, sizes - 1).unsqueeze(1)
    support_mask = torch.arange(max_shots) < shots
    query = shots + torch.arange(n_queries)
    return EpisodeRows(
        support=rows[:, :max_shots].contiguous(),
        support_mask=support_mask,
        query=rows.gather(1, query),
        query_mask=valid.gather(1, query),
    )


def stack_rows(
    rows: np.ndarray, sizes: np.ndarray, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Stack the rows of ragged tasks, padded with zeros.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        Rows of all tasks, those of a task adjacent.
    sizes : ndarray of shape (n_tasks,)
        Rows of each task.
    device : torch.device
        Where the stack goes.
    dtype : torch.dtype
        Its floating type.

    Returns
    -------
    stack : Tensor of shape (n_tasks, max(sizes), n_columns)
        The stack.
    mask : Tensor of shape (n_tasks, max(sizes))
        True on real rows.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn_meta.episodes import stack_rows
    >>> rows = np.array([[1.0], [2.0], [3.0]])
    >>> stack, mask = stack_rows(rows, np.array([1, 2]), "cpu", torch.float64)
    >>> stack[..., 0].tolist(), mask.tolist()
    ([[1.0, 0.0], [2.0, 3.0]], [[True, False], [True, True]])
    """
    sizes = np.asarray(sizes)
    mask = np.arange(sizes.max(initial=0)) < sizes[:, None]
    stack = np.zeros((*mask.shape, rows.shape[1]))
    stack[mask] = rows
    to_device = {"device": device}
    return (
        torch.as_tensor(stack, dtype=dtype, **to_device),
        torch.as_tensor(mask, **to_device),
    )


def task_chunks(sizes: np.ndarray, max_rows: int) -> list[np.ndarray]:
    """Group tasks of similar size into chunks of a bounded number of padded rows.

    Parameters
    ----------
    sizes : ndarray of shape (n_tasks,)
        Rows of each task.
    max_rows : int
        Most rows of a padded chunk; a task that is larger makes a chunk of its own.

    Returns
    -------
    chunks : list of ndarray
        Positions of the tasks of each chunk, small tasks first.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.episodes import task_chunks
    >>> [chunk.tolist() for chunk in task_chunks(np.array([5, 1, 2, 9]), max_rows=10)]
    [[1, 2], [0], [3]]
    """
    order = np.argsort(sizes, kind="stable")
    chunks, begin = [], 0
    while begin < len(order):
        # the chunk's last task is its largest: rows = (end - begin) * size of the last
        ahead = order[begin : begin + max_rows]
        rows = np.arange(1, len(ahead) + 1) * sizes[ahead]
        end = begin + max(1, int(np.searchsorted(rows, max_rows, side="right")))
        chunks.append(order[begin:end])
        begin = end
    return chunks
