"""Folds over tasks, classes or rows, with the episodes on which members are judged.

A fold is what members are fitted on, and episodes of what was held out from them: the
support of a task, and query rows that are scored.
"""

from typing import NamedTuple

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from sklearn_meta.targets import LocalClasses
from sklearn_meta.tasks import TaskRows
from sklearn_meta.whitening import cross_fit_folds

__all__ = ["Episodes", "Fold", "class_folds", "row_folds", "shot_grid", "task_folds"]

EPISODES_PER_FOLD = 60
MAX_DRAWS_PER_TASK = 4
MIN_CLASSES_TO_HOLD_OUT = 4


class Episodes(NamedTuple):
    """Episodes with one number of shots; all rows are those of one table."""

    n_shots: int
    support: np.ndarray  # (n_support,), row numbers, those of an episode adjacent
    sizes: np.ndarray  # (n_episodes,), support rows of each
    query: np.ndarray  # (n_query,), row numbers
    episode: np.ndarray  # (n_query,), the episode of each query row
    weight: np.ndarray  # (n_query,), sums to 1; episodes count alike


class Fold(NamedTuple):
    """What members are fitted on, what was held out, and episodes of that."""

    train: TaskRows
    held_out: TaskRows | None
    episodes: list[Episodes]


def shot_grid(low: int, high: int) -> list[int]:
    """Return the numbers of shots at which members are weighed.

    Examples
    --------
    >>> from sklearn_meta.held_out import shot_grid
    >>> shot_grid(1, 10), shot_grid(3, 3)
    ([1, 2, 5, 10], [3])
    """
    return sorted({low, max(low, high // 4), (low + high) // 2, high})


def task_folds(
    rows: TaskRows,
    n_folds: int,
    grid: list[int],
    n_queries: int,
    rng: np.random.RandomState,
    order: str = "random",
) -> list[Fold]:
    """Hold out tasks; shots are rows of a task.

    Parameters
    ----------
    rows : TaskRows
        The rows of at least 2 tasks.
    n_folds : int
        At least 2; at most a fold per task is made.
    grid : list of int
        Numbers of shots. Those for which no task has rows enough are left out.
    n_queries : int
        Most query rows of an episode.
    rng : RandomState
        Draws folds and episodes.
    order : {"random", "first"}, default="random"
        Whether supports are drawn, or the first rows of their tasks.

    Returns
    -------
    folds : list of Fold
        The same numbers of shots in each.
    """
    n_folds = min(n_folds, len(rows.sizes))
    fold_of_task = rng.permutation(len(rows.sizes)) % n_folds
    # the largest task of the poorest fold says how many shots all folds can draw
    room = min(rows.sizes[fold_of_task == f].max() for f in range(n_folds)) - 1
    grid = sorted({min(n_shots, room) for n_shots in grid})
    folds = []
    for f in range(n_folds):
        held = fold_of_task == f
        draws = _permutations_of_tasks(rows, np.flatnonzero(held), rng)
        episodes = [_split_draws(draws, k, n_queries, order) for k in grid]
        folds.append(Fold(rows.select(~held), rows.select(held), episodes))
    return folds


def _permutations_of_tasks(
    rows: TaskRows, tasks: np.ndarray, rng: np.random.RandomState
) -> list[np.ndarray]:
    """Draw the rows of tasks (n_held,) in random order, few tasks several times."""
    starts = np.cumsum(rows.sizes) - rows.sizes
    tasks = rng.permutation(tasks)[:EPISODES_PER_FOLD]
    repeats = min(MAX_DRAWS_PER_TASK, max(1, EPISODES_PER_FOLD // len(tasks)))
    return [
        starts[t] + rng.permutation(rows.sizes[t])
        for t in np.repeat(tasks, repeats)
        if rows.sizes[t] > 1
    ]


def _split_draws(
    draws: list[np.ndarray], n_shots: int, n_queries: int, order: str
) -> Episodes:
    """Take rows of each draw as support, and the last of the others as queries.

    So the queries of a large task are the same for all numbers of shots.
    """
    draws = [draw for draw in draws if len(draw) > n_shots]
    pairs = [_take_support(draw, n_shots, order) for draw in draws]
    queries = [others[-n_queries:] for _, others in pairs]
    return _episodes(n_shots, [support for support, _ in pairs], queries)


def _take_support(
    draw: np.ndarray, n_shots: int, order: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows drawn first, or first in the table, (n_shots,); the others."""
    if order == "random":
        return draw[:n_shots], draw[n_shots:]
    first = np.sort(draw)[:n_shots]
    return first, draw[~np.isin(draw, first)]


def _episodes(
    n_shots: int, supports: list[np.ndarray], queries: list[np.ndarray]
) -> Episodes:
    """Lay episodes end to end."""
    n_query = np.array([len(rows) for rows in queries])
    return Episodes(
        n_shots,
        np.concatenate(supports),
        np.array([len(rows) for rows in supports]),
        np.concatenate(queries),
        np.repeat(np.arange(len(queries)), n_query),
        np.repeat(1 / n_query / len(queries), n_query),
    )


def class_folds(
    rows: TaskRows,
    grid: list[int],
    n_ways: int,
    n_queries: int,
    rng: np.random.RandomState,
    order: str = "random",
) -> list[Fold]:
    """Hold out classes (those of whole tasks where tasks are many).

    Episodes mix held-out classes with seen ones of the same task; query rows of
    held-out classes alone are scored.

    Parameters
    ----------
    rows : TaskRows
        Rows with labels of each task's own, at least 2 rows of each class.
    grid : list of int
        Numbers of shots per class; more than the held-out classes have rows for are
        left out.
    n_ways : int
        Most classes of an episode.
    n_queries : int
        Most query rows of a class.
    rng : RandomState
        Draws folds and episodes.
    order : {"random", "first"}, default="random"
        Whether supports are drawn, or the first rows of their classes.

    Returns
    -------
    folds : list of Fold
        Empty where there are fewer than 4 classes, or too few are left to learn from.
    """
    classes = LocalClasses.of(rows.y, rows.codes)
    if len(classes.cell_task) < MIN_CLASSES_TO_HOLD_OUT:
        return []
    room = classes.cell_size.min() - 1
    grid = sorted({min(n_shots, room) for n_shots in grid})
    folds = []
    for held in cross_fit_folds(classes, rng):
        ways = [
            _draw_ways(classes, held, n_ways, rng) for _ in range(EPISODES_PER_FOLD)
        ]
        cells = _permutations_of_cells(classes, ways, rng)
        episodes = [_split_ways(cells, ways, held, k, n_queries, order) for k in grid]
        folds.append(Fold(_without_cells(rows, classes, held), None, episodes))
    enough = all(len(fold.train.sizes) for fold in folds)
    return folds if enough else []


def _draw_ways(
    classes: LocalClasses, held: np.ndarray, n_ways: int, rng: np.random.RandomState
) -> np.ndarray:
    """Draw cells (n_ways,) of one task: those held out first, then seen ones.

    ``held`` (n_cells,) is True for a cell that is held out.
    """
    task = classes.cell_task[rng.choice(np.flatnonzero(held))]
    cells = rng.permutation(np.flatnonzero(classes.cell_task == task))
    return cells[np.argsort(~held[cells], kind="stable")][:n_ways]


def _permutations_of_cells(
    classes: LocalClasses, ways: list[np.ndarray], rng: np.random.RandomState
) -> list[list[np.ndarray]]:
    """Draw the rows of each way of each episode in random order; ways are cells."""
    by_cell = np.argsort(classes.row_cell, kind="stable")
    starts = np.cumsum(classes.cell_size) - classes.cell_size
    return [
        [by_cell[starts[c] + rng.permutation(classes.cell_size[c])] for c in cells]
        for cells in ways
    ]


def _split_ways(
    draws: list[list[np.ndarray]],
    ways: list[np.ndarray],
    held: np.ndarray,
    n_shots: int,
    n_queries: int,
    order: str,
) -> Episodes:
    """Take rows of each way as support; ways in ``held`` (n_cells,) give queries."""
    pairs = [[_take_support(rows, n_shots, order) for rows in draw] for draw in draws]
    supports = [np.concatenate([support for support, _ in own]) for own in pairs]
    queries = [
        np.concatenate(
            [
                others[-n_queries:]
                for (_, others), cell in zip(own, cells, strict=True)
                if held[cell]
            ]
        )
        for own, cells in zip(pairs, ways, strict=True)
    ]
    return _episodes(n_shots, supports, queries)


def _without_cells(rows: TaskRows, classes: LocalClasses, held: np.ndarray) -> TaskRows:
    """Return the rows of seen classes, of tasks that keep two of them.

    ``held`` (n_cells,) is True for a class of a task that is held out.
    """
    seen = np.bincount(classes.cell_task[~held], minlength=len(rows.sizes))
    keep = ~held[classes.row_cell] & (seen >= 2)[rows.codes]
    sizes = np.bincount(rows.codes[keep], minlength=len(rows.sizes))
    names = None
    if rows.names is not None:
        names = [name for name, size in zip(rows.names, sizes, strict=True) if size]
    return TaskRows(rows.X[keep], rows.y[keep], sizes[sizes > 0], names)


def row_folds(
    rows: TaskRows, n_folds: int, stratify: bool, rng: np.random.RandomState
) -> list[Fold]:
    """Hold out rows of one table; the others are the support.

    Parameters
    ----------
    rows : TaskRows
        One table.
    n_folds : int
        At least 2.
    stratify : bool
        Whether the target is a class. Each must then be in all folds.
    rng : RandomState
        Draws the folds.

    Returns
    -------
    folds : list of Fold
        One number of shots in each. Empty where there are too few rows to split.
    """
    fewest = np.unique(rows.y, return_counts=True)[1].min() if stratify else len(rows.y)
    if fewest < (n_folds if stratify else 2 * n_folds):
        return []
    splitter = StratifiedKFold if stratify else KFold
    splits = splitter(n_folds, shuffle=True, random_state=rng).split(rows.X, rows.y)
    folds = []
    for train, held in splits:
        table = TaskRows(rows.X[train], rows.y[train], np.array([len(train)]), None)
        folds.append(Fold(table, None, [_episodes(len(train), [train], [held])]))
    return folds
