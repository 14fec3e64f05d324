"""A pooled model fitted once more, with what other rows of the task say as features."""

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_meta.averaging import sum_by_group
from sklearn_meta.functional import STD_FLOOR
from sklearn_meta.pooling import (
    few_threads,
    fit_member,
    folds_by_task,
    predict_numbers,
)
from sklearn_meta.shifts import RandomIntercept
from sklearn_meta.tasks import TaskRows

__all__ = [
    "Evidence",
    "LevelModel",
    "automatic_estimator",
    "draw_evidence",
    "fit_level_model",
]

# a row is learned from with several supports while there are fewer rows than these
MAX_ROWS = 20_000
MAX_DRAWS = 4
# pseudo-rows that pull a task's mean to zero, beside the mean itself
PSEUDO_ROWS = 2.0
RIDGE_PENALTIES = np.logspace(0, 4, 5)
LOGISTIC_C = 0.03
# the level is as noisy as tasks are few: boosting must not carve it up
BOOSTING = {
    "learning_rate": 0.05,
    "max_iter": 60,
    "max_leaf_nodes": 6,
    "min_samples_leaf": 200,
    "l2_regularization": 5.0,
    "max_features": 0.5,
    "early_stopping": False,
}


class Evidence(NamedTuple):
    """What support rows tell of the level of their task: sums, rows first.

    Parameters
    ----------
    counts : ndarray of shape (n,)
        Support rows.
    targets, residuals : ndarray of shape (n, n_columns)
        Sums of their (one-hot) targets, and of the errors of the pooled model.
    """

    counts: np.ndarray
    targets: np.ndarray
    residuals: np.ndarray

    @classmethod
    def of_tasks(
        cls, targets: np.ndarray, residuals: np.ndarray, sizes: np.ndarray
    ) -> "Evidence":
        """Sum up arrays (n_rows, n_columns) of supports of ``sizes`` rows each."""
        sums = (sum_by_group(part, sizes) for part in (targets, residuals))
        return cls(sizes, *sums)

    def columns(self, intercept: RandomIntercept) -> np.ndarray:
        """Return what a model reads of the evidence, (n, 4 * n_columns)."""
        counts = self.counts[:, None]
        rows = np.maximum(counts, 1)
        level, _ = intercept.posterior(self.counts, self.residuals)
        shrunk = self.targets / (counts + PSEUDO_ROWS)
        return np.hstack([self.targets / rows, self.residuals / rows, level, shrunk])

    def at(self, codes: np.ndarray) -> "Evidence":
        """Return the evidence of each row's task, of shape (n_rows, ...)."""
        return Evidence(*(part[codes] for part in self))


class LevelModel(NamedTuple):
    """A model of rows beside the evidence on their task.

    Parameters
    ----------
    model : estimator
        Fitted.
    intercept : RandomIntercept
        By which levels are shrunk.
    low, high : ndarray of shape (n_columns,)
        Bounds of its features, a range of them beyond the old ones: a wild target in a
        support must not lead it far from where old tasks have been.
    noise : ndarray of shape (2,) or None
        Of a number's squared error on new tasks: a constant, and a multiple of the
        variance of the level. None for classes.
    """

    model: Any
    intercept: RandomIntercept
    low: np.ndarray
    high: np.ndarray
    noise: np.ndarray | None

    def features(self, X: np.ndarray, evidence: Evidence) -> np.ndarray:
        """Return what the model reads of rows and evidence, of shape (n, n_columns)."""
        own = np.hstack([X, evidence.columns(self.intercept)])
        return own.clip(self.low, self.high)

    def variance(self, evidence: Evidence) -> np.ndarray:
        """Return the squared error to expect of numbers, (n,)."""
        return _error_terms(self.intercept, evidence) @ self.noise


