"""Adapting a trained learner to tasks, and asking it about their rows.

Tasks of any size go through in chunks of bounded size, small ones together; single
tasks are a chunk of one. The memory of adapted tasks is bounded too. Nothing here
builds a graph or changes the learner.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from sklearn_meta.episodes import as_tensor, stack_rows, task_chunks
from sklearn_meta.functional import Gaussian

__all__ = ["AdaptedTasks", "adapt_in_chunks", "adapt_to_stack"]

# padded rows that go through the learner at once; bounds the memory of activations
MAX_ROWS = 16384
# the same for tasks that adapt on a CPU: more would leave its cache
MAX_CACHED_ROWS = 1024
# and for an engine that takes one task after another, and keeps each in the cache
MAX_ROWS_BY_TASK = 4096
# states that are kept; tasks beyond keep their support and adapt again when asked
MAX_STATE_BYTES = 2**29
SUPPORT = "support"
DTYPE = torch.float64

State = dict[str, Any]


class Adaptable(Protocol):
    """What is asked of a learner here; ``learners/contract.py`` says more."""

    def adapt(
        self, X_support: Tensor, Y_support: Tensor, support_mask: Tensor
    ) -> State:
        """Return the state of each task; rows are (n_tasks, n_support, n_columns)."""

    def query(self, state: State, X_query: Tensor) -> Tensor | Gaussian:
        """Return the prediction of each task's rows, (n_tasks, n_query, n_columns)."""


class AdaptedTasks(NamedTuple):
    """What a learner knows of each task it was adapted to.

    Parameters
    ----------
    states : list of dict
        A state per chunk of tasks; a tree of tensors, tasks first. Where adapted
        networks would fill the memory, ``"support"`` holds what they are made from.
    chunk : ndarray of shape (n_tasks,)
        The chunk of each task.
    slot : ndarray of shape (n_tasks,)
        Its position in the chunk.
    """

    states: list[State]
    chunk: np.ndarray
    slot: np.ndarray

    def query(
        self, learner: Adaptable, X: np.ndarray, codes: np.ndarray, device: torch.device
    ) -> tuple[np.ndarray, ...]:
        """Predict rows, each with its own task.

        Parameters
        ----------
        learner : Adaptable
            The learner that was adapted.
        X : ndarray of shape (n_rows, n_features)
            Scaled rows.
        codes : ndarray of shape (n_rows,)
            The position of each row's task.
        device : torch.device
            Where the learner lives.

        Returns
        -------
        parts : tuple of ndarray
            ``(logits,)`` of shape (n_rows, n_classes), or ``(mean, std)``, each of
            shape (n_rows,).
        """
        if len(self.chunk) == 1 and len(X) <= MAX_ROWS:
            return _query_one_task(learner, self.states[0], X, device)
        parts: tuple[np.ndarray, ...] = ()
        for state, rows, sizes in self._batches(codes):
            # a view of rows that follow each other: a copy takes as long as some layers
            own = _as_slice(rows)
            stack, mask = stack_rows(X[own], sizes, device, DTYPE)
            with torch.no_grad():
                if SUPPORT in state:
                    state = learner.adapt(*state[SUPPORT].values())
                prediction = learner.query(state, stack)
            found = _as_arrays(prediction, mask, len(rows))
            if not parts:
                parts = tuple(np.empty((len(X), *f.shape[1:])) for f in found)
            for part, values in zip(parts, found, strict=True):
                part[own] = values
        return parts

    def _batches(
        self, codes: np.ndarray
    ) -> Iterator[tuple[State, np.ndarray, np.ndarray]]:
        """Yield states, the rows (n,) that belong to them and their counts per state.

        ``codes`` (n_rows,) is the task of each row.
        """
        n_held = np.bincount(self.chunk)
        ends = np.cumsum(n_held)
        # the tasks one after another, as they lie in the chunks
        place = ((ends - n_held)[self.chunk] + self.slot)[codes]
        order = np.argsort(place, kind="stable")
        ends = np.searchsorted(place[order], ends)
        parts = zip(self.states, np.split(order, ends[:-1]), n_held, strict=True)
        for state, rows, n_tasks in parts:
            if not len(rows):
                continue
            piece_slot, sizes = _cut_into_pieces(self.slot[codes[rows]])
            starts = np.cumsum(sizes) - sizes
            for pieces in task_chunks(sizes, MAX_ROWS):
                own = row_numbers(starts[pieces], sizes[pieces])
                slots = piece_slot[pieces]
                # a copy of all states would take as long as some layers
                all_tasks = np.array_equal(slots, np.arange(n_tasks))
                chosen = (
                    state if all_tasks else select_tasks(state, torch.as_tensor(slots))
                )
                yield chosen, rows[own], sizes[pieces]


