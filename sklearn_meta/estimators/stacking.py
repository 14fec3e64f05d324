"""What mixtures of meta-estimators do whatever they predict."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from inspect import signature
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import _BaseComposition

from sklearn_meta.averaging import drop_negligible
from sklearn_meta.base import BaseTaskEstimator, SupportLimit
from sklearn_meta.base._parameters import COMMON_CONSTRAINTS
from sklearn_meta.base._run import is_one_of_many
from sklearn_meta.base._state import unchanged_on_error
from sklearn_meta.estimators.kernel_teams import adapt_members
from sklearn_meta.estimators.mixture_members import check_members
from sklearn_meta.estimators.presets import PRESETS
from sklearn_meta.estimators.stack_checkpoint import StackCheckpoint
from sklearn_meta.estimators.stacked_members import (
    AdaptedMixture,
    SharedColumns,
    fit_members,
    judge,
)
from sklearn_meta.exceptions import FewTasksWarning, warn_user
from sklearn_meta.held_out import Fold, shot_grid
from sklearn_meta.mixing import interpolate_weights
from sklearn_meta.pooling import with_seed
from sklearn_meta.tasks import TaskRows

__all__ = ["BaseMetaStacking"]


class BaseMetaStacking(_BaseComposition, BaseTaskEstimator):
    """Fit members on folds, weigh them by held-out episodes, mix what they predict."""

    _parameter_constraints: dict = {
        "estimators": [list, None],
        "preset": [StrOptions(set(PRESETS))],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "n_shots": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "order": [StrOptions({"random", "first"})],
        "n_queries": [Interval(Integral, 1, None, closed="left")],
        "checkpoint": COMMON_CONSTRAINTS["checkpoint"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # ------------------------------------------------------------ to be filled in

    @abstractmethod
    def _default_members(self) -> list[tuple[str, Any]]:
        """Return the members where the user gave none."""

    @abstractmethod
    def _folds(
        self, rows: TaskRows, grid: list[int], rng: np.random.RandomState
    ) -> list[Fold]:
        """Return the folds; none where there is too little to hold out."""

    @abstractmethod
    def _averages_folds(self, rows: TaskRows) -> bool:
        """Return whether models of folds are kept; else members are fitted on all."""

    @abstractmethod
    def _weigh(self, said: list[np.ndarray], weight: list[np.ndarray]) -> np.ndarray:
        """Return the weights at each number of shots, (n_grid, n_members).

        They follow from the log-likelihoods (n_members, n_rows) of held-out rows, which
        count by their weights (n_rows,).
        """

    def _usable_rows(self, rows: TaskRows) -> TaskRows:
        """Learn what targets mean; return the rows that can be learned from."""
        return rows

    def _check_learnable(self, members: list[tuple[str, Any]], rows: TaskRows) -> None:
        """Raise if members, or folds, do not suit the rows."""
        if self._averages_folds(rows):
            self._check_n_folds(len(rows.sizes))

    # ------------------------------------------------------------ parameters

    def get_params(self, deep: bool = True) -> dict:
        """Return the parameters, with those of the members as ``name__parameter``.

        Parameters
        ----------
        deep : bool, default=True
            Whether the members and their parameters are included.

        Returns
        -------
        params : dict
            Values by name.
        """
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a member is replaced by its name, or left out as "drop".

        Parameters
        ----------
        **params : dict
            Values by name.

        Returns
        -------
        self : object
            The estimator.
        """
        return self._set_params("estimators", **params)

    # ------------------------------------------------------------ fit

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, tasks: Any = None) -> Self:
        """Fit the members on folds, and weigh them by what was held out.

        Parameters
        ----------
        X : TaskCollection, sequence of (X, y), or array-like of shape \
(n_samples, n_features)
            Tasks, or flat rows.
        y : array-like of shape (n_samples,), default=None
            Targets of flat rows; None where X is a sequence of tasks.
        tasks : array-like of shape (n_samples,), default=None
            The id of each flat row's task, any hashable. Without it, X is one table,
            and the fitted mixture is adapted to all of its rows.

        Returns
        -------
        self : object
            Fitted on tasks it predicts after ``adapt``; fitted on one table, at once.

        Raises
        ------
        TypeError
            If a member is no meta-estimator of this package for targets of this kind.
        ValueError
            If the input is not what was expected, or a member cannot learn from it; the
            message names the task or the member. The estimator is then as it was.
        """
        with unchanged_on_error(self):
            given = self.estimators
            named = None if given is None else check_members(self, given)
            rows = self._check_rows(X, y, tasks, reset=True, min_rows=2)
            self._warn_of_few_tasks(rows)
            usable = self._usable_rows(rows)
            if named is None:
                named = self._default_members()
            self._check_learnable(named, usable)
            checkpoint, seed = None, self.random_state
            if self.checkpoint is not None:
                checkpoint = StackCheckpoint(self.checkpoint, self, named, usable)
                seed = checkpoint.seed if seed is None else seed
            learned = self._fit_mixture(
                usable, named, check_random_state(seed), checkpoint
            )
            if rows.names is None:
                # a class of a single row is adapted to, though not learned from
                self._adapt_to(learned if usable is rows else rows)
                self._warn_of_large_table(rows)
            if checkpoint is not None:
                checkpoint.finish(self.estimators_)
        return self

    def _fit_mixture(
        self,
        rows: TaskRows,
        named: list[tuple[str, Any]],
        rng: np.random.RandomState,
        checkpoint: StackCheckpoint | None,
    ) -> TaskRows:
        """Set the fitted members and their weights; return the rows they read."""
        seeds = rng.randint(np.iinfo(np.int32).max, size=len(named)).tolist()
        self.names_ = [name for name, _ in named]
        unseeded = [member for _, member in named]
        # members that are alike but for their seed are two, and not one twice
        members = [
            self._own(with_seed(member, seed))
            for member, seed in zip(unseeded, seeds, strict=True)
        ]
        for member in members:
            if self.verbose > 1 and "verbose" in member.get_params(deep=False):
                member.set_params(verbose=self.verbose - 1)
        if checkpoint is not None:
            checkpoint.give_to(members)
        classes = self._shared_classes()
        self.shared_, rows = SharedColumns.fit(unseeded, rows, classes, rng)
        folds = self._folds(rows, self._shot_grid(), rng)
        n_folds = len(folds)
        whole = [] if n_folds and self._averages_folds(rows) else [Fold(rows, None, [])]
        by_name = fit_members(
            members,
            self.shared_,
            folds + whole,
            names=self.names_,
            classes=classes,
            n_jobs=self._n_processes(),
            verbose=self.verbose,
        )
        self._drop_unfitted(list(by_name), checkpoint)
        fitted = list(by_name.values())
        self._judge_members([models[:n_folds] for models in fitted], rows, folds)
        self.estimators_ = [models[n_folds:] or models for models in fitted]
        self.n_tasks_ = len(rows.sizes)
        self._forget_adaptation()
        return rows

    def _drop_unfitted(
        self, done: list[str], checkpoint: StackCheckpoint | None
    ) -> None:
        """Forget members that an interruption left unfitted, and say so."""
        if len(done) == len(self.names_):
            return
        if is_one_of_many():
            raise KeyboardInterrupt
        message = (
            f"The fit was interrupted; the mixture is of the members that were done, "
            f"{len(done)} of {len(self.names_)}: {', '.join(map(repr, done))}."
        )
        if checkpoint is not None:
            message += f" {checkpoint.leave()}"
        warn_user(message, UserWarning)
        self.shared_ = self.shared_.keep([self.names_.index(name) for name in done])
        self.names_ = done

    def _check_n_folds(self, n_tasks: int) -> None:
        """Raise if more folds than tasks are asked for; the default gives way."""
        default = signature(type(self)).parameters["n_folds"].default
        if self.n_folds > n_tasks and self.n_folds != default:
            raise ValueError(
                f"Expected at most as many folds as tasks, got n_folds={self.n_folds} "
                f"and {n_tasks} tasks. Lower n_folds or bring more tasks."
            )

    def _own(self, member: Any) -> Any:
        """Return a member with what the mixture decides for it."""
        return member

    def _shared_classes(self) -> np.ndarray | None:
        """Return the labels where they mean the same in every task."""
        return None

    def _n_processes(self) -> int | None:
        """Return how many processes fit the members."""
        return self.n_jobs

    def _shot_grid(self) -> list[int]:
        """Return the numbers of shots at which members are weighed."""
        return shot_grid(*self._shot_range())

    def _judge_members(
        self, fitted: list[list], rows: TaskRows, folds: list[Fold]
    ) -> None:
        """Set the weights of the members, and the scores that they come from."""
        if not folds:
            warnings.warn(
                "There is too little to hold out, so the members weigh alike. Expect "
                "more of a single estimator, or bring more tasks (or classes).",
                FewTasksWarning,
                stacklevel=2,
            )
            self.shots_ = np.array([1])
            self.held_out_scores_ = None
            self.weights_ = np.full((1, len(fitted)), 1 / len(fitted))
            return
        self.shots_ = np.array([e.n_shots for e in folds[0].episodes])
        grid, members = range(len(self.shots_)), range(len(fitted))
        said = [
            np.stack([self._said_by(m, fitted[m], rows, folds, k) for m in members])
            for k in grid
        ]
        weight = [
            np.concatenate([fold.episodes[k].weight for fold in folds]) / len(folds)
            for k in grid
        ]
        self.held_out_scores_ = np.stack(
            [part @ share for part, share in zip(said, weight, strict=True)]
        )
        self.weights_ = self._weigh(said, weight)

    def _said_by(
        self, member: int, models: list, rows: TaskRows, folds: list[Fold], k: int
    ) -> np.ndarray:
        """Return the log-likelihood of held-out rows under the models of a member."""
        pairs = zip(models, folds, strict=True)
        return np.concatenate(
            [
                judge(model, self.shared_, member, rows, fold.episodes[k])
                for model, fold in pairs
            ]
        )

    # ------------------------------------------------------------ adapt and predict

    def _prepare(self, X: np.ndarray) -> np.ndarray:
        """Return new rows (n_rows, n_columns) with what all pooled models predict."""
        return self.shared_.widen(X)

    def _adapt_to(self, rows: TaskRows) -> None:
        """Adapt the models that matter to the tasks of these rows."""
        weights = interpolate_weights(
            self.shots_, self.weights_, self._shots_of_tasks(rows)
        )

        def adapt(models: list, member: list[int]) -> list:
            views = self._views(rows.X, member)
            return adapt_members(models, [rows._replace(X=X) for X in views])

        self.adapted_ = self._mix(drop_negligible(weights), adapt)
        self.task_names_ = rows.names

    def _mix(
        self, weights: np.ndarray, adapt: Callable[[list, list[int]], list]
    ) -> AdaptedMixture:
        """Mix what ``adapt(models, member)`` makes of the models that matter.

        A member matters if it has a weight (n_tasks, n_members) in some task.
        """
        matter = np.flatnonzero(weights.max(0)).tolist()
        models = [model for m in matter for model in self.estimators_[m]]
        member = [m for m in matter for _ in self.estimators_[m]]
        count = np.bincount(member, minlength=weights.shape[1])[member]
        return AdaptedMixture(
            adapt(models, member), np.array(member), weights[:, member] / count
        )

    def _support_limits(self) -> list[SupportLimit]:
        """Return the limits of the members that matter to the adapted tasks."""
        return [
            limit._replace(method=f"member {self.names_[m]!r}")
            for m in np.unique(self.adapted_.member)
            for limit in self.estimators_[m][0]._support_limits()
        ]

    def _views(self, X: np.ndarray, member: Sequence[int]) -> list[np.ndarray]:
        """Return the columns that the model of each of these members reads.

        Rows come widened, (n_rows, n_columns).
        """
        views = {m: self.shared_.view(X, m) for m in set(member)}
        return [views[m] for m in member]

    def _shots_of_tasks(self, rows: TaskRows) -> np.ndarray:
        """Return the number of shots of each support."""
        return rows.sizes

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether the members are fitted and weighed."""
        return hasattr(self, "weights_")
