"""What every estimator that adapts to tasks shares: checks, adapt, ids of tasks."""

from abc import ABC, abstractmethod
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_meta.base._large_supports import SupportLimit, warn_of_large_supports
from sklearn_meta.base._state import unchanged_on_error
from sklearn_meta.exceptions import NotAdaptedError
from sklearn_meta.metrics import few_shot_score
from sklearn_meta.tasks import (
    TaskRows,
    as_task_collection,
    check_magnitude,
    check_table,
    check_tasks,
    group_rows,
    is_task_sequence,
    plain_table,
)


class BaseTaskEstimator(BaseEstimator, ABC):
    """Base class of all estimators that learn from tasks and adapt to new ones.

    A subclass learns in ``fit``, sets ``adapted_`` and ``task_names_`` in
    ``_adapt_to``, and predicts rows with the position of their task.
    """

    # requests of the class, so that users need no set_fit_request call
    __metadata_request__fit = {"tasks": True}
    __metadata_request__predict = {"tasks": True}
    __metadata_request__predict_proba = {"tasks": True}
    __metadata_request__predict_log_proba = {"tasks": True}
    __metadata_request__score = {"tasks": True}

    # ------------------------------------------------------------ to be filled in

    @abstractmethod
    def _adapt_to(self, rows: TaskRows) -> None:
        """Set the state for the tasks of these rows."""

    @abstractmethod
    def _check_targets(self, rows: TaskRows) -> None:
        """Raise if the targets are of another kind than the estimator's."""

    def _warn_of_few_tasks(self, rows: TaskRows) -> None:
        """Warn where tasks are too few to learn how they differ."""

    def _prepare(self, X: np.ndarray) -> np.ndarray:
        """Return new rows with the columns that the estimator adds, (n_rows, n)."""
        return X

    def _support_limits(self) -> list[SupportLimit]:
        """Return how many rows of a support can be used; nothing if that is all."""
        return []

    # ------------------------------------------------------------ adapt

    def adapt(self, X_support: Any, y_support: Any) -> Self:
        """Adapt to one task from its labelled rows, in place.

        What was learned across tasks does not change. To get an independent object,
        as for serving from many threads, use :func:`sklearn_meta.adapt`.

        Parameters
        ----------
        X_support : array-like of shape (n_support, n_features)
            The labelled rows, at least one.
        y_support : array-like of shape (n_support,)
            Their targets.

        Returns
        -------
        self : object
            It now predicts for this task.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the rows are not what ``fit`` saw, or the targets are of another kind.
        """
        self._check_is_fitted()
        with unchanged_on_error(self):
            rows = self._check_rows(X_support, y_support, None, reset=False)
            self._adapt_to_new(rows)
        return self

    def adapt_tasks(self, X: Any, y: Any = None, tasks: Any = None) -> Self:
        """Adapt to many tasks at once, in place, in one vectorised call.

        Parameters
        ----------
        X : TaskCollection, sequence of (X, y), or array-like of shape \
(n_support, n_features)
            The support of each task, or flat support rows.
        y : array-like of shape (n_support,), default=None
            Targets of flat rows.
        tasks : array-like of shape (n_support,), default=None
            Task id of each flat row.

        Returns
        -------
        self : object
            It now predicts with ``predict(X, tasks=ids)``.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the rows are not what ``fit`` saw, or there are no ids.
        """
        self._check_is_fitted()
        if is_task_sequence(X) or tasks is None:
            caller = f"{type(self).__name__}.adapt_tasks"
            X, y, tasks = as_task_collection(X, y, tasks, caller=caller), None, None
        with unchanged_on_error(self):
            self._adapt_to_new(self._check_rows(X, y, tasks, reset=False))
        return self

    def _adapt_to_new(self, rows: TaskRows) -> None:
        """Set the state for the tasks of these rows, which training has not seen."""
        self._adapt_to(rows._replace(X=self._prepare(rows.X)))
        self._warn_of_large_supports(rows)

    def _warn_of_large_supports(self, rows: TaskRows) -> None:
        """Say so where not all rows of an adapted task are used."""
        local = self._has_local_labels()
        warn_of_large_supports(rows, self._support_limits(), evenly=local)

    def _warn_of_large_table(self, rows: TaskRows) -> None:
        """Say so where ``fit`` has adapted to a part of its one table."""
        # with local labels it was there to be learned from: new classes will come
        if rows.names is None and not self._has_local_labels():
            self._warn_of_large_supports(rows)

    def _has_local_labels(self) -> bool:
        """Return whether labels mean something else in every task."""
        return getattr(self, "label_mode_", None) == "task"

    def _forget_adaptation(self) -> None:
        """Drop the state of an earlier adaptation."""
        for name in ("adapted_", "task_names_"):
            self.__dict__.pop(name, None)

    # ------------------------------------------------------------ predict

    def _check_query(self, X: Any, tasks: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the prepared rows and the position of each one's adapted task."""
        self._check_is_fitted()
        if not hasattr(self, "adapted_"):
            raise NotAdaptedError(
                f"This {type(self).__name__} was fitted on tasks and does not know the "
                "new one yet. Call adapt(X_support, y_support) with its labelled rows "
                "first. To score on many tasks, use "
                "sklearn_meta.metrics.few_shot_scorer, or score(X, y, tasks=ids). In a "
                "tool of scikit-learn that calls predict by itself, use "
                "AdaptedClassifier or AdaptedRegressor on the rows of one task, and "
                "sklearn_meta.task_column on those of all tasks. If you did pass "
                "tasks=ids to a tool, turn on metadata routing: "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        rows = plain_table(self, X)
        if rows is None:
            rows = check_table(self, X, tasks)
            check_magnitude("X", rows, tasks)
        return self._prepare(rows), self._task_codes(tasks, len(rows))

    def _task_codes(self, tasks: Any, n_rows: int) -> np.ndarray:
        """Return the position of each row's task among the adapted ones."""
        known = self.task_names_
        if tasks is None:
            if known is not None and len(known) > 1:
                raise ValueError(
                    f"The model is adapted to {len(known)} tasks: expected tasks=ids "
                    "with one id per row, got none."
                )
            return np.zeros(n_rows, int)
        if known is None:
            raise ValueError(
                "The model is adapted to one task without an id: expected tasks=None. "
                "Use adapt_tasks(X, y, tasks) to adapt to tasks with ids."
            )
        codes, names = group_rows(tasks, n_rows)
        position = {name: i for i, name in enumerate(known)}
        unknown = [name for name in names if name not in position]
        if unknown:
            raise ValueError(
                f"The model is not adapted to task {unknown[0]!r}. It knows "
                f"{len(known)} tasks: {known[:5]}{'...' if len(known) > 5 else ''}. "
                "Give its support rows to adapt_tasks first."
            )
        return np.array([position[name] for name in names])[codes]

    # ------------------------------------------------------------ plumbing

    def _check_is_fitted(self) -> None:
        """Raise if there is nothing to adapt."""
        known = getattr(self, "__sklearn_is_fitted__", None)
        # scikit-learn asks the same, after it has put the tags together
        if known is None or not known():
            check_is_fitted(self)

    def _check_rows(
        self, X: Any, y: Any, tasks: Any, reset: bool, min_rows: int = 1
    ) -> TaskRows:
        """Check the input of any form and the kind of its targets."""
        rows = check_tasks(
            self,
            X,
            y,
            tasks,
            reset=reset,
            min_rows=min_rows,
            y_numeric=self._numeric_target,
        )
        self._check_targets(rows)
        return rows

    def _score_on_tasks(self, X: Any, y: Any, tasks: Any, stratify: bool) -> float:
        """Return the mean over tasks of the own metric after few-shot adaptation."""
        low, high = self._shot_range()
        return few_shot_score(
            self,
            X,
            y,
            tasks,
            n_shots=(low + high) // 2,
            stratify=stratify,
            order=getattr(self, "order", "random"),
            random_state=0,
        )

    def _shot_range(self) -> tuple[int, int]:
        """Return the fewest and the most shots of an episode."""
        shots = self.n_shots
        pair = (shots, shots) if isinstance(shots, Integral) else tuple(shots)
        whole = len(pair) == 2 and all(isinstance(n, Integral) for n in pair)
        if not (whole and 1 <= pair[0] <= pair[1]):
            raise ValueError(
                f"Expected n_shots as an int of at least 1 or as (low, high) with "
                f"1 <= low <= high, got {shots!r}."
            )
        return int(pair[0]), int(pair[1])