def adapt_in_chunks(
    learner: Adaptable,
    X: np.ndarray,
    Y: np.ndarray,
    sizes: np.ndarray,
    device: torch.device,
) -> AdaptedTasks:
    """Adapt a learner to many tasks.

    Parameters
    ----------
    learner : Adaptable
        A trained learner in float64, in evaluation mode.
    X : ndarray of shape (n_rows, n_features)
        Scaled support rows, those of a task adjacent.
    Y : ndarray of shape (n_rows, n_outputs)
        Scaled targets or one-hot labels.
    sizes : ndarray of shape (n_tasks,)
        Support rows of each task.
    device : torch.device
        Where the learner lives.

    Returns
    -------
    adapted : AdaptedTasks
        The state of each task.
    """
    if len(sizes) == 1:
        # a state may hold on to its rows, which are not to be the caller's
        state = adapt_to_stack(learner, X.copy(), Y, sizes, device)
        return AdaptedTasks([state], np.zeros(1, int), np.zeros(1, int))
    starts = np.cumsum(sizes) - sizes
    chunk, slot = np.empty(len(sizes), int), np.empty(len(sizes), int)
    states, room = [], MAX_STATE_BYTES
    for c, tasks in enumerate(task_chunks(sizes, _most_rows(learner, device))):
        rows = row_numbers(starts[tasks], sizes[tasks])
        stack = (X.take(rows, 0), Y.take(rows, 0), sizes[tasks], device)
        states.append(adapt_to_stack(learner, *stack, max_bytes=room))
        room -= count_bytes(states[-1])
        chunk[tasks], slot[tasks] = c, np.arange(len(tasks))
    return AdaptedTasks(states, chunk, slot)


def _most_rows(learner: Adaptable, device: torch.device) -> int:
    """Return how many padded rows adapt at once."""
    if device.type != "cpu":
        return MAX_ROWS
    by_task = getattr(learner, "engine", None) == "compiled"
    return MAX_ROWS_BY_TASK if by_task else MAX_CACHED_ROWS


def adapt_to_stack(
    learner: Adaptable,
    X: np.ndarray,
    Y: np.ndarray,
    sizes: np.ndarray,
    device: torch.device,
    max_bytes: float = np.inf,
) -> State:
    """Adapt a learner to tasks that go through it at once.

    Parameters
    ----------
    learner, X, Y, sizes, device
        As of `adapt_in_chunks`.
    max_bytes : float, default=inf
        A larger state is replaced by the support that it is made from, if that is
        smaller.

    Returns
    -------
    state : dict
        A tree of tensors, tasks first.
    """
    X_stack, mask = stack_rows(X, sizes, device, DTYPE)
    Y_stack = (
        as_tensor(Y[None], device, DTYPE)
        if len(sizes) == 1
        else stack_rows(Y, sizes, device, DTYPE)[0]
    )
    with torch.no_grad():
        state = in_row_order(learner.adapt(X_stack, Y_stack, mask))
    if max_bytes < np.inf and count_bytes(state) > max_bytes:
        return _shorten(state, {"X": X_stack, "Y": Y_stack, "mask": mask})
    return state


