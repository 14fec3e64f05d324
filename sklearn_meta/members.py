"""Fitting one scikit-learn model per task, and choosing those that differ."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.parallel import Parallel, delayed

from sklearn_meta.pooling import fit_member
from sklearn_meta.tasks import TaskRows

__all__ = ["farthest_points", "fit_members"]

# rows on which models are compared to choose the most different ones
N_REFERENCE_ROWS = 256


def fit_members(
    estimator: BaseEstimator,
    rows: TaskRows,
    predict: Callable[[Any, np.ndarray], np.ndarray],
    *,
    max_models: int | None,
    n_jobs: int | None,
) -> tuple[list, np.ndarray]:
    """Fit a clone per task and keep the models that differ most.

    Parameters
    ----------
    estimator : estimator
        Any scikit-learn estimator; it is cloned.
    rows : TaskRows
        The rows of all tasks.
    predict : callable
        ``predict(model, X)``, an array with rows first: what models are compared by.
    max_models : int or None
        Most models kept; None keeps all. At most twice as many live at a time.
    n_jobs : int or None
        Processes.

    Returns
    -------
    models : list of estimator
        The kept models.
    tasks : ndarray of shape (n_models,)
        The position of the task that each learned from.
    """
    n_tasks = len(rows.sizes)
    size = n_tasks if max_models is None else max_models
    ends = np.cumsum(rows.sizes)
    spread = np.linspace(0, len(rows.X) - 1, min(N_REFERENCE_ROWS, len(rows.X)))
    X_reference = rows.X[spread.astype(int)]
    models: list = []
    tasks = np.empty(0, int)
    for first in range(0, n_tasks, size):
        chunk = np.arange(first, min(first + size, n_tasks))
        models += Parallel(n_jobs=n_jobs)(
            delayed(_fit_named)(
                estimator,
                rows.X[ends[t] - rows.sizes[t] : ends[t]],
                rows.y[ends[t] - rows.sizes[t] : ends[t]],
                rows.name_of(t),
            )
            for t in chunk
        )
        tasks = np.r_[tasks, chunk]
        if len(models) > size:
            points = np.stack([predict(m, X_reference).ravel() for m in models])
            kept = farthest_points(points, size)
            models, tasks = [models[i] for i in kept], tasks[kept]
    return models, tasks


def _fit_named(estimator: Any, X: np.ndarray, y: np.ndarray, name: str) -> Any:
    """Fit one model to X (n_rows, n_features), y; an error says for which task."""
    try:
        return fit_member(estimator, X, y)
    except Exception as error:
        error.add_note(f"This happened in {name}.")
        raise


def farthest_points(points: np.ndarray, n_kept: int) -> np.ndarray:
    """Return the sorted positions of points that cover all: a greedy k-centre.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_coordinates)
        What the models predict.
    n_kept : int
        How many are kept, at least 1.

    Returns
    -------
    kept : ndarray of shape (n_kept,)
        The point nearest to the mean, then each time the one farthest from the kept
        ones [1]_.

    References
    ----------
    .. [1] T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance",
       Theoretical Computer Science, 1985.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.members import farthest_points
    >>> farthest_points(np.array([[0.0], [0.1], [0.5], [1.0]]), 3)
    array([0, 2, 3])
    """
    kept = [int(_squared_distance(points, points.mean(0)).argmin())]
    distance = _squared_distance(points, points[kept[0]])
    while len(kept) < min(n_kept, len(points)):
        distance[kept[-1]] = -1.0  # never twice, though models may be alike
        kept.append(int(distance.argmax()))
        distance = np.minimum(distance, _squared_distance(points, points[kept[-1]]))
    return np.sort(kept)


def _squared_distance(points: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean distance of points to one, (n_points,)."""
    return ((points - point) ** 2).sum(1)