def draw_evidence(
    targets: np.ndarray,
    residuals: np.ndarray,
    sizes: np.ndarray,
    bounds: tuple[int, int],
    rng: np.random.RandomState,
) -> list[Evidence]:
    """Draw supports for each row among the other rows of its task.

    Parameters
    ----------
    targets, residuals : ndarray of shape (n_rows, n_columns)
        Of all rows, those of a task adjacent.
    sizes : ndarray of shape (n_tasks,)
        Rows of each task.
    bounds : (int, int)
        Fewest and most rows of a support; small ones are drawn as often as large ones
        (the logarithm is uniform). A small task gives all its other rows.
    rng : RandomState
        Draws.

    Returns
    -------
    draws : list of Evidence
        One to four, the more the fewer rows there are.
    """
    n_rows = len(targets)
    both = np.hstack([targets, residuals])
    low, high = np.log(bounds[0]), np.log(bounds[1] + 1)
    draws = []
    for _ in range(int(np.clip(MAX_ROWS // n_rows, 1, MAX_DRAWS))):
        counts = np.exp(rng.uniform(low, high, n_rows)).astype(int)
        counts = np.minimum(counts, np.repeat(sizes - 1, sizes))
        sums = sum_of_others(both, sizes, counts, rng)
        draws.append(Evidence(counts, *np.split(sums, [targets.shape[1]], axis=1)))
    return draws


def sum_of_others(
    values: np.ndarray,
    sizes: np.ndarray,
    counts: np.ndarray,
    rng: np.random.RandomState,
) -> np.ndarray:
    """Sum the values of some other rows of each row's task, drawn at random.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
        The rows of a task are adjacent.
    sizes : ndarray of shape (n_tasks,)
        Rows of each task.
    counts : ndarray of shape (n_rows,)
        How many others, less than the rows of the task.
    rng : RandomState
        Shuffles the rows of each task; a row's others are those that follow it there,
        around the end.

    Returns
    -------
    sums : ndarray of shape (n_rows, n_columns)
        Zero where no others are asked for.
    """
    codes = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((rng.random_sample(len(codes)), codes))
    shuffled = values[order]
    starts = np.cumsum(sizes) - sizes
    start, size = starts[codes], sizes[codes]
    before = np.vstack([np.zeros(values.shape[1]), np.cumsum(shuffled, axis=0)])
    first = np.arange(len(codes)) - start + 1
    end = first + counts[order]
    # rows past the end of the task are those at its beginning
    wrapped = end > size
    sums = before[start + np.minimum(end, size)] - before[start + first]
    around = before[start + np.where(wrapped, end - size, 0)] - before[start]
    found = np.empty_like(sums)
    found[order] = sums + around
    return found


def fit_level_model(
    estimator: Any,
    rows: TaskRows,
    draws: list[Evidence],
    intercept: RandomIntercept,
    *,
    is_numeric: bool,
) -> LevelModel:
    """Fit an estimator on rows beside what supports say of their tasks.

    Parameters
    ----------
    estimator : estimator
        It is cloned.
    rows : TaskRows
        All rows, with the predictions of the pooled model as their last columns.
    draws : list of Evidence
        Each holds a support for every row.
    intercept : RandomIntercept
        By which levels are shrunk.
    is_numeric : bool
        Whether the target is a number, whose error is then learned out of fold.

    Returns
    -------
    fitted : LevelModel
        For new tasks.
    """
    X = np.vstack([np.hstack([rows.X, e.columns(intercept)]) for e in draws])
    y, noise = np.tile(rows.y, len(draws)), None
    with few_threads(len(X)):
        model = fit_member(estimator, X, y)
        if is_numeric:
            said = np.empty_like(y)
            for train, held_out in _folds_of_draws(rows, len(draws)):
                own = fit_member(estimator, X[train], y[train])
                said[held_out] = predict_numbers(own, X[held_out])
            terms = np.vstack([_error_terms(intercept, e) for e in draws])
            noise = nnls(terms, (y - said) ** 2)[0]
            noise[0] = max(noise[0], (STD_FLOOR * (y.std() or 1.0)) ** 2)
    low, high = X.min(0), X.max(0)
    return LevelModel(model, intercept, 2 * low - high, 2 * high - low, noise)


def _folds_of_draws(rows: TaskRows, n_draws: int) -> list:
    """Return folds by task of the rows of several draws, laid end to end."""
    begins = len(rows.y) * np.arange(n_draws)[:, None]
    return [
        tuple((begins + part).ravel() for part in fold) for fold in folds_by_task(rows)
    ]


def _error_terms(intercept: RandomIntercept, evidence: Evidence) -> np.ndarray:
    """Return a constant and the variance that is left in the level, (n, 2)."""
    _, variance = intercept.posterior(evidence.counts, evidence.residuals)
    return np.column_stack([np.ones(len(variance)), variance])


def automatic_estimator(is_numeric: bool, seed: int) -> Any:
    """Return the mean of a linear model and of boosting with small trees."""
    if is_numeric:
        linear = make_pipeline(StandardScaler(), RidgeCV(RIDGE_PENALTIES))
        boosting = HistGradientBoostingRegressor(**BOOSTING, random_state=seed)
        return VotingRegressor([("linear", linear), ("boosting", boosting)])
    linear = make_pipeline(
        StandardScaler(), LogisticRegression(C=LOGISTIC_C, max_iter=1000)
    )
    boosting = HistGradientBoostingClassifier(**BOOSTING, random_state=seed)
    parts = [("linear", linear), ("boosting", boosting)]
    return VotingClassifier(parts, voting="soft")
