"""Means over tasks, how sure they are, and differences of two models."""

from typing import Any

import numpy as np
from scipy import stats
from sklearn.utils import Bunch


def paired_comparison(a: Any, b: Any) -> Bunch:
    """Compare two models task by task.

    Differences on the same episodes vary far less than the scores do, since a task
    that is hard for one model is hard for the other too.

    Parameters
    ----------
    a : Bunch or array-like of shape (n_tasks,)
        What :func:`few_shot_score` returns with ``return_tasks=True``, or scores.
    b : Bunch or array-like of shape (n_tasks,)
        That of the other model, on the same tasks and episodes.

    Returns
    -------
    comparison : Bunch
        With ``differences``, ndarray of shape (n_tasks,), the scores of ``a`` minus
        those of ``b``; their ``mean``, its ``standard_error`` and 95 % ``interval``
        by Student's t over tasks. Tasks that have no score in one of them are nan
        and left out.

    Raises
    ------
    ValueError
        If the results are of other tasks or of episodes drawn in another way.

    Examples
    --------
    >>> from sklearn_meta.metrics import paired_comparison
    >>> result = paired_comparison([0.9, 0.7, 0.5], [0.8, 0.6, 0.3])
    >>> result.mean, [round(end, 3) for end in result.interval]
    (0.133, [-0.01, 0.277])
    """
    if isinstance(a, Bunch) and isinstance(b, Bunch):
        for what in ("tasks", "episodes"):
            if a[what] != b[what]:
                raise ValueError(
                    f"Expected two results on the same {what}, got {a[what]} and "
                    f"{b[what]}."
                )
    first, second = (
        np.asarray(r.scores if isinstance(r, Bunch) else r, dtype=float) for r in (a, b)
    )
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"Expected a score of each task in both results, got arrays of shape "
            f"{first.shape} and {second.shape}."
        )
    with np.errstate(invalid="ignore", over="ignore"):  # nan where both are infinite
        differences = first - second
    return Bunch(differences=differences, **mean_and_interval(differences))


def mean_and_interval(scores: np.ndarray) -> dict[str, Any]:
    """Return the mean of scores (n_tasks,), its standard error and 95 % interval."""
    scores = scores[~np.isnan(scores)]
    n = len(scores)
    if n < 2:  # the spread between tasks is unknown
        mean = float(scores[0]) if n else float("nan")
        return {"mean": mean, "standard_error": np.nan, "interval": (np.nan, np.nan)}
    # infinite scores have no spread, that of the largest ones overflows
    with np.errstate(invalid="ignore", over="ignore"):
        mean = float(np.mean(scores))
        error = float(np.std(scores, ddof=1) / np.sqrt(n))
    half = float(stats.t.ppf(0.975, n - 1)) * error
    return {
        "mean": mean,
        "standard_error": error,
        "interval": (mean - half, mean + half),
    }
