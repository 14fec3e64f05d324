"""What meta-regressors share: one numeric target, predicted as a Gaussian."""

import copy
from typing import Any, Self

import numpy as np
import torch
from scipy.stats import norm
from sklearn.base import RegressorMixin
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from sklearn_meta.episodes import RowEpisodeSampler
from sklearn_meta.estimators.few_tasks import warn_of_few_tasks
from sklearn_meta.functional import gaussian_nll
from sklearn_meta.pooling import PooledModel, fit_pooled
from sklearn_meta.targets import NumericScale
from sklearn_meta.tasks import TaskRows, is_task_sequence

__all__ = ["MetaRegressorMixin", "TaskRegressorMixin"]


class TaskRegressorMixin(RegressorMixin):
    """Numeric targets and Gaussian predictions, for any way to adapt.

    A subclass predicts in ``_mean_and_std(X, codes)``, in the unit of the target.
    """

    # pipelines hand on what their last step requests: its uncertainty too
    __metadata_request__predict = {"tasks": True, "return_std": True}

    _numeric_target = True

    def predict(self, X: Any, return_std: bool = False, tasks: Any = None) -> Any:
        """Predict the mean of each row's target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the adapted task, or of several with ``tasks``.
        return_std : bool, default=False
            Whether the standard deviation is returned too.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each row, after ``adapt_tasks``.

        Returns
        -------
        y_mean : ndarray of shape (n_samples,)
            Predicted mean, in the unit of the target.
        y_std : ndarray of shape (n_samples,)
            Predicted standard deviation, only if ``return_std``.

        Raises
        ------
        NotAdaptedError
            If the model was fitted on tasks and is not adapted to one.
        ValueError
            If a task id is not among those adapted to.
        """
        X, codes = self._check_query(X, tasks)
        mean, std = self._mean_and_std(X, codes)
        return (mean, std) if return_std else mean

    def predict_quantiles(
        self, X: Any, quantiles: Any = (0.05, 0.5, 0.95), tasks: Any = None
    ) -> np.ndarray:
        """Predict quantiles of each row's target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the adapted task, or of several with ``tasks``.
        quantiles : array-like of shape (n_quantiles,), default=(0.05, 0.5, 0.95)
            Levels, each in (0, 1).
        tasks : array-like of shape (n_samples,), default=None
            Task id of each row, after ``adapt_tasks``.

        Returns
        -------
        values : ndarray of shape (n_samples, n_quantiles)
            The quantiles, in the unit of the target.

        Raises
        ------
        ValueError
            If a level is not in (0, 1).
        """
        levels = np.asarray(quantiles, dtype=float)
        if levels.ndim != 1 or not np.all((levels > 0) & (levels < 1)):
            raise ValueError(f"Expected levels in (0, 1), got {quantiles!r}.")
        X, codes = self._check_query(X, tasks)
        return self._quantiles(X, codes, levels)

    def log_density(self, X: Any, y: Any, tasks: Any = None) -> np.ndarray:
        """Return the log-density of targets under the prediction of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the adapted task, or of several with ``tasks``.
        y : array-like of shape (n_samples,)
            Their targets.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each row, after ``adapt_tasks``.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In nats, in the unit of the target. Its mean is a proper score: the larger,
            the better are both prediction and standard deviation.

        Raises
        ------
        ValueError
            If X and y differ in length, or a target is not finite.
        """
        y = column_or_1d(check_array(y, ensure_2d=False, dtype=np.float64))
        X, codes = self._check_query(X, tasks)
        check_consistent_length(X, y)
        return self._log_likelihood(X, y, codes)

    def score(
        self, X: Any, y: Any = None, sample_weight: Any = None, tasks: Any = None
    ) -> float:
        """Return R2 on rows of the adapted task, or its mean over many tasks.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or TaskCollection
            Query rows of the task; or whole tasks, each of which is split into
            support and query, adapted to and scored.
        y : array-like of shape (n_samples,), default=None
            Targets of rows.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; only without tasks.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each row.

        Returns
        -------
        score : float
            R2, at most 1. Over tasks: the mean, with the middle of ``n_shots`` as the
            number of support rows; see :func:`sklearn_meta.metrics.few_shot_score`.
        """
        if tasks is not None or is_task_sequence(X):
            return self._score_on_tasks(X, y, tasks, stratify=False)
        return super().score(X, y, sample_weight)

    def _quantiles(
        self, X: np.ndarray, codes: np.ndarray, levels: np.ndarray
    ) -> np.ndarray:
        """Return quantiles of the Gaussian of each row, (n_rows, n_levels)."""
        mean, std = self._mean_and_std(X, codes)
        return mean[:, None] + std[:, None] * norm.ppf(levels)

    def _log_likelihood(
        self, X: np.ndarray, y: np.ndarray, codes: np.ndarray
    ) -> np.ndarray:
        """Return the log-density (n_rows,) of the target of each row, in its unit."""
        mean, std = self._mean_and_std(X, codes)
        return norm.logpdf(y, mean, std)

    def _check_targets(self, rows: TaskRows) -> None:
        """Nothing to check beyond what `check_tasks` did."""

    def _warn_of_few_tasks(self, rows: TaskRows) -> None:
        """Warn that errors on new tasks will be larger than they are said to be."""
        warn_of_few_tasks(rows, "intervals that are too narrow")


