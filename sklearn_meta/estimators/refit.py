"""A pooled model fitted again for each new task, with the task's level as a feature."""

from typing import Any, NamedTuple

import numpy as np

from sklearn_meta.averaging import sum_by_group
from sklearn_meta.pooling import few_threads, fit_member
from sklearn_meta.shifts import RandomIntercept
from sklearn_meta.tasks import TaskRows

__all__ = ["OldRows", "RefittedModels", "refit_models"]


class OldRows(NamedTuple):
    """Rows of the old tasks with the level of their task as features."""

    X: np.ndarray  # (n_rows, n_features + n_columns)
    y: np.ndarray  # (n_rows,)

    @classmethod
    def of(
        cls, rows: TaskRows, residuals: np.ndarray, intercept: RandomIntercept
    ) -> "OldRows":
        """Add the levels to raw rows with out-of-fold residuals (n_rows, n_columns)."""
        levels = levels_by_others(residuals, rows.sizes, intercept)
        return cls(np.column_stack([rows.X, levels]), rows.y)

    def cut(self, X: np.ndarray) -> np.ndarray:
        """Return rows of shape (n, n_features), cut to about the range of the old ones.

        One wild value of a few new rows must not own the model.
        """
        if not len(self.X):
            return X
        low, high = self.X.min(0), self.X.max(0)
        return X.clip(low - (high - low), high + (high - low))


class RefittedModels(NamedTuple):
    """A model for each adapted task, and the level that it is asked with."""

    models: list  # (n_tasks,)
    level: np.ndarray  # (n_tasks, n_columns)
    variance: np.ndarray  # (n_tasks, n_columns), of the level


def levels_by_others(
    residuals: np.ndarray, sizes: np.ndarray, intercept: RandomIntercept
) -> np.ndarray:
    """Return the level of each row's task, as the other rows of the task tell it.

    With its own residual among them, the level would tell a row's target.

    Parameters
    ----------
    residuals : ndarray of shape (n_rows, n_columns)
        Residuals of the pooled model.
    sizes : ndarray of shape (n_tasks,)
        Rows of each task.
    intercept : RandomIntercept
        By which levels are shrunk.

    Returns
    -------
    levels : ndarray of shape (n_rows, n_columns)
        Posterior means.
    """
    total = np.repeat(sum_by_group(residuals, sizes), sizes, axis=0)
    left = np.repeat(sizes - 1, sizes)
    return intercept.posterior(left, total - residuals)[0]


def refit_models(
    estimator: Any,
    old: OldRows,
    rows: TaskRows,
    residuals: np.ndarray,
    intercept: RandomIntercept,
) -> RefittedModels:
    """Fit a clone for each task on the old rows and the task's own.

    Parameters
    ----------
    estimator : estimator
        The pooled model.
    old : OldRows
        Rows of the old tasks.
    rows : TaskRows
        Raw support rows of the new tasks.
    residuals : ndarray of shape (n_rows, n_columns)
        Residuals of the pooled model on them.
    intercept : RandomIntercept
        By which levels are shrunk.

    Returns
    -------
    refitted : RefittedModels
        One model per task.
    """
    levels = levels_by_others(residuals, rows.sizes, intercept)
    X = old.cut(np.column_stack([rows.X, levels]))
    ends = np.cumsum(rows.sizes)
    models = []
    with few_threads(len(old.y)):
        for end, size in zip(ends, rows.sizes, strict=True):
            own = slice(end - size, end)
            models.append(
                fit_member(estimator, np.r_[old.X, X[own]], np.r_[old.y, rows.y[own]])
            )
    total = sum_by_group(residuals, rows.sizes)
    return RefittedModels(models, *intercept.posterior(rows.sizes, total))
