"""What a task adds to the predictions of a pooled model: a shift of its own.

Numbers are shifted by a random intercept, logits by a vector that is the mode of its
posterior. Both are shrunk by what such shifts were on tasks that the pooled model did
not see (empirical Bayes). Rows of a task, or of an episode, are adjacent.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from sklearn_meta.averaging import mean_of_groups, sum_by_group

__all__ = [
    "LogitEpisodes",
    "RandomIntercept",
    "ShiftPrecision",
    "fit_random_intercept",
    "fit_shift_precision",
    "map_shift",
]

# bounds of the logarithm of the ratio of variances between and within tasks
LOG_RATIOS = (-14.0, 14.0)
PRECISIONS = np.geomspace(0.1, 100, 13)
MAX_NEWTON_STEPS = 50
# Newton's steps overshoot where all probabilities are near 0 or 1
MAX_LOGIT_STEP = 3.0
NEWTON_TOLERANCE = 1e-10


class RandomIntercept(NamedTuple):
    r"""Residuals as a level of each task's own and noise in each row.

    In task :math:`t`, :math:`r_i = b_t + e_i` with :math:`b_t \sim N(\mu, \tau^2)` and
    :math:`e_i \sim N(0, \sigma^2)`, for each column of residuals by itself.

    Parameters
    ----------
    mean : ndarray of shape (n_columns,)
        :math:`\mu`.
    between : ndarray of shape (n_columns,)
        :math:`\tau^2`, at least 0.
    within : ndarray of shape (n_columns,)
        :math:`\sigma^2`, above 0.
    """

    mean: np.ndarray
    between: np.ndarray
    within: np.ndarray

    def posterior(
        self, counts: np.ndarray, total: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of each task's level given some residuals.

        Parameters
        ----------
        counts : ndarray of shape (n_tasks,)
            How many residuals, at least 0.
        total : ndarray of shape (n_tasks, n_columns)
            Their sums.

        Returns
        -------
        mean, variance : ndarray of shape (n_tasks, n_columns)
            Of the level.
        """
        n = np.asarray(counts)[:, None]
        share = self.between / (self.within + n * self.between)
        return self.mean + share * (total - n * self.mean), share * self.within


def fit_random_intercept(
    residuals: np.ndarray, sizes: np.ndarray, floor: float
) -> RandomIntercept:
    """Learn a random intercept by maximum likelihood.

    Mean and noise have closed forms given the ratio of the two variances, which leaves
    a search in one dimension.

    Parameters
    ----------
    residuals : ndarray of shape (n_rows, n_columns)
        Residuals on tasks that the pooled model did not see.
    sizes : ndarray of shape (n_tasks,)
        Rows of each task.
    floor : float
        Smallest variance within tasks, > 0.

    Returns
    -------
    intercept : RandomIntercept
        Of each column.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.shifts import fit_random_intercept
    >>> residuals = np.array([[1.0], [3.0], [7.0], [9.0]])
    >>> intercept = fit_random_intercept(residuals, np.array([2, 2]), 1e-6)
    >>> [part.round(3).tolist() for part in intercept]
    [[5.0], [8.0], [2.0]]
    """
    means = sum_by_group(residuals, sizes) / sizes[:, None]
    inside = ((residuals - np.repeat(means, sizes, axis=0)) ** 2).sum(0)
    fitted = [
        _fit_column(mean, scatter, sizes, floor)
        for mean, scatter in zip(means.T, inside, strict=True)
    ]
    return RandomIntercept(*np.array(fitted).T)


def _fit_column(
    means: np.ndarray, scatter: float, sizes: np.ndarray, floor: float
) -> tuple[float, float, float]:
    """Return mean and variances of a column from the means (n_tasks,) of tasks."""

    def given(log_ratio: float) -> tuple[float, float, float]:
        weight = sizes / (1 + np.exp(log_ratio) * sizes)
        mean = weight @ means / weight.sum()
        squares = scatter + weight @ (means - mean) ** 2
        return mean, squares, max(squares / sizes.sum(), floor)

    def loss(log_ratio: float) -> float:
        _, squares, within = given(log_ratio)
        log_spread = np.log1p(np.exp(log_ratio) * sizes).sum()
        return sizes.sum() * np.log(within) + squares / within + log_spread

    found = minimize_scalar(loss, bounds=LOG_RATIOS, method="bounded")
    # the lower bound stands for a ratio of 0
    log_ratio = min(LOG_RATIOS[0], float(found.x), key=loss)
    mean, _, within = given(log_ratio)
    return mean, np.exp(log_ratio) * within, within


