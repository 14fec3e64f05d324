"""Bayesian averaging over kept models: how the support of a task weighs them.

A member is a fitted model. Old tasks say how often each member is right about a task
that it has not seen (its prior) and how wrong it then is (its noise); the support of a
new task gives the posterior. Arrays have groups of rows (tasks, episodes) first and
members second.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, softmax

__all__ = [
    "ClassNoise",
    "MemberPrior",
    "ShiftNoise",
    "choose_prior",
    "choose_tilt",
    "drop_negligible",
    "fit_class_noise",
    "fit_shift_noise",
    "mean_of_groups",
    "posterior_weights",
    "sum_by_group",
    "tilt_classes",
]

EM_STEPS = 30
# members below this share of a task's weight are not asked: predictions stay cheap
NEGLIGIBLE = 1e-3
LARGEST_NOISE_SHARE = 0.99
SMALLEST_NOISE_SHARE = 0.01
EXPONENTS = (0.0, 0.03, 0.1, 0.2, 0.35, 0.6, 1.0)
TILT_STRENGTHS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
POOLED_SHARES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)


class ShiftNoise(NamedTuple):
    r"""How a numeric member errs: a shift of each task's own, and noise in each row.

    In a task for which member :math:`m` is right,
    :math:`y_i = f_m(x_i) + b + e_i` with :math:`b \sim N(0, \tau_m^2)` and
    :math:`e_i \sim N(0, \sigma_m^2)`.

    Parameters
    ----------
    variance : ndarray of shape (n_members,)
        :math:`\sigma_m^2`, above 0.
    shift_variance : ndarray of shape (n_members,)
        :math:`\tau_m^2`; 0 does not correct the shift.
    """

    variance: np.ndarray
    shift_variance: np.ndarray

    def log_evidence(
        self, counts: np.ndarray, total: np.ndarray, squares: np.ndarray
    ) -> np.ndarray:
        """Return the log-likelihood of groups of rows, the shift integrated out.

        Parameters
        ----------
        counts : ndarray of shape (n_groups,)
            Rows of each group.
        total, squares : ndarray of shape (n_groups, n_members)
            Sums over its rows of the residuals and of their squares.

        Returns
        -------
        log_evidence : ndarray of shape (n_groups, n_members)
            In nats.
        """
        n = counts[:, None]
        spread = self.variance + n * self.shift_variance
        explained = self.shift_variance * total**2 / spread
        # the determinant of sigma^2 I + tau^2 11' by the matrix determinant lemma
        log_determinant = (n - 1) * np.log(self.variance) + np.log(spread)
        distance = np.maximum(squares - explained, 0) / self.variance
        return -0.5 * (n * np.log(2 * np.pi) + log_determinant + distance)

    def shift(
        self, counts: np.ndarray, total: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of each group's shift, (n_groups, n_members).

        Residuals come as their counts (n_groups,) and totals (n_groups, n_members).
        """
        spread = self.variance + counts[:, None] * self.shift_variance
        share = self.shift_variance / spread
        return share * total, share * self.variance


class ClassNoise(NamedTuple):
    r"""How a classifier errs: now and then the class is drawn from its frequency.

    In a task for which member :math:`m` is right,
    :math:`p(y = c \mid x) = (1 - \epsilon_m) p_m(c \mid x) + \epsilon_m f_c`.

    Parameters
    ----------
    share : ndarray of shape (n_members,)
        :math:`\epsilon_m`, in (0, 1).
    frequency : ndarray of shape (n_classes,)
        :math:`f_c`, above 0.
    """

    share: np.ndarray
    frequency: np.ndarray

    def smooth(self, proba: np.ndarray) -> np.ndarray:
        """Return probabilities (n_rows, n_members, n_classes) with the noise."""
        share = self.share[:, None]
        return (1 - share) * proba + share * self.frequency


class MemberPrior(NamedTuple):
    """What is known of the members before the support is seen.

    Parameters
    ----------
    log_share : ndarray of shape (n_members,)
        Logarithm of each member's prior probability.
    exponent : float
        Power of the support's likelihood, in [0, 1]. Rows of a task err together, so
        that the likelihood of a few rows claims more than they know.
    """

    log_share: np.ndarray
    exponent: float


