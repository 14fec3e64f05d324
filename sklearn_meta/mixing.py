"""Mixtures of predictions: their weights, from held-out scores, and what they predict.

Weights depend on the number of shots: a member that is best with ten rows need not be
with one. They are learned at a few numbers of shots and interpolated between these.
Arrays have members first, or last where tasks or rows come first.
"""

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri, softmax
from scipy.stats import norm

__all__ = [
    "gate_weights",
    "interpolate_weights",
    "mixture_log_density",
    "mixture_moments",
    "mixture_quantiles",
    "pool_weights",
    "pool_weights_on_grid",
    "score_beside_pool",
    "score_weights",
]

# a difference of 1/30 nat per row makes a member e times heavier
SHARPNESS = 30.0
# share of a member's own in the mixture of which it is judged to be part
OWN_SHARE = 0.5
# weight of "all members alike" beside the held-out rows
UNIFORM_SHARE = 0.01
# weight of the rows at a neighbouring number of shots beside those at its own
NEIGHBOUR_SHARE = 0.3
EM_STEPS = 500
BISECTIONS = 60
# numbers that a step of the bisection holds at most
CHUNK_SIZE = 2**22


def score_beside_pool(said: np.ndarray, row_weight: np.ndarray) -> np.ndarray:
    """Score each member as half of a mixture, the other half of which is all of them.

    The log-likelihood of a member by itself may be lost on one odd task, for which
    others stand in once it is mixed with them.

    Parameters
    ----------
    said : ndarray of shape (n_members, n_rows)
        Log-likelihood of held-out rows under each member.
    row_weight : ndarray of shape (n_rows,)
        Weights that sum to 1.

    Returns
    -------
    scores : ndarray of shape (n_members,)
        Mean log of half the density of the member and half the mean one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.mixing import score_beside_pool
    >>> said = np.array([[0.0, -1000.0], [-0.5, -1.0]])
    >>> score_beside_pool(said, np.full(2, 0.5)).round(2)
    array([-1.24, -0.82])
    """
    pool = logsumexp(said, axis=0) - np.log(len(said))
    own, other = np.log(OWN_SHARE), np.log1p(-OWN_SHARE)
    return np.logaddexp(own + said, other + pool) @ row_weight


def score_weights(scores: np.ndarray) -> np.ndarray:
    """Weigh members by their own held-out score alone.

    Parameters
    ----------
    scores : ndarray of shape (..., n_members)
        Scores of held-out rows, in nats per row.

    Returns
    -------
    weights : ndarray of shape (..., n_members)
        Softmax of 30 times the scores; they sum to 1.

    Notes
    -----
    Weights that maximise the likelihood of the mixture reward a member whose wide tails
    cover the outliers of the others, and inflate the variance of all predictions.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.mixing import score_weights
    >>> score_weights(np.array([-1.0, -1.0, -2.0])).round(3)
    array([0.5, 0.5, 0. ])
    """
    return softmax(SHARPNESS * np.asarray(scores), axis=-1)


def pool_weights(probability: np.ndarray, row_weight: np.ndarray) -> np.ndarray:
    """Weigh members so that their linear pool gives held-out rows high probability.

    Parameters
    ----------
    probability : ndarray of shape (n_members, n_rows)
        What each member said of the true class.
    row_weight : ndarray of shape (n_rows,)
        Weights that sum to 1.

    Returns
    -------
    weights : ndarray of shape (n_members,)
        The maximum of the mean log of the pool plus 0.01 times the mean log weight,
        by expectation maximisation.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.mixing import pool_weights
    >>> said = np.array([[0.9, 0.9, 0.4], [0.5, 0.5, 0.5]])
    >>> bool(pool_weights(said, np.full(3, 1 / 3))[0] > 0.5)
    True
    """
    n_members = len(probability)
    probability = np.maximum(probability, np.finfo(float).tiny)
    weights = np.full(n_members, 1 / n_members)
    for _ in range(EM_STEPS):
        joint = weights[:, None] * probability
        responsibility = (joint / joint.sum(0)) @ row_weight
        new = (responsibility + UNIFORM_SHARE / n_members) / (1 + UNIFORM_SHARE)
        if np.abs(new - weights).max() < 1e-6:
            return new
        weights = new
    return weights


def pool_weights_on_grid(
    probability: list[np.ndarray], row_weight: list[np.ndarray]
) -> np.ndarray:
    """Weigh members at each number of shots, with a look at its neighbours.

    Few tasks tell little of the best weights; those at similar numbers of shots are
    similar.

    Parameters
    ----------
    probability : list of ndarray of shape (n_members, n_rows)
        What each member said of the true class, for each number of shots.
    row_weight : list of ndarray of shape (n_rows,)
        Weights that sum to 1, for each number of shots.

    Returns
    -------
    weights : ndarray of shape (n_grid, n_members)
        As of `pool_weights`, from rows at the own number of shots and, with 0.3 of
        their weight, at the next smaller and the next larger one.
    """
    weights = []
    for k in range(len(probability)):
        near = range(max(k - 1, 0), min(k + 2, len(probability)))
        share = [1.0 if j == k else NEIGHBOUR_SHARE for j in near]
        rows = [part * row_weight[j] for j, part in zip(near, share, strict=True)]
        said = np.hstack([probability[j] for j in near])
        weights.append(pool_weights(said, np.concatenate(rows) / sum(share)))
    return np.stack(weights)