class ShiftPrecision(NamedTuple):
    """Precision of the prior of a shift of logits, by the number of support rows.

    Parameters
    ----------
    shots : ndarray of shape (n_sizes,)
        Numbers of support rows, increasing.
    precision : ndarray of shape (n_sizes,)
        The precision that was best with so many, > 0.
    """

    shots: np.ndarray
    precision: np.ndarray

    def at(self, counts: np.ndarray) -> np.ndarray:
        """Return the precision for numbers of rows (n,), log-linear in between."""
        logs = np.interp(np.log(counts), np.log(self.shots), np.log(self.precision))
        return np.exp(logs)


class LogitEpisodes(NamedTuple):
    """Supports and queries of episodes in which all supports are of one size."""

    support_logits: np.ndarray  # (n_support_rows, n_classes)
    support_labels: np.ndarray  # (n_support_rows, n_classes), one-hot
    sizes: np.ndarray  # (n_episodes,), support rows
    query_logits: np.ndarray  # (n_query_rows, n_classes)
    query_labels: np.ndarray  # (n_query_rows, n_classes), one-hot
    episode: np.ndarray  # (n_query_rows,)

    def loss(self, precision: float) -> float:
        """Return the mean over episodes of the log-loss of shifted queries."""
        precisions = np.full(len(self.sizes), precision)
        shift = map_shift(
            self.support_logits, self.support_labels, self.sizes, precisions
        )
        log_proba = log_softmax(self.query_logits + shift[self.episode], axis=1)
        row_loss = -(self.query_labels * log_proba).sum(1)
        return float(mean_of_groups(row_loss, self.episode).mean())


def fit_shift_precision(
    episodes: Sequence[tuple[int, LogitEpisodes]],
) -> ShiftPrecision:
    """Choose the precision of the prior that predicts queries best, for each size.

    Parameters
    ----------
    episodes : sequence of (int, LogitEpisodes)
        Support rows, increasing, and episodes with so many, of tasks that the pooled
        model did not see.

    Returns
    -------
    precision : ShiftPrecision
        Chosen among 13 values from 0.1 to 100.
    """
    best = [min(PRECISIONS, key=drawn.loss) for _, drawn in episodes]
    return ShiftPrecision(np.array([shots for shots, _ in episodes]), np.array(best))


def map_shift(
    logits: np.ndarray, labels: np.ndarray, sizes: np.ndarray, precision: np.ndarray
) -> np.ndarray:
    r"""Return the most probable shift of the logits of each task.

    It maximises :math:`\sum_i \log \mathrm{softmax}(l_i + b)_{y_i} - \lambda b^2 / 2`
    over the rows of the task, by Newton's method for all tasks at once.

    Parameters
    ----------
    logits : ndarray of shape (n_rows, n_classes)
        What the pooled model says of the support rows.
    labels : ndarray of shape (n_rows, n_classes)
        Their one-hot labels.
    sizes : ndarray of shape (n_tasks,)
        Support rows of each task.
    precision : ndarray of shape (n_tasks,)
        Precision of the Gaussian prior of the shift, > 0.

    Returns
    -------
    shift : ndarray of shape (n_tasks, n_classes)
        Each task's sums to 0.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.shifts import map_shift
    >>> labels = np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> map_shift(np.zeros((2, 2)), labels, np.array([2]), np.ones(1)).round(3)
    array([[ 0.521, -0.521]])
    """
    codes = np.repeat(np.arange(len(sizes)), sizes)
    shift = np.zeros((len(sizes), logits.shape[1]))
    identity = np.eye(logits.shape[1])
    for _ in range(MAX_NEWTON_STEPS):
        proba = softmax(logits + shift[codes], axis=1)
        gradient = sum_by_group(labels - proba, sizes) - precision[:, None] * shift
        curvature = proba[:, :, None] * (identity - proba[:, None, :])
        hessian = sum_by_group(curvature, sizes) + precision[:, None, None] * identity
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        largest = np.abs(step).max(1, keepdims=True)
        shift += step * np.minimum(1, MAX_LOGIT_STEP / np.maximum(largest, 1e-300))
        if largest.max() < NEWTON_TOLERANCE:
            break
    return shift
