"""One model of all rows, corrected by the support of a new task: what to beat."""

from abc import abstractmethod
from numbers import Integral
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from sklearn.base import _fit_context, is_regressor
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_meta.base import BaseTaskEstimator, PooledColumnsMixin
from sklearn_meta.base._state import unchanged_on_error
from sklearn_meta.estimators.level import (
    Evidence,
    LevelModel,
    automatic_estimator,
    draw_evidence,
    fit_level_model,
)
from sklearn_meta.estimators.refit import OldRows, RefittedModels, refit_models
from sklearn_meta.functional import STD_FLOOR
from sklearn_meta.pooling import PooledModel, fit_pooled
from sklearn_meta.shifts import fit_random_intercept
from sklearn_meta.tasks import TaskRows

__all__ = ["PooledEstimator", "Shifts"]

Part = TypeVar("Part", LevelModel, OldRows)


class Shifts(NamedTuple):
    """What is added to the pooled prediction in each adapted task."""

    mean: np.ndarray  # (n_tasks, n_columns)
    variance: np.ndarray  # (n_tasks, n_columns)


class PooledEstimator(PooledColumnsMixin, BaseTaskEstimator):
    """Fit the pooled model and learn how supports correct it."""

    pooled_: PooledModel
    level_: LevelModel | None
    old_rows_: OldRows | None
    adapted_: Shifts | Evidence | RefittedModels

    _parameter_constraints: dict = {
        "correction": [StrOptions({"none", "shift", "level", "refit"})],
        "n_shots": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "random_state": ["random_state"],
    }

    def _learn_labels(self, rows: TaskRows, classes: Any = None) -> None:
        """Learn what labels mean; numbers need nothing of the kind."""

    @abstractmethod
    def _targets(self, rows: TaskRows) -> np.ndarray:
        """Return targets, or one-hot labels, (n_rows, n_columns)."""

    @abstractmethod
    def _residuals(self, rows: TaskRows) -> np.ndarray:
        """Return targets minus predictions of prepared rows, (n_rows, n_columns)."""

    def _learn_shift(self, rows: TaskRows) -> None:
        """Learn the prior of shifts, beyond that of residuals, from prepared rows."""

    @abstractmethod
    def _support_bounds(self) -> tuple[int, int]:
        """Return the fewest and most rows of a support to learn from."""

    @abstractmethod
    def _shifts(self, rows: TaskRows) -> Shifts:
        """Return the shifts that prepared support rows ask for."""

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, tasks: Any = None) -> Self:
        """Fit the pooled model, and learn how supports correct it.

        Parameters
        ----------
        X : TaskCollection, sequence of (X, y), or array-like of shape \
(n_samples, n_features)
            Tasks, or flat rows.
        y : array-like of shape (n_samples,), default=None
            Targets of flat rows; None where X is a sequence of tasks.
        tasks : array-like of shape (n_samples,), default=None
            The id of each flat row's task, any hashable. Without it, X is one table,
            and the fitted estimator predicts at once.

        Returns
        -------
        self : object
            Fitted on tasks it predicts after ``adapt``; fitted on one table, at once.

        Raises
        ------
        ValueError
            If the input is not what was expected; the message names the task. The
            estimator is then as it was before.
        """
        with unchanged_on_error(self):
            self._shot_range()  # `score` needs it
            rows = self._check_rows(X, y, tasks, reset=True, min_rows=2)
            self._warn_of_few_tasks(rows)
            self._learn_labels(rows)
            classes = getattr(self, "classes_", None)
            pooled, columns = fit_pooled(
                self.estimator, rows, classes, self.random_state
            )
            self._learn_prepared(
                rows.with_columns(columns), pooled=pooled, classes=classes
            )
        return self

    def _learn_prepared(
        self,
        rows: TaskRows,
        validation: TaskRows | None = None,
        *,
        pooled: PooledModel,
        classes: Any = None,
    ) -> None:
        """Learn how supports correct a pooled model.

        Parameters
        ----------
        rows : TaskRows
            Checked rows, with the columns of ``pooled`` last, each from a model that
            did not see the row's task.
        validation : TaskRows or None, default=None
            Ignored: there is nothing to stop.
        pooled : PooledModel
            Gives the same columns of new rows.
        classes : array-like of shape (n_classes,), default=None
            All labels there will be; by default those of the rows.
        """
        self.pooled_ = pooled
        self.n_features_in_ = self._n_raw_features(rows.X.shape[1])
        self._learn_labels(rows, classes)
        residuals = self._residuals(rows)
        floor = (STD_FLOOR * (float(residuals.std()) or 1.0)) ** 2
        self.intercept_ = fit_random_intercept(residuals, rows.sizes, floor)
        self._learn_shift(rows)
        self.n_tasks_ = len(rows.sizes)
        self.level_ = self._learn_level(rows) if self._has_level_model() else None
        self._forget_adaptation()
        old = None
        if self.correction == "refit":
            old = OldRows.of(self._raw(rows), residuals, self.intercept_)
        if rows.names is None:
            # the rows of one table are its support, and count once
            self.old_rows_ = old and OldRows(old.X[:0], old.y[:0])
            self._adapt_to(rows)
        self.old_rows_ = old

    def _has_level_model(self) -> bool:
        """Return whether levels are features; one table tells of no levels."""
        return self.correction == "level" and self.n_tasks_ > 1

    def _learn_level(self, rows: TaskRows) -> LevelModel:
        """Fit the model once more, on rows with what supports say of their tasks."""
        rng = check_random_state(self.random_state)
        seed, is_numeric = int(rng.randint(np.iinfo(np.int32).max)), is_regressor(self)
        draws = draw_evidence(
            self._targets(rows),
            self._residuals(rows),
            rows.sizes,
            self._support_bounds(),
            rng,
        )
        chosen = isinstance(self.estimator, str)
        return fit_level_model(
            automatic_estimator(is_numeric, seed) if chosen else self.pooled_.model,
            rows._replace(X=self._beside_level(rows.X)),
            draws,
            self.intercept_,
            is_numeric=is_numeric,
        )

    def _beside_level(self, X: np.ndarray) -> np.ndarray:
        """Return what the level model reads of rows beside the level, (n_rows, n)."""
        return X

    def _raw(self, rows: TaskRows) -> TaskRows:
        """Return prepared rows without the columns of the pooled model."""
        return rows._replace(X=rows.X[:, : self.n_features_in_])

    def _adapt_to(self, rows: TaskRows) -> None:
        """Set the correction of each task from prepared support rows."""
        if self.correction == "refit":
            residuals = self._residuals(rows)
            self.adapted_ = refit_models(
                self.pooled_.model,
                self._learned_in_fit(self.old_rows_),
                self._raw(rows),
                residuals,
                self.intercept_,
            )
        elif self._has_level_model():
            self.adapted_ = Evidence.of_tasks(
                self._targets(rows), self._residuals(rows), rows.sizes
            )
        else:
            self.adapted_ = self._shifts(rows)
        self.task_names_ = rows.names

    def _shifts_tasks(self) -> bool:
        """Return whether supports shift predictions; one table tells of no shifts."""
        return self.correction == "shift" and self.n_tasks_ > 1

    def _learned_in_fit(self, part: Part | None) -> Part:
        """Return what ``fit`` has learned for the present correction, or say so."""
        if part is None:
            raise ValueError(
                f"correction={self.correction!r} was set after fit, which has learned "
                "nothing for it. Call fit again."
            )
        return part

    def _ask_level_model(
        self, X: np.ndarray, evidence: Evidence, ask: Any
    ) -> np.ndarray:
        """Return ``ask(model, X)``, (n_rows, ...), of the model that reads levels."""
        level = self._learned_in_fit(self.level_)
        return ask(level.model, level.features(self._beside_level(X), evidence))

    def _ask_refitted(
        self, X: np.ndarray, refitted: RefittedModels, codes: np.ndarray, ask: Any
    ) -> np.ndarray:
        """Return ``ask(model, X)``, (n_rows, ...), of the model of each row's task."""
        X = np.column_stack([X[:, : self.n_features_in_], refitted.level[codes]])
        X = self._learned_in_fit(self.old_rows_).cut(X)
        order = np.argsort(codes, kind="stable")
        present, first = np.unique(codes[order], return_index=True)
        parts = [
            ask(refitted.models[task], X[own])
            for task, own in zip(present, np.split(order, first[1:]), strict=True)
        ]
        said = np.empty((len(X), *parts[0].shape[1:]))
        said[order] = np.concatenate(parts)
        return said

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there is a pooled model."""
        return hasattr(self, "intercept_")