class MetaRegressorMixin(TaskRegressorMixin):
    """Episodes over the rows of a task, for learners of a Gaussian."""

    def _mean_and_std(
        self, X: np.ndarray, codes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (n_rows,) in the unit of the target."""
        mean, std = self._query(X, codes)
        return self._in_target_unit(mean, std, X)

    def _in_target_unit(
        self, mean: np.ndarray, std: np.ndarray, X: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a learner's mean and deviation (n_rows,) in the target's unit."""
        mean = self.target_scale_.decode(mean) + self._offset(X)
        return mean, std * self.target_scale_.scale

    def _fit_pooled(
        self, rows: TaskRows, classes: Any, random_state: Any
    ) -> tuple[PooledModel, np.ndarray]:
        """Fit the pooled model of a numeric target."""
        return fit_pooled(self.pooled_estimator, rows, random_state=random_state)

    def _offset(self, X: np.ndarray) -> np.ndarray | float:
        """Return what the learner's target is counted from, (n_rows,) or 0."""
        return 0.0 if self.pooled_ is None else X[:, -1]

    def _without_support(self) -> Self:
        """Return a copy that knows of its task only what all tasks have in common."""
        new = copy.copy(self)
        X = np.empty((0, self.learner_shape_[0]))
        new._adapt_to(TaskRows(X, np.empty(0), np.zeros(1, int), None))
        return new

    def _learn_targets(self, rows: TaskRows) -> None:
        """Learn the scale of the target from the meta-training rows."""
        residual = rows.y - self._offset(rows.X)
        self.target_scale_ = NumericScale.of(residual, self.normalize_y)

    def _encode(self, rows: TaskRows) -> np.ndarray:
        """Return the scaled targets, counted from the pooled prediction."""
        return self.target_scale_.encode(rows.y - self._offset(rows.X))

    def _n_outputs(self) -> int:
        return 1

    def _row_sampler(self, rows: TaskRows, device: torch.device) -> RowEpisodeSampler:
        """Draw episodes over the rows of each task."""
        X = self._scaled_tensor(rows.X, device)
        Y = self._tensor(self._encode(rows), device)
        return RowEpisodeSampler(
            X, Y, rows.sizes, self._shot_range(), self.n_queries, order=self.order
        )

    def _encode_support(self, rows: TaskRows) -> tuple[np.ndarray, dict]:
        """Return scaled targets; regression has no attributes of a task."""
        return self._encode(rows), {}

    def _criterion(self) -> Any:
        return gaussian_nll