def posterior_weights(
    prior: MemberPrior, log_evidence: np.ndarray, usable: np.ndarray | bool = True
) -> np.ndarray:
    """Return the weight of each member, of shape (n_groups, n_members).

    Parameters
    ----------
    prior : MemberPrior
        Prior shares, and the power of the likelihood.
    log_evidence : ndarray of shape (n_groups, n_members)
        Log-likelihood of each group's support.
    usable : ndarray of shape (n_groups, n_members), bool, default=True
        False for members that must not be asked about a group.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.averaging import MemberPrior, posterior_weights
    >>> prior = MemberPrior(np.log([0.5, 0.5]), 1.0)
    >>> posterior_weights(prior, np.log([[0.3, 0.1]])).round(2)
    array([[0.75, 0.25]])
    """
    log_weights = prior.log_share + prior.exponent * log_evidence
    return softmax(np.where(usable, log_weights, -np.inf), axis=1)


def drop_negligible(weights: np.ndarray) -> np.ndarray:
    """Return weights (n_groups, n_members) without the smallest, again with sum 1."""
    kept = np.where(weights >= NEGLIGIBLE * weights.max(1, keepdims=True), weights, 0)
    return kept / kept.sum(1, keepdims=True)


def fit_shift_noise(
    counts: np.ndarray,
    total: np.ndarray,
    squares: np.ndarray,
    usable: np.ndarray,
    *,
    with_shift: bool,
    floor: float,
) -> tuple[ShiftNoise, np.ndarray]:
    """Learn noise and prior of numeric members from tasks, by EM.

    Each task is explained by one member that did not learn from it. Noise and prior of
    a member are pulled towards those of all by the weight of one task.

    Parameters
    ----------
    counts : ndarray of shape (n_tasks,)
        Rows of each task.
    total, squares : ndarray of shape (n_tasks, n_members)
        Sums of residuals and of their squares.
    usable : ndarray of shape (n_tasks, n_members), bool
        False where a member learned from the task.
    with_shift : bool
        Whether tasks have a shift of their own.
    floor : float
        Smallest variance of a row.

    Returns
    -------
    noise : ShiftNoise
        Of shape (n_members,).
    share : ndarray of shape (n_members,)
        Prior probability of each member.
    """
    n_tasks, n_members = total.shape
    share = np.full(n_members, 1 / n_members)
    start = max(_ratio(squares[usable], (counts[:, None] * usable)[usable]), floor)
    halves = start / 2 if with_shift else start
    noise = ShiftNoise(
        np.full(n_members, halves), np.full(n_members, halves * with_shift)
    )
    for _ in range(EM_STEPS):
        evidence = noise.log_evidence(counts, total, squares)
        task_of = posterior_weights(MemberPrior(np.log(share), 1.0), evidence, usable)
        share = (1 + task_of.sum(0)) / (n_members + n_tasks)
        shift, uncertain = noise.shift(counts, total)
        n = counts[:, None]
        errors = squares - 2 * shift * total + n * (shift**2 + uncertain)
        variance = _pulled(task_of * errors, task_of * n, counts.mean())
        spread = _pulled(task_of * (shift**2 + uncertain), task_of, 1.0)
        noise = ShiftNoise(np.maximum(variance, floor), spread)
    return noise, share


def fit_class_noise(
    likelihood: np.ndarray,
    frequency: np.ndarray,
    y: np.ndarray,
    sizes: np.ndarray,
    usable: np.ndarray,
) -> tuple[ClassNoise, np.ndarray]:
    """Learn noise and prior of classifiers from tasks, by EM.

    Parameters
    ----------
    likelihood : ndarray of shape (n_rows, n_members)
        Probability of each row's class according to each member.
    frequency : ndarray of shape (n_classes,)
        Frequency of each class.
    y : ndarray of shape (n_rows,)
        Position of each row's class.
    sizes : ndarray of shape (n_tasks,)
        Rows of each task.
    usable : ndarray of shape (n_tasks, n_members), bool
        False where a member learned from the task.

    Returns
    -------
    noise : ClassNoise
        Of shape (n_members,).
    share : ndarray of shape (n_members,)
        Prior probability of each member.
    """
    n_tasks, n_members = usable.shape
    by_chance = frequency[y][:, None]
    epsilon = np.full(n_members, 0.5)
    share = np.full(n_members, 1 / n_members)
    for _ in range(EM_STEPS):
        mixed = (1 - epsilon) * likelihood + epsilon * by_chance
        evidence = sum_by_group(np.log(mixed), sizes)
        task_of = posterior_weights(MemberPrior(np.log(share), 1.0), evidence, usable)
        share = (1 + task_of.sum(0)) / (n_members + n_tasks)
        chance = sum_by_group(epsilon * by_chance / mixed, sizes)
        found = _pulled(task_of * chance, task_of * sizes[:, None], sizes.mean())
        epsilon = found.clip(SMALLEST_NOISE_SHARE, LARGEST_NOISE_SHARE)
    return ClassNoise(epsilon, frequency), share


