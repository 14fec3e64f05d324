"""From targets to numbers a learner can read, and back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "LocalClasses",
    "NumericScale",
    "log_probabilities",
    "one_hot",
    "shared_labels",
]

# numbers that are counted for every key, at most
MOST_GAPS = 4
LOCAL_LABELS_REMEDY = (
    "If labels have their own meaning in every task, fit with label_mode='task'."
)


class NumericScale(NamedTuple):
    """Shift and scale of a numeric target.

    ``encode`` and ``decode`` are inverse; a standard deviation is decoded by the scale
    alone.
    """

    mean: float
    scale: float

    @classmethod
    def of(cls, y: np.ndarray, normalize: bool) -> "NumericScale":
        """Learn the scale of targets of shape (n_rows,); a constant keeps its unit."""
        if not normalize:
            return cls(0.0, 1.0)
        return cls(float(y.mean()), float(y.std()) or 1.0)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return targets of shape (n_rows, 1) in units of the scale."""
        return ((y - self.mean) / self.scale)[:, None]

    def decode(self, mean: np.ndarray) -> np.ndarray:
        """Return predictions, of any shape, in the unit of the target."""
        return mean * self.scale + self.mean


class LocalClasses(NamedTuple):
    """Classes that belong to their task: each task numbers its own from 0.

    A cell is a class of a task. Cells lie task by task, labels sorted within a task.
    """

    labels: np.ndarray  # (n_labels,), all labels of all tasks, sorted
    cell_label: np.ndarray  # (n_cells,), position in labels
    cell_task: np.ndarray  # (n_cells,)
    cell_size: np.ndarray  # (n_cells,)
    row_cell: np.ndarray  # (n_rows,)

    @classmethod
    def of(cls, y: np.ndarray, codes: np.ndarray) -> "LocalClasses":
        """Find the cells of rows from labels and tasks, both of shape (n_rows,)."""
        labels, label = _find_labels(y)
        cells, row_cell, size = _number_distinct(codes * len(labels) + label)
        task, cell_label = np.divmod(cells, len(labels))
        return cls(labels, cell_label, task, size, row_cell)

    @property
    def per_task(self) -> np.ndarray:
        """Number of classes of each task, of shape (n_tasks,)."""
        return np.bincount(self.cell_task)

    @property
    def cell_position(self) -> np.ndarray:
        """Number of each cell's class within its task, of shape (n_cells,)."""
        first = np.cumsum(self.per_task) - self.per_task
        return np.arange(len(self.cell_task)) - first[self.cell_task]

    @property
    def row_position(self) -> np.ndarray:
        """Number of each row's class within its task, of shape (n_rows,)."""
        return self.cell_position[self.row_cell]

    def of_task(self, task: int) -> np.ndarray:
        """Return the sorted labels of one task."""
        return self.labels[self.cell_label[self.cell_task == task]]


def _find_labels(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted labels, and the position (n_rows,) of each row's among them."""
    if y.dtype.kind == "i" and y.min(initial=0) >= 0:
        labels, position, _ = _number_distinct(y)
        return labels.astype(y.dtype, copy=False), position
    return np.unique(y, return_inverse=True)


def _number_distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct keys >= 0 in order, the number of each, and their counts.

    They are of shapes (n_distinct,), (n_keys,) and (n_distinct,).
    """
    if keys.max(initial=0) > MOST_GAPS * len(keys):
        return np.unique(keys, return_inverse=True, return_counts=True)
    # counted, not sorted, where few numbers up to the largest key are missing
    counts = np.bincount(keys)
    distinct = np.flatnonzero(counts)
    return distinct, (np.cumsum(counts > 0) - 1)[keys], counts[distinct]


def one_hot(positions: np.ndarray, n_classes: int) -> np.ndarray:
    """Return indicator rows of shape (n_rows, n_classes)."""
    return np.eye(n_classes)[positions]


def log_probabilities(proba: np.ndarray) -> np.ndarray:
    """Return logarithms, of the shape of the probabilities; that of 0 is -inf."""
    with np.errstate(divide="ignore"):
        return np.log(proba)


def shared_labels(y: np.ndarray, codes: np.ndarray) -> bool:
    """Return whether labels, of shape (n_rows,), seem to mean the same in every task.

    They do if some task has all of them. Where tasks are about different classes, no
    task has them all.
    """
    classes = LocalClasses.of(y, codes)
    return bool(classes.per_task.max() == len(classes.labels))


def check_known_labels(
    y: Any,
    classes: np.ndarray,
    place_of: Callable[[int], str],
    remedy: str = LOCAL_LABELS_REMEDY,
) -> np.ndarray:
    """Return the position of each label in the sorted classes, of shape (n_rows,).

    ``place_of(row)`` names the place of a row in the error message, which ends in
    ``remedy``.

    Raises
    ------
    ValueError
        If a label is not among the classes.
    """
    y = np.asarray(y)
    try:
        positions = np.minimum(classes.searchsorted(y), len(classes) - 1)
        is_unknown = classes[positions] != y
    except TypeError:  # labels of another kind cannot be compared with the classes
        is_unknown = np.ones(len(y), bool)
    if is_unknown.any():
        first = is_unknown.argmax()
        label = y[first : first + 1].tolist()[0]
        raise ValueError(
            f"The label {label!r} in {place_of(first)} was not seen in fit. "
            f"Expected one of {classes.tolist()}. {remedy}"
        )
    return positions
