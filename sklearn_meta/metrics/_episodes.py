"""How tasks are split into support and query rows to be scored."""

import hashlib
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from sklearn_meta.tasks import (
    Task,
    TaskCollection,
    is_task_sequence,
    support_query_indices,
)


@dataclass(frozen=True)
class Episodes:
    """How tasks are split into support and query rows."""

    n_shots: int
    n_queries: int | None
    stratify: bool | None
    order: str
    n_episodes: int
    random_state: int

    def __post_init__(self) -> None:
        _check_integer("n_shots", self.n_shots, 1)
        _check_integer("n_episodes", self.n_episodes, 1)
        # a generator would give each candidate of a search other episodes
        _check_integer("random_state", self.random_state, 0)
        if self.n_queries is not None:
            _check_integer("n_queries", self.n_queries, 1)
        if self.order not in ("random", "first"):
            raise ValueError(
                f"Expected order to be 'random' or 'first', got {self.order!r}."
            )

    def split(
        self, task: Task, key: int, episode: int, stratify: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the support and query row numbers of one task."""
        return support_query_indices(
            task.y,
            n_shots=self.n_shots,
            n_queries=self.n_queries,
            stratify=stratify,
            order=self.order,
            random_state=np.random.RandomState([self.random_state, key, episode]),
            name=task.name,
        )


def named_tasks(X: Any, collection: TaskCollection) -> Iterator[tuple[Hashable, Task]]:
    """Yield each task with its name, None where that is only its place in a list."""
    # names of a collection, keys of a dict, ids of rows; a list has none of its own
    kept = isinstance(X, (TaskCollection, Mapping)) or not is_task_sequence(X)
    for position, task in enumerate(collection):
        named = kept or getattr(X[position], "name", None) is not None
        yield (task.name if named else None), task


def task_key(name: Hashable, task: Task) -> int:
    """Return a number for a task that is the same in every process and fold."""
    if name is None:
        content = repr(np.asarray(task.y).tolist())
    else:
        content = repr(name.item() if isinstance(name, np.generic) else name)
    digest = hashlib.blake2b(content.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _check_integer(name: str, value: Any, low: int) -> None:
    """Raise if a parameter is no whole number or too small."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise ValueError(
            f"Expected {name} to be an int of at least {low}, got {value!r}."
        )
