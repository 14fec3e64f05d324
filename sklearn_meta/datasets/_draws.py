"""What the generators of tasks share: sizes, ranges and the form of the result."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval

from sklearn_meta.tasks import TaskCollection

POSITIVE_COUNT = [Interval(Integral, 1, None, closed="left")]
NON_NEGATIVE = [Interval(Real, 0, None, closed="left")]
COMMON_CONSTRAINTS = {
    "n_tasks": POSITIVE_COUNT,
    "n_samples": [*POSITIVE_COUNT, tuple],
    "return_X_y_tasks": ["boolean"],
    "random_state": ["random_state"],
}


def check_range(name, bounds, *, positive=False):
    """Return `bounds` as two floats in order, or say what is wrong with them."""
    low, high = (float(bound) for bound in bounds)
    if not low <= high or (positive and low <= 0):
        wanted = "0 < low <= high" if positive else "low <= high"
        raise ValueError(
            f"{name} must be a pair (low, high) with {wanted}; got {bounds!r}."
        )
    return low, high


def draw_sizes(n_samples, n_tasks, rng):
    """Rows of each task: one int for all, or drawn from {low, ..., high}."""
    if isinstance(n_samples, Integral):
        return np.full(n_tasks, n_samples)
    low, high = (int(bound) for bound in n_samples)
    if not 1 <= low <= high:
        raise ValueError(
            "n_samples must be an int >= 1 or a pair (low, high) with "
            f"1 <= low <= high; got {n_samples!r}."
        )
    return rng.randint(low, high + 1, size=n_tasks)


def collect(X, y, sizes, return_X_y_tasks):
    """Cut arrays of shape (n_tasks, n_max, ...) to the tasks' sizes; wrap them up."""
    tasks = [(X[i, :size], y[i, :size]) for i, size in enumerate(sizes)]
    collection = TaskCollection(tasks)
    return collection.to_flat() if return_X_y_tasks else collection
