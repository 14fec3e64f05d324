"""What the estimators with an outer loop share: meta-train, adapt, predict."""

import copy
import zlib
from abc import abstractmethod
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import _fit_context

from sklearn_meta.base._fingerprint import describe
from sklearn_meta.base._hold_out import HoldOutMixin
from sklearn_meta.base._large_supports import thin_out
from sklearn_meta.base._parameters import (
    COMMON_CONSTRAINTS,
    NestedParametersMixin,
    check_callbacks,
)
from sklearn_meta.base._pooled_columns import PooledColumnsMixin
from sklearn_meta.base._run import Run, open_run
from sklearn_meta.base._scaled_rows import ScaledRowsMixin, fit_scaler
from sklearn_meta.base._state import PortableStateMixin, unchanged_on_error
from sklearn_meta.base._task_estimator import BaseTaskEstimator
from sklearn_meta.exceptions import DivergenceWarning, warn_user
from sklearn_meta.learners.contract import Learner
from sklearn_meta.pooling import PooledModel
from sklearn_meta.serving import AdaptedTasks, adapt_in_chunks
from sklearn_meta.tasks import TaskCollection, TaskRows, TaskWindows
from sklearn_meta.training import (
    EpisodeSampler,
    OuterLoop,
    TrainingRecord,
    one_thread,
    seeded,
)

__all__ = ["BaseMetaEstimator"]


class BaseMetaEstimator(
    NestedParametersMixin,
    PortableStateMixin,
    PooledColumnsMixin,
    HoldOutMixin,
    ScaledRowsMixin,
    BaseTaskEstimator,
):
    """Base class of the estimators that train a learner in an outer loop over tasks.

    A subclass names its learner (`_build_learner`) and its loss (`_criterion`);
    :class:`~sklearn_meta.estimators.regressor.MetaRegressorMixin` and
    :class:`~sklearn_meta.estimators.classifier.MetaClassifierMixin` know the targets.
    """

    # a request of the class, so that users need no set_partial_fit_request call
    __metadata_request__partial_fit = {"tasks": True}

    _parameter_constraints: dict = COMMON_CONSTRAINTS

    # ------------------------------------------------------------ to be filled in

    @abstractmethod
    def _build_learner(self, n_features: int, n_outputs: int) -> Learner:
        """Return an untrained learner."""

    @abstractmethod
    def _criterion(self) -> Any:
        """Return the loss per query row."""

    # ------------------------------------------------------------ fit

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, tasks: Any = None) -> "BaseMetaEstimator":
        """Learn across tasks how to adapt to a new one.

        Parameters
        ----------
        X : TaskCollection, sequence of (X, y), or array-like of shape \
(n_samples, n_features)
            Tasks, or flat rows.
        y : array-like of shape (n_samples,), default=None
            Targets of flat rows; None where X is a sequence of tasks.
        tasks : array-like of shape (n_samples,), default=None
            The id of each flat row's task, any hashable. Without it, X is one table:
            classifiers draw episodes over its classes (or rows, if
            ``label_mode="shared"``), regressors over its rows, and the fitted model is
            adapted to all of its rows.

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
            resume = self.warm_start and hasattr(self, "learner_")
            X, windows = self._open_windows(X)
            rows = self._check_rows(X, y, tasks, reset=not resume, min_rows=2)
            if not resume and windows is None:
                self._warn_of_few_tasks(rows)
            self._meta_train(rows, resume, None, windows)
        return self

    def partial_fit(
        self, X: Any, y: Any = None, tasks: Any = None, classes: Any = None
    ) -> "BaseMetaEstimator":
        """Take ``max_iter`` more outer steps, on the same or on new tasks.

        The scales of features and target are those of the first call.

        Parameters
        ----------
        X : TaskCollection, sequence of (X, y), or array-like of shape \