def choose_prior(
    share: np.ndarray,
    log_evidence: np.ndarray,
    usable: np.ndarray,
    log_density: np.ndarray,
    episode: np.ndarray,
) -> MemberPrior:
    """Choose the pooled member's share and the exponent that predict queries best.

    Parameters
    ----------
    share : ndarray of shape (n_members,)
        Prior probability of each member, the pooled one first.
    log_evidence : ndarray of shape (n_episodes, n_members)
        Log-likelihood of each episode's support.
    usable : ndarray of shape (n_episodes, n_members), bool
        False where a member learned from the episode's task.
    log_density : ndarray of shape (n_queries, n_members)
        Log-density of each query row's target given the member and the support.
    episode : ndarray of shape (n_queries,)
        Episode of each query row.

    Returns
    -------
    prior : MemberPrior
        The candidate with the largest mean log-density over episodes.
    """
    if len(share) == 1:
        return MemberPrior(np.zeros(1), 1.0)
    others = np.log(share[1:] / share[1:].sum())
    candidates = [
        MemberPrior(np.r_[np.log(pooled), np.log1p(-pooled) + others], exponent)
        for pooled in POOLED_SHARES
        for exponent in EXPONENTS
    ]

    def score(prior: MemberPrior) -> float:
        weights = posterior_weights(prior, log_evidence, usable)
        with np.errstate(divide="ignore"):
            mixed = logsumexp(np.log(weights)[episode] + log_density, axis=1)
        return float(mean_of_groups(mixed, episode).mean())

    return max(candidates, key=score)


def tilt_classes(
    frequency: np.ndarray, found: np.ndarray, expected: np.ndarray, strength: float
) -> np.ndarray:
    """Return the factor of each class that moves a blend to a task's frequencies.

    Parameters
    ----------
    frequency : ndarray of shape (n_classes,)
        Frequency of each class over all tasks.
    found, expected : ndarray of shape (n_tasks, n_classes)
        Support rows of each class, and how many the blend expects.
    strength : float
        Weight of a support row, at least 0; 0 gives factors of 1.

    Returns
    -------
    factors : ndarray of shape (n_tasks, n_classes)
        Above 0.
    """
    return (frequency + strength * found) / (frequency + strength * expected)


def choose_tilt(
    frequency: np.ndarray,
    found: np.ndarray,
    expected: np.ndarray,
    blend: np.ndarray,
    y: np.ndarray,
    episode: np.ndarray,
) -> float:
    """Choose the strength of `tilt_classes` that predicts queries best.

    Parameters
    ----------
    frequency : ndarray of shape (n_classes,)
        Frequency of each class over all tasks.
    found, expected : ndarray of shape (n_episodes, n_classes)
        Support rows of each class, and how many the blend expects.
    blend : ndarray of shape (n_queries, n_classes)
        Probabilities of the query rows.
    y : ndarray of shape (n_queries,)
        Position of each one's class.
    episode : ndarray of shape (n_queries,)
        Episode of each one.

    Returns
    -------
    strength : float
        The candidate with the largest mean log-likelihood over episodes.
    """

    def score(strength: float) -> float:
        factors = tilt_classes(frequency, found, expected, strength)
        proba = blend * factors[episode]
        log_likelihood = np.log(proba[np.arange(len(y)), y] / proba.sum(1))
        return float(mean_of_groups(log_likelihood, episode).mean())

    return max(TILT_STRENGTHS, key=score)


def sum_by_group(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the sum over each group of adjacent rows, (n_groups, ...)."""
    return np.add.reduceat(values, np.cumsum(sizes) - sizes, axis=0)


def mean_of_groups(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the mean of each group of values of shape (n_rows,)."""
    return np.bincount(group, values) / np.bincount(group)


def _pulled(numerator: np.ndarray, weight: np.ndarray, pull: float) -> np.ndarray:
    """Return a ratio per member (n_members,), pulled to that of all by ``pull``.

    Numerators and weights are of shape (n_groups, n_members).
    """
    common = _ratio(numerator, weight)
    return (numerator.sum(0) + pull * common) / (weight.sum(0) + pull)


def _ratio(numerator: np.ndarray, weight: np.ndarray) -> float:
    """Return the ratio of the sums of two arrays of any shape."""
    return float(numerator.sum() / weight.sum())