def row_numbers(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the row numbers (n_rows,) of runs of rows, one run after another.

    The runs begin at ``starts`` and have ``sizes`` rows, both of shape (n_runs,).
    """
    offsets = np.cumsum(sizes) - sizes
    return np.repeat(starts - offsets, sizes) + np.arange(sizes.sum())


def _as_slice(rows: np.ndarray) -> np.ndarray | slice:
    """Return row numbers (n_rows,) as a slice where they follow each other."""
    follows = len(rows) > 0 and (rows[1:] - rows[:-1] == 1).all()
    return slice(rows[0], rows[-1] + 1) if follows else rows


def select_tasks(state: Any, slots: Tensor) -> Any:
    """Return the states of the tasks of a chunk that are in ``slots`` (n_chosen,)."""
    if isinstance(state, Tensor):
        return state[slots.to(state.device)]
    if isinstance(state, dict):
        return {name: select_tasks(part, slots) for name, part in state.items()}
    raise TypeError(
        f"A state is a tree of tensors in dicts, got {type(state).__name__}."
    )


def count_bytes(state: Any) -> int:
    """Return the memory that a tree of tensors takes."""
    if isinstance(state, dict):
        return sum(count_bytes(part) for part in state.values())
    return state.numel() * state.element_size()


def _shorten(state: State, support: State) -> State:
    """Return the support in place of a state, where it takes less memory."""
    if count_bytes(support) >= count_bytes(state):
        return state
    # what users are warned of is to be known before anyone asks
    known = {name: state[name] for name in ("diverged",) if name in state}
    return {**known, SUPPORT: support}


def in_row_order(state: Any) -> Any:
    """Return a tree of tensors laid out as a file gives them back.

    Products round by the layout of their factors.
    """
    if isinstance(state, Tensor):
        return state.contiguous()
    return {name: in_row_order(part) for name, part in state.items()}


def move_state(state: Any, device: torch.device) -> Any:
    """Return a tree of tensors (and other values) on another device."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {name: move_state(part, device) for name, part in state.items()}
    if isinstance(state, list):
        return [move_state(part, device) for part in state]
    return state


def pack_state(state: Any) -> Any:
    """Return a tree of tensors on the CPU, without what its views are parts of."""
    if isinstance(state, dict):
        return {name: pack_state(part) for name, part in state.items()}
    is_part = state.untyped_storage().nbytes() > state.nbytes
    return state.cpu().clone() if is_part else state.cpu()


def _query_one_task(
    learner: Adaptable, state: State, X: np.ndarray, device: torch.device
) -> tuple[np.ndarray, ...]:
    """Return the prediction of rows (n_rows, n_columns) of the only task."""
    with torch.no_grad():
        prediction = learner.query(state, as_tensor(X[None], device, DTYPE))
    parts = (prediction,) if isinstance(prediction, Tensor) else tuple(prediction)
    return tuple(part.cpu().numpy()[0] for part in parts)


def _cut_into_pieces(slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut sorted slots (n_rows,) into runs of at most MAX_ROWS.

    Return the slot and the length of each run, both (n_runs,).
    """
    begins = np.flatnonzero(np.r_[True, slots[1:] != slots[:-1]])
    lengths = np.diff(np.r_[begins, len(slots)])
    n_pieces = -(-lengths // MAX_ROWS)
    sizes = np.full(n_pieces.sum(), MAX_ROWS)
    last = np.cumsum(n_pieces) - 1
    sizes[last] = lengths - (n_pieces - 1) * MAX_ROWS
    return np.repeat(slots[begins], n_pieces), sizes


def _as_arrays(prediction: Any, mask: Tensor, n_rows: int) -> tuple[np.ndarray, ...]:
    """Return the real rows of a prediction as arrays (n_rows, ...) on the CPU.

    The mask (n_tasks, n_query) is True for them.
    """
    parts = (prediction,) if isinstance(prediction, Tensor) else tuple(prediction)
    if n_rows == mask.numel():  # no padding
        return tuple(part.flatten(0, 1).cpu().numpy() for part in parts)
    return tuple(part[mask].cpu().numpy() for part in parts)
