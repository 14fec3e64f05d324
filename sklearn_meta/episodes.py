"""Seeded sampling of episodes, and the crossing from numpy tables to stacked tensors.

An episode is one draw of a task into support and query rows. Episodes are drawn for
many outer steps at once as row numbers; a step then gathers its rows, wherever the
table lives. Nothing here loops over tasks.
"""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_meta.draws import (
    columns_below,
    draw_shots,
    draw_shots_log_uniform,
    draw_without_replacement,
    shuffled_cycle,
)
from sklearn_meta.functional.at_hand import is_at_hand, is_whole

__all__ = [
    "ClassEpisodeSampler",
    "Episodes",
    "RowEpisodeSampler",
    "as_tensor",
    "stack_rows",
    "task_chunks",
]

CPU = torch.device("cpu")


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
            _look_up(self.X, rows.support),
            _zero_padding_(_look_up(self.Y, rows.support), rows.support_mask),
            rows.support_mask,
            _look_up(self.X, rows.query),
            _zero_padding_(_look_up(self.Y, rows.query), rows.query_mask),
            rows.query_mask,
        )


def row_runs(starts: Tensor, sizes: Tensor) -> Tensor:
    """Return the row numbers of runs of rows, one run after another."""
    offsets = sizes.cumsum(0) - sizes
    return (starts - offsets).repeat_interleave(sizes) + torch.arange(int(sizes.sum()))


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
            _look_up(self.X, rows.support),
            self._labels(rows.support_mask),
            rows.support_mask,
            _look_up(self.X, rows.query),
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


def _look_up(table: Tensor, rows: Tensor) -> Tensor:
    """Return the rows of a table, (n_episodes, n_rows, n_columns)."""
    if not is_at_hand(table):
        return table.index_select(0, rows.flatten()).unflatten(0, rows.shape)
    # numpy takes half as long as torch
    return torch.from_numpy(table.numpy().take(rows.numpy(), axis=0))


def _zero_padding_(values: Tensor, mask: Tensor) -> Tensor:
    """Set values (n_episodes, n_rows, n_columns) of padding to zero, in place."""
    return values if is_whole(mask) else values.mul_(mask.unsqueeze(-1))


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
        The stack; without padding it may share the memory of `rows`.
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
    shape = len(sizes), len(rows) if len(sizes) == 1 else int(sizes.max(initial=0))
    if len(rows) == shape[0] * shape[1]:  # no padding: the rows are the stack
        mask = as_tensor(np.ones(shape, bool), device, torch.bool)
        stack = rows.reshape(*shape, rows.shape[1])
        return as_tensor(stack, device, dtype), mask
    real = np.arange(shape[1]) < sizes[:, None]
    padded = np.zeros((*shape, rows.shape[1]))
    padded[real] = rows
    return (
        torch.as_tensor(padded, dtype=dtype, device=device),
        torch.as_tensor(real, device=device),
    )


def as_tensor(values: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return an array as a tensor, which may be a view.

    torch takes neither read-only arrays nor steps backwards, which are copied.
    """
    if not (values.flags.c_contiguous and values.flags.writeable):
        values = values.copy(order="C")
    tensor = torch.from_numpy(values)
    # asked first: a conversion that does nothing takes as long as some layers
    is_there = tensor.dtype == dtype and device == CPU
    return tensor if is_there else tensor.to(device, dtype)


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
