"""Random effects of tasks: their variances, and what a support says of a new one."""

import numpy as np
from episode_scores import Normal
from scipy.optimize import minimize

# columns that vary less than this within tasks cannot have a slope per task
LEAST_VARIANCE = 0.02


def variance_components(errors, task):
    """Return mean, variance between tasks and within them, by maximum likelihood."""
    _, task = np.unique(task, return_inverse=True)
    n = np.bincount(task)
    means = np.bincount(task, errors) / n
    within = np.bincount(task, (errors - means[task]) ** 2)

    def profile(log_variances):
        between, noise = np.exp(log_variances)
        variance = between + noise / n
        mean = np.average(means, weights=1 / variance)
        loss = (n - 1) * log_variances[1] + within / noise
        return mean, np.sum(loss + np.log(variance) + (means - mean) ** 2 / variance)

    start = np.log(max(errors.var(), 1e-8) * np.array([0.2, 0.8]))
    found = minimize(lambda v: profile(v)[1] / len(errors), start, method="Nelder-Mead")
    return profile(found.x)[0], *np.exp(found.x)


def posterior_shift(errors, mean, between, noise):
    """Return a new task's shift and the standard deviation of its rows around it."""
    weight = between / (between + noise / len(errors))
    shift = mean + weight * (errors.mean() - mean)
    return shift, np.sqrt(noise + between * (1 - weight))


def slope_columns(columns, y, task, n_slopes):
    """Return the columns that move most with the target within tasks."""
    _, task = np.unique(task, return_inverse=True)
    columns, y = _within(columns, task), _within(y[:, None], task)[:, 0]
    strength = np.abs(columns.T @ y) / np.sqrt((columns**2).sum(0) + 1e-9)
    strength[columns.var(0) < LEAST_VARIANCE] = 0
    return np.argsort(-strength)[: min(n_slopes, int((strength > 0).sum()))]


def _within(values, task):
    """Return values counted from the mean of their task."""
    sums = np.zeros((task.max() + 1, values.shape[1]))
    np.add.at(sums, task, values)
    return values - (sums / np.bincount(task)[:, None])[task]


def design(columns, slopes):
    """Return the columns with a random effect: an intercept and some slopes."""
    return np.column_stack([np.ones(len(columns)), columns[:, slopes]])


def best_linear_prediction(split, k, fixed, slopes, covariance, noise):
    """Predict each episode from fixed effects and the random ones of its support.

    Parameters
    ----------
    split : Split
        Whose episodes with `k` support rows are predicted.
    fixed : ndarray of shape (n_rows,)
        Predictions of the fixed part, of all rows.
    slopes : ndarray of shape (n_slopes,)
        Columns with a random slope.
    covariance : ndarray of shape (1 + n_slopes, 1 + n_slopes)
        Covariance of intercept and slopes between tasks.
    noise : float
        Variance within tasks.
    """
    predictions = []
    for support, query in split.episodes[k]:
        Z, Zq = (design(split.linear[rows], slopes) for rows in (support, query))
        total = Z @ covariance @ Z.T + noise * np.eye(len(support))
        gain = np.linalg.solve(total, Z @ covariance).T
        effects = gain @ (split.y[support] - fixed[support])
        left = covariance - gain @ Z @ covariance
        variance = np.einsum("ij,jk,ik->i", Zq, left, Zq).clip(0) + noise
        predictions.append(Normal(fixed[query] + Zq @ effects, np.sqrt(variance)))
    return predictions
