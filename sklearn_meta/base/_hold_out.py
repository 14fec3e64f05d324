"""Setting tasks aside that decide when training stops."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch

from sklearn_meta.episodes import RowEpisodeSampler
from sklearn_meta.tasks import TaskRows
from sklearn_meta.training import EpisodeSampler, ValidationEpisodes

# with fewer tasks (or classes), holding some out costs more than it tells
MIN_UNITS_TO_HOLD_OUT = 10
VALIDATION_EPISODES = (64, 256)
EPISODES_PER_HELD_OUT_TASK = 8


class HeldOut(NamedTuple):
    """Rows to learn from and, if any, rows that decide when to stop.

    Where these are tasks of one table, it is told which, and no row is copied.
    """

    train: TaskRows
    validation: TaskRows | None
    held: np.ndarray | None = None  # (n_tasks,), True for tasks of `train` that decide

    def split(self) -> tuple[TaskRows, TaskRows | None]:
        """Return rows to learn from and rows that decide, as two tables."""
        if self.held is None:
            return self.train, self.validation
        return self.train.select(~self.held), self.train.select(self.held)


class HoldOutMixin(ABC):
    """Hold tasks out, as ``early_stopping`` and ``validation_fraction`` say."""

    early_stopping: bool | str
    validation_fraction: float

    @abstractmethod
    def _row_sampler(self, rows: TaskRows, device: torch.device) -> RowEpisodeSampler:
        """Return what draws episodes over the prepared rows of each task."""

    def _sampler(self, rows: TaskRows, device: torch.device) -> EpisodeSampler:
        """Return what draws the episodes to learn from."""
        return self._row_sampler(rows, device)

    def _hold_out(
        self, rows: TaskRows, validation: TaskRows | None, random_state: Any
    ) -> HeldOut:
        """Set tasks aside (classes, where those take the place of tasks)."""
        if validation is not None:
            return HeldOut(rows, validation)
        units, unit_of_row = self._hold_out_units(rows)
        n_held = self._n_held_out(units)
        if not n_held:
            return HeldOut(rows, None)
        if rows.names is not None:
            held = np.zeros(units, bool)
            held[random_state.permutation(units)[:n_held]] = True
            return HeldOut(rows, None, held)
        # an episode needs two classes on both sides
        n_held = min(max(2, n_held), units - 2)
        held_rows = np.isin(unit_of_row, random_state.permutation(units)[:n_held])
        return HeldOut(_pick_rows(rows, ~held_rows), _pick_rows(rows, held_rows))

    def _n_held_out(self, units: int) -> int:
        """Return how many of some tasks (or classes) are held out, 0 for none."""
        if self.early_stopping is True and units < 2:
            raise ValueError(
                f"early_stopping=True holds tasks out and needs at least 2, got {units}"
                ". Use early_stopping='auto' or False for a single table."
            )
        auto = self.early_stopping == "auto" and units >= MIN_UNITS_TO_HOLD_OUT
        if not (auto or self.early_stopping is True):
            return 0
        return min(max(1, round(self.validation_fraction * units)), units - 1)

    def _hold_out_units(self, rows: TaskRows) -> tuple[int, np.ndarray]:
        """Return how many tasks can be held out, and the one of each row."""
        return (0 if rows.names is None else len(rows.sizes)), rows.codes

    def _samplers(
        self, parts: HeldOut, device: torch.device
    ) -> tuple[EpisodeSampler, EpisodeSampler | None]:
        """Return the samplers of what is learned from, and of what decides, if any."""
        if parts.held is not None and getattr(self, "label_mode_", None) != "task":
            whole = self._row_sampler(parts.train, device)
            return whole.select(~parts.held), whole.select(parts.held)
        train, validation = parts.split()
        sampler = self._sampler(train, device)
        return sampler, validation and self._sampler(validation, device)

    def _validation(
        self, sampler: EpisodeSampler | None, seed: int
    ) -> ValidationEpisodes | None:
        """Return fixed episodes of the held-out tasks."""
        if sampler is None:
            return None
        low, high = VALIDATION_EPISODES
        n_episodes = np.clip(EPISODES_PER_HELD_OUT_TASK * sampler.n_tasks, low, high)
        generator = torch.Generator().manual_seed(seed + 1)
        return ValidationEpisodes(sampler, int(n_episodes), generator)


def _pick_rows(rows: TaskRows, keep: np.ndarray) -> TaskRows:
    """Return some rows of one table."""
    return TaskRows(rows.X[keep], rows.y[keep], np.array([keep.sum()]), None)