(n_samples, n_features)
            Tasks, or flat rows.
        y : array-like of shape (n_samples,), default=None
            Targets of flat rows.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each flat row.
        classes : array-like of shape (n_classes,), default=None
            All labels there will be, for the first call of a classifier with shared
            labels; by default those of the first call. Regressors ignore it.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If the input is not what was expected.
        """
        self._validate_params()
        with unchanged_on_error(self):
            resume = hasattr(self, "learner_")
            X, windows = self._open_windows(X)
            rows = self._check_rows(X, y, tasks, reset=not resume, min_rows=2)
            self._meta_train(rows, resume, classes, windows)
        return self

    def _open_windows(self, X: Any) -> tuple[Any, TaskWindows | None]:
        """Return what is in memory first, and the windows of a larger collection."""
        window = X.window if isinstance(X, TaskCollection) else None
        if window is None or window >= len(X):
            return X, None
        # not from the state that draws the episodes: a run that goes on needs the same
        seed = zlib.crc32(describe(self.random_state).encode())
        windows = TaskWindows(X, window, self._n_held_out(len(X)), seed)
        return windows.window(0), windows

    def _meta_train(
        self, rows: TaskRows, resume: bool, classes: Any, windows: TaskWindows | None
    ) -> None:
        """Add the pooled columns, which are out of fold, and learn from all tasks."""
        run = open_run(self, rows, None, resume, classes)
        pooled = self.pooled_ if resume else None
        if pooled is not None:
            rows = rows.with_columns(pooled.out_of_fold_columns(rows))
        elif not resume and self.pooled_estimator is not None:
            # a copy: the learner's draws are the same with and without a pooled model
            pooled, columns = self._fit_pooled(
                rows, classes, copy.deepcopy(run.random_state)
            )
            rows = rows.with_columns(columns)
        self._learn_prepared(
            rows,
            pooled=pooled,
            classes=classes,
            resume=resume,
            run=run,
            windows=windows,
        )
        self._warn_of_large_table(rows)

    @abstractmethod
    def _fit_pooled(
        self, rows: TaskRows, classes: Any, random_state: Any
    ) -> tuple[PooledModel, np.ndarray]:
        """Return the pooled model and its out-of-fold columns."""

    def _learn_prepared(
        self,
        rows: TaskRows,
        validation: TaskRows | None = None,
        *,
        pooled: PooledModel | None,
        classes: Any = None,
        resume: bool = False,
        run: Run | None = None,
        windows: TaskWindows | None = None,
    ) -> None:
        """Build the learner (or go on with it), run the outer loop, keep the result.

        Parameters
        ----------
        rows : TaskRows
            Checked rows, with the columns of ``pooled`` last, each from a model that
            did not see the row's task.
        validation : TaskRows or None, default=None
            Tasks, prepared alike, that decide when to stop; None holds some of the
            others out, as the parameters say.
        pooled : PooledModel or None
            Gives the same columns of new rows.
        classes : array-like of shape (n_classes,), default=None
            All labels there will be; by default those of the rows.
        resume : bool, default=False
            Whether to go on from what was learned before.
        run : Run or None, default=None
            Device, processes, checkpoint and randomness; None opens those of the
            parameters.
        windows : TaskWindows or None, default=None
            The tasks of a collection larger than memory; ``rows`` are its first window.
        """
        if run is None:
            run = open_run(self, rows, validation, resume, classes)
        seed, device = run.draw_seed(), run.device
        self.pooled_ = pooled
        with seeded(seed, device), one_thread(device):
            if not resume:
                self._start(rows, classes)
            learner = copy.deepcopy(self.learner_).to(device, torch.float32)
            if windows is not None and len(windows.held_out):
                validation = self._window_rows(windows.held_out)
            held_out = self._hold_out(rows, validation, run.random_state)
            sampler, validation_sampler = self._samplers(held_out, device)
            record = self._outer_loop().run(
                learner,
                sampler,
                self._validation(validation_sampler, seed),
                torch.Generator().manual_seed(seed),
                self.optimizer_state_ if resume else None,
                run.checkpoint,
                run.processes,
                None
                if windows is None
                else partial(self._window_sampler, windows, device),
            )
        self.n_tasks_ = len(rows.sizes) if windows is None else windows.n_tasks
        self._keep_trained(learner, device, record)
        self._forget_adaptation()
        if rows.names is None:
            self._adapt_to(rows)
        run.finish(record, self.max_iter)

    def _keep_trained(
        self, learner: Learner, device: torch.device, record: TrainingRecord
    ) -> None:
        """Set what the outer loop has learned, and how it went."""
        # adapting and predicting are exact to the last digits in float64
        self.learner_ = learner.to(torch.float64).eval()
        self.device_ = device
        self.n_iter_ = len(record.loss_curve)
        self.loss_curve_ = record.loss_curve
        self.validation_scores_ = record.validation_scores
        self.history_ = record.history
        self.optimizer_state_ = record.optimizer_state

    def _window_rows(self, tasks: TaskCollection) -> TaskRows:
        """Return the prepared rows of some tasks of a larger collection."""
        rows = self._check_rows(tasks, None, None, reset=False, min_rows=2)
        if self.pooled_ is None:
            return rows
        return rows.with_columns(self.pooled_.out_of_fold_columns(rows))

    def _window_sampler(
        self, windows: TaskWindows, device: torch.device, number: int
    ) -> EpisodeSampler:
        """Return the sampler of a window by its number."""
        return self._sampler(self._window_rows(windows.window(number)), device)

    def _start(self, rows: TaskRows, classes: Any) -> None:
        """Learn the scales of the rows and build an untrained learner."""
        n_features = rows.X.shape[1]
        # a caller with prepared rows has not checked a table of its own
        self.n_features_in_ = self._n_raw_features(n_features)
        scaled = rows.X[:, : n_features - self._n_offsets()]
        self.scaler_ = fit_scaler(scaled) if self.standardize else None
        self._learn_labels(rows, classes)
        self._learn_targets(rows)
        # kept, since adapting may change the number of classes: `load_model` needs it
        self.learner_shape_ = (n_features, self._n_outputs())
        self.learner_ = self._build_learner(*self.learner_shape_)

    def _learn_labels(self, rows: TaskRows, classes: Any) -> None:
        """Learn what labels mean; numbers need nothing of the kind."""

    def _n_offsets(self) -> int:
        """Return how many of the last columns are logits that the learner adds to."""
        return 0

    def _outer_loop(self) -> OuterLoop:
        """Return the outer loop with this estimator's settings."""
        check_callbacks(self.callbacks)
        return OuterLoop(
            criterion=self._criterion(),
            max_iter=self.max_iter,
            meta_batch_size=self.meta_batch_size,
            lr=self.lr,
            lr_schedule=self.lr_schedule,
            optimizer=self.optimizer,
            optimizer_params=self.optimizer_params or {},
            max_grad_norm=self.max_grad_norm,
            n_iter_no_change=self.n_iter_no_change,
            callbacks=self.callbacks or [],
            verbose=self.verbose,
            compile=self.compile,
        )

    # ------------------------------------------------------------ adapt and predict

    def _adapt_to(self, rows: TaskRows) -> None:
        """Set the state for the tasks of these rows."""
        rows = self._usable_support(rows)
        targets, attributes = self._encode_support(rows)
        with one_thread(self.device_):
            adapted = adapt_in_chunks(
                self.learner_, self._scale(rows.X), targets, rows.sizes, self.device_
            )
        self._keep_adapted(adapted, attributes, rows)

    def _usable_support(self, rows: TaskRows) -> TaskRows:
        """Return as many rows of each task as can be used."""
        for limit in self._support_limits():
            rows = thin_out(rows, limit.most, evenly=self._has_local_labels())
        return rows

    def _keep_adapted(
        self, adapted: AdaptedTasks, attributes: dict, rows: TaskRows
    ) -> None:
        """Set what was learned of the tasks of these rows."""
        _warn_of_divergence(adapted, rows)
        self.__dict__.update(attributes)
        self.adapted_ = adapted
        self.task_names_ = rows.names

    def _query(self, X: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the learner's prediction of each row, arrays (n_rows, ...)."""
        with one_thread(self.device_):
            return self.adapted_.query(
                self.learner_, self._scale(X), codes, self.device_
            )

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there is a trained learner."""
        return hasattr(self, "learner_")


def _warn_of_divergence(adapted: AdaptedTasks, rows: TaskRows) -> None:
    """Warn where an inner loop made the support loss worse."""
    flags = [state["diverged"] for state in adapted.states if "diverged" in state]
    if not any(any(flag.tolist()) for flag in flags):
        return
    first_slot = np.cumsum([0] + [len(flag) for flag in flags])
    diverged = np.concatenate([flag.cpu().numpy() for flag in flags])
    bad = np.flatnonzero(diverged[first_slot[adapted.chunk] + adapted.slot])
    if len(bad):
        warn_user(
            f"The inner loop diverged on {len(bad)} of {len(rows.sizes)} tasks, first "
            f"on {rows.name_of(bad[0])}; they keep the step with the least support "
            "loss. Lower inner_lr or adapt_steps.",
            DivergenceWarning,
        )
