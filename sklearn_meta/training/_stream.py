"""Episodes of a whole run, handed out one chunk of outer steps at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import Dataset

from sklearn_meta.episodes import ClassEpisodeSampler, EpisodeRows, RowEpisodeSampler

EpisodeSampler = RowEpisodeSampler | ClassEpisodeSampler

# outer steps between two evaluations: enough to make skorch's cost vanish
MAX_CHUNK_STEPS = 50
MIN_CHUNKS = 12


class EpisodeStream(Dataset):
    """All episodes of a run, drawn one chunk of outer steps at a time.

    ``refill`` returns the sampler of a chunk by its number, where the tasks of a
    collection larger than memory change from chunk to chunk; ``sampler`` is the first.
    """

    def __init__(
        self,
        sampler: EpisodeSampler,
        max_iter: int,
        meta_batch_size: int,
        generator: torch.Generator,
        refill: Callable[[int], EpisodeSampler] | None = None,
    ) -> None:
        self.sampler, self.generator, self.refill = sampler, generator, refill
        self.max_iter, self.meta_batch_size = max_iter, meta_batch_size
        self.chunk_steps = max(1, min(MAX_CHUNK_STEPS, max_iter // MIN_CHUNKS))
        self.n_drawn = 0

    @property
    def n_chunks(self) -> int:
        """Number of chunks of a whole run."""
        return -(-self.max_iter // self.chunk_steps)

    def __len__(self) -> int:
        return self.max_iter * self.meta_batch_size

    def chunk(self) -> EpisodeRows:
        """Draw the episodes of the next outer steps."""
        if self.refill is not None and self.n_drawn:
            self.sampler = self.refill(self.n_drawn // self.chunk_steps)
        n_steps = min(self.chunk_steps, self.max_iter - self.n_drawn)
        self.n_drawn += n_steps
        rows = self.sampler.sample(n_steps * self.meta_batch_size, self.generator)
        return rows.to(self.sampler.X.device)

    def state_dict(self) -> dict:
        """Return what decides the next chunks."""
        return {"n_drawn": self.n_drawn, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        """Go on where another stream over the same tasks was."""
        self.n_drawn = state["n_drawn"]
        self.generator.set_state(state["generator"])


class ValidationEpisodes(Dataset):
    """A fixed set of episodes of the held-out tasks."""

    def __init__(
        self, sampler: EpisodeSampler, n_episodes: int, generator: torch.Generator
    ) -> None:
        self.sampler = sampler
        self._rows = sampler.sample(n_episodes, generator).to(sampler.X.device)

    def __len__(self) -> int:
        return len(self._rows.support)

    def chunk(self) -> EpisodeRows:
        """Return the episodes, the same at each call."""
        return self._rows


class Chunks:
    """The iterator skorch asks for: one chunk per epoch."""

    def __init__(self, dataset: Any, batch_size: int) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[EpisodeRows]:
        yield self.dataset.chunk()