def interpolate_weights(
    grid: np.ndarray, weights: np.ndarray, n_shots: np.ndarray
) -> np.ndarray:
    """Return the weights at numbers of shots between those of a grid.

    Parameters
    ----------
    grid : ndarray of shape (n_grid,)
        Rising numbers of shots.
    weights : ndarray of shape (n_grid, n_members)
        The weights there.
    n_shots : ndarray of shape (n_tasks,)
        Above 0.

    Returns
    -------
    weights : ndarray of shape (n_tasks, n_members)
        Linear in the logarithm of the shots, constant outside the grid.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.mixing import interpolate_weights
    >>> weights = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> interpolate_weights(np.array([1, 9]), weights, np.array([1, 3, 100]))
    array([[1. , 0. ],
           [0.5, 0.5],
           [0. , 1. ]])
    """
    place = np.interp(np.log(n_shots), np.log(grid), np.arange(len(grid)))
    below = np.floor(place).astype(int)
    above = np.ceil(place).astype(int)
    share = (place - below)[:, None]
    return (1 - share) * weights[below] + share * weights[above]


def gate_weights(weights: np.ndarray, stds: np.ndarray) -> np.ndarray:
    r"""Shift weight, row by row, to the members that are sure of the row.

    Members learned from different tasks, or with different kernels, are at a loss in
    different places; averaged alike there, the one that knows is drowned.

    Parameters
    ----------
    weights : ndarray of shape (n_members, n_rows)
        What each member weighs, >= 0.
    stds : ndarray of shape (n_members, n_rows)
        Standard deviation that each member states, > 0.

    Returns
    -------
    gated : ndarray of shape (n_members, n_rows)
        In proportion to :math:`w_m / \sigma_m^2`; they sum to 1 over the members.

    References
    ----------
    The mean of a mixture with these weights is that of the generalized product of
    experts: Y. Cao, D. J. Fleet, "Generalized Product of Experts for Automatic and
    Principled Fusion of Gaussian Process Predictions", arXiv:1410.7827, 2014,
    section 3. Its density stays that of a mixture, which is wide where members differ.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.mixing import gate_weights
    >>> gate_weights(np.full((2, 1), 0.5), np.array([[1.0], [3.0]])).ravel()
    array([0.9, 0.1])
    """
    gated = weights * (stds.min(0) / stds) ** 2
    return gated / gated.sum(0)


def mixture_moments(
    means: np.ndarray, stds: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of mixtures of Gaussians.

    Parameters
    ----------
    means, stds : ndarray of shape (n_members, n_rows)
        Of each member.
    weights : ndarray of shape (n_members, n_rows)
        They sum to 1 over the members.

    Returns
    -------
    mean, std : ndarray of shape (n_rows,)
        Moments of the mixture.
    """
    mean = (weights * means).sum(0)
    # around the mean: the difference of two large squares would lose the digits
    variance = (weights * (stds**2 + (means - mean) ** 2)).sum(0)
    return mean, np.sqrt(variance)


def mixture_log_density(
    means: np.ndarray, stds: np.ndarray, weights: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Return the log-density of mixtures of Gaussians.

    Parameters
    ----------
    means, stds, weights : ndarray of shape (n_members, n_rows)
        As of `mixture_moments`.
    y : ndarray of shape (n_rows,)
        Where it is asked for.

    Returns
    -------
    log_density : ndarray of shape (n_rows,)
        In nats.
    """
    return logsumexp(norm.logpdf(y, means, stds), axis=0, b=weights)


def mixture_quantiles(
    means: np.ndarray, stds: np.ndarray, weights: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """Return quantiles of mixtures of Gaussians, by bisection.

    Parameters
    ----------
    means, stds, weights : ndarray of shape (n_members, n_rows)
        As of `mixture_moments`.
    levels : ndarray of shape (n_levels,)
        Each in (0, 1).

    Returns
    -------
    quantiles : ndarray of shape (n_rows, n_levels)
        Exact to the last digits of the widest member.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.mixing import mixture_quantiles
    >>> means, stds = np.array([[-4.0], [4.0]]), np.ones((2, 1))
    >>> mixture_quantiles(means, stds, np.full((2, 1), 0.5), np.array([0.5, 0.75]))
    array([[0., 4.]])
    """
    n_members, n_rows = means.shape
    size = max(1, CHUNK_SIZE // (n_members * max(1, len(levels))))
    parts = [
        _bisect(
            means[:, first : first + size, None],
            stds[:, first : first + size, None],
            weights[:, first : first + size, None],
            levels,
        )
        for first in range(0, n_rows, size)
    ]
    return np.concatenate(parts) if parts else np.empty((0, len(levels)))


def _bisect(
    means: np.ndarray, stds: np.ndarray, weights: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """Find quantiles (n_rows, n_levels) between the least and greatest of the members.

    Moments and weights are of shape (n_members, n_rows, 1).
    """
    own = means + stds * ndtri(levels)
    low, high = own.min(0), own.max(0)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        below = (weights * ndtr((middle - means) / stds)).sum(0) < levels
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2
