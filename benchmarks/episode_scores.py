"""Scores of predictions, episode by episode."""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

COVERAGE = 0.9
# probabilities are cut here for every method: one sure mistake must not be infinite
LEAST_PROBABILITY = 1e-4
N_BINS = 10

REGRESSION_SCORES = ("nRMSE", "NLL", "coverage")
CLASS_SCORES = ("log-loss", "accuracy")


class Normal(NamedTuple):
    """Predicted targets of query rows, each of shape (n_query,).

    ``std`` is None where a method does not say how sure it is. ``low`` and ``high`` are
    the ends of its 90 % interval, and ``log_density`` that of the targets, where it
    has them from more than mean and standard deviation.
    """

    mean: np.ndarray
    std: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    log_density: np.ndarray | None = None


def score_targets(prediction, y):
    """Return nRMSE, NLL in nats per row and coverage of one episode."""
    mean, std, low, high, log_density = prediction
    rmse = np.sqrt(np.mean((y - mean) ** 2))
    if std is None:
        return rmse, np.nan, np.nan
    if log_density is None:
        log_density = norm.logpdf(y, mean, std)
    if low is None:
        low, high = norm.interval(COVERAGE, mean, std)
    return rmse, -np.mean(log_density), np.mean((low <= y) & (y <= high))


def score_classes(probabilities, y):
    """Return log-loss and accuracy of one episode; `y` are columns."""
    p = clip_probabilities(probabilities)
    return -np.mean(np.log(p[np.arange(len(y)), y])), np.mean(p.argmax(1) == y)


def calibration_error(predictions, targets):
    """Return the expected calibration error of the likeliest class, over all rows."""
    p = np.concatenate([clip_probabilities(each) for each in predictions])
    confidence, hit = p.max(1), p.argmax(1) == np.concatenate(targets)
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gap = np.bincount(bins, hit - confidence, N_BINS)
    return np.abs(gap).sum() / len(hit)


def clip_probabilities(probabilities):
    """Return rows that sum to 1 and have no probability near 0."""
    p = np.clip(probabilities, LEAST_PROBABILITY, 1)
    return p / p.sum(1, keepdims=True)
