"""Mixtures of meta-estimators, weighed by what they said of held-out tasks."""

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import _BaseComposition

from sklearn_meta.averaging import drop_negligible
from sklearn_meta.base import BaseTaskEstimator
from sklearn_meta.base._parameters import COMMON_CONSTRAINTS
from sklearn_meta.base._state import unchanged_on_error
from sklearn_meta.estimators.classifier import MetaClassifierMixin, usable_classes
from sklearn_meta.estimators.kernel_teams import adapt_members, predict_members
from sklearn_meta.estimators.presets import (
    PRESETS,
    default_classifiers,
    default_regressors,
)
from sklearn_meta.estimators.regressor import TaskRegressorMixin
from sklearn_meta.estimators.stack_checkpoint import StackCheckpoint
from sklearn_meta.estimators.stacked_members import (
    AdaptedMixture,
    SharedColumns,
    fit_members,
    judge,
)
from sklearn_meta.exceptions import FewTasksWarning, warn_user
from sklearn_meta.held_out import Fold, class_folds, row_folds, shot_grid, task_folds
from sklearn_meta.mixing import (
    gate_weights,
    interpolate_weights,
    mixture_log_density,
    mixture_moments,
    mixture_quantiles,
    pool_weights_on_grid,
    score_weights,
)
from sklearn_meta.pooling import with_seed
from sklearn_meta.targets import LocalClasses
from sklearn_meta.tasks import TaskRows

__all__ = ["MetaStackingClassifier", "MetaStackingRegressor"]


class _MetaStacking(_BaseComposition, BaseTaskEstimator):
    """Fit members on folds, weigh them by held-out episodes, mix what they predict."""

    _parameter_constraints: dict = {
        "estimators": [list, None],
        "preset": [StrOptions(set(PRESETS))],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "n_shots": [Interval(Integral, 1, None, closed="left"), tuple, list],
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
        """Set parameters; a member is replaced by its name.

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
            If a member is no meta-estimator of this package.
        ValueError
            If the input is not what was expected; the message names the task. The
            estimator is then as it was before.
        """
        with unchanged_on_error(self):
            rows = self._check_rows(X, y, tasks, reset=True, min_rows=2)
            usable = self._usable_rows(rows)
            named = self._named_members()
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
        seed = int(rng.randint(np.iinfo(np.int32).max))
        self.names_ = [name for name, _ in named]
        members = [self._own(with_seed(member, seed)) for _, member in named]
        for member in members:
            if self.verbose > 1 and "verbose" in member.get_params(deep=False):
                member.set_params(verbose=self.verbose - 1)
        if checkpoint is not None:
            checkpoint.give_to(members)
        classes = self._shared_classes()
        self.shared_, rows = SharedColumns.fit(members, rows, classes, rng)
        folds = self._folds(rows, self._shot_grid(), rng)
        n_folds = len(folds)
        whole = [] if n_folds and self._averages_folds(rows) else [Fold(rows, None, [])]
        by_name = fit_members(
            members,
            self.shared_,
            folds + whole,
            names=self.names_,
            classes=classes,
            n_jobs=self.n_jobs,
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
        message = (
            f"The fit was interrupted; the mixture is of the members that were done, "
            f"{len(done)} of {len(self.names_)}: {', '.join(map(repr, done))}."
        )
        if checkpoint is not None:
            message += f" {checkpoint.leave()}"
        warn_user(message, UserWarning)
        self.shared_ = self.shared_.keep([self.names_.index(name) for name in done])
        self.names_ = done

    def _named_members(self) -> list[tuple[str, Any]]:
        """Return the checked members, the user's own or those of the preset."""
        members = self.estimators
        if members is None:
            members = self._default_members()
        if not members:
            raise ValueError("Expected at least one (name, estimator), got none.")
        self._validate_names([name for name, _ in members])
        for name, estimator in members:
            whole = isinstance(estimator, _MetaStacking)
            if whole or not isinstance(estimator, BaseTaskEstimator):
                raise TypeError(
                    f"Expected meta-estimators of sklearn_meta as members, got {name!r}"
                    f", a {type(estimator).__name__}. PooledRegressor and "
                    "PooledClassifier make one of any estimator of scikit-learn; the "
                    "members of another mixture can be listed themselves."
                )
        return members

    def _own(self, member: Any) -> Any:
        """Return a member with what the mixture decides for it."""
        return member

    def _shared_classes(self) -> np.ndarray | None:
        """Return the labels where they mean the same in every task."""
        return None

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
        """Return new rows with the predictions of all pooled models."""
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
        """Mix what ``adapt(models, member)`` makes of the models that matter."""
        matter = np.flatnonzero(weights.max(0)).tolist()
        models = [model for m in matter for model in self.estimators_[m]]
        member = [m for m in matter for _ in self.estimators_[m]]
        count = np.bincount(member, minlength=weights.shape[1])[member]
        return AdaptedMixture(
            adapt(models, member), np.array(member), weights[:, member] / count
        )

    def _views(self, X: np.ndarray, member: Sequence[int]) -> list[np.ndarray]:
        """Return the columns that the model of each of these members reads."""
        views = {m: self.shared_.view(X, m) for m in set(member)}
        return [views[m] for m in member]

    def _shots_of_tasks(self, rows: TaskRows) -> np.ndarray:
        """Return the number of shots of each support."""
        return rows.sizes

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether the members are fitted and weighed."""
        return hasattr(self, "weights_")


class MetaStackingRegressor(TaskRegressorMixin, _MetaStacking):
    r"""Mixture of meta-regressors, weighed by what they say of tasks held out.

    The estimator to start with: which way of learning across tasks fits a collection,
    and with how many rows, is found by trying several on tasks that they have not seen.
    Each member is fitted on folds of tasks; its weight follows from the likelihood of
    the tasks left out, for each number of shots apart; the models of all folds are
    averaged [1]_ [2]_.

    Parameters
    ----------
    estimators : list of (str, estimator), default=None
        Names and meta-regressors of this package, fitted as they are. None takes those
        of ``preset``.
    preset : {"fast", "default", "thorough"}, default="default"
        The members where ``estimators`` is None: see Notes.
    n_folds : int, default=3
        Folds of tasks, at least 2; not more than there are tasks.
    n_shots : int or (int, int), default=(1, 10)
        Support rows in an episode, per task. The members of a preset learn from this
        range, both ends included, and all members are weighed at up to four numbers
        in it. In between weights are interpolated in the logarithm of the shots.
    n_queries : int, default=16
        Most query rows of an episode in which members are weighed, at least 1.
    checkpoint : str, path-like or Checkpoint, default=None
        A directory in which members that train keep what they have learned: a fit that
        was killed and is started again trains only what is left, and ends with the same
        weights as one that was not stopped. Members use it in place of their own.
    n_jobs : int, default=None
        Processes for fitting; None is one, -1 all.
    random_state : int, RandomState instance or None, default=None
        Draws folds and episodes, and seeds each ``random_state`` of a member that is
        None.
    verbose : int, default=0
        1 shows which member is fitted on which fold and the time left, 2 also the outer
        steps of each.

    Attributes
    ----------
    names_ : list of str
        The members.
    estimators_ : list of list of estimator
        Their models: one per fold; of one table, one.
    shots_ : ndarray of shape (n_grid,)
        The numbers of shots at which members were weighed.
    weights_ : ndarray of shape (n_grid, n_members)
        The weights there; rows sum to 1.
    held_out_scores_ : ndarray of shape (n_grid, n_members) or None
        Mean log-likelihood of held-out rows, in nats per row, in the unit of the
        target; None where nothing could be held out.
    n_tasks_ : int
        Tasks seen by ``fit``; 1 for one table.
    n_features_in_ : int
        Number of features seen by ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if they are all strings.

    Raises
    ------
    TypeError
        In ``fit``, if a member is no meta-estimator of this package.
    ValueError
        In ``fit``, if a parameter or the data is not what was expected.

    See Also
    --------
    MetaStackingClassifier : The same for classes.
    DeepKernelRegressor : The member that carries most weight on many tables.

    Notes
    -----
    With the mean log-likelihood :math:`s_m` of held-out rows under member :math:`m`,
    and the standard deviation :math:`\sigma_{mf}(x)` that its model of fold :math:`f`
    states at a row, the prediction for a new task is the mixture

    .. math::

        p(y \mid x) = \sum_{m, f} v_{mf}(x) \, p_{mf}(y \mid x), \qquad
        v_{mf}(x) \propto \frac{w_m}{\sigma_{mf}^2(x)}, \qquad
        w_m = \frac{e^{30 s_m}}{\sum_j e^{30 s_j}}.

    ``return_std`` is its standard deviation; quantiles and ``log_density`` are those of
    the mixture itself. Unlike the weights of [2]_, which maximise the likelihood of the
    mixture, :math:`w_m` looks at each member alone: on small tables the former feed
    members whose wide tails cover outliers. The mean, of which each model has a say by
    its precision, is that of the generalized product of experts [3]_.

    Members that start from one and the same ``pooled_estimator`` (None aside) share
    it: it is fitted once, and what they learn from is its out-of-fold prediction.

    .. list-table:: Members of the presets
       :header-rows: 1

       * - preset
         - members
       * - "fast"
         - PooledRegressor with a shift; DeepKernelRegressor, shallow and deep
       * - "default"
         - also DeepKernelRegressor with dropped features and no learned mean, from
           random weights, and without a pooled model
       * - "thorough"
         - also the transformer of ModelBasedMetaRegressor

    Of one table, without tasks, rows are held out, and members are then fitted on all.

    References
    ----------
    .. [1] D. H. Wolpert, "Stacked generalization", Neural Networks, 1992.
    .. [2] Y. Yao, A. Vehtari, D. Simpson, A. Gelman, "Using stacking to average
       Bayesian predictive distributions", Bayesian Analysis, 2018.
    .. [3] Y. Cao, D. J. Fleet, "Generalized Product of Experts for Automatic and
       Principled Fusion of Gaussian Process Predictions", arXiv:1410.7827, 2014.

    Examples
    --------
    >>> from sklearn_meta import DeepKernelRegressor, MetaStackingRegressor
    >>> from sklearn_meta import PooledRegressor
    >>> from sklearn_meta.datasets import make_sinusoid_tasks
    >>> tasks = make_sinusoid_tasks(n_tasks=12, n_samples=20, random_state=0)
    >>> members = [
    ...     ("pooled", PooledRegressor(correction="shift")),
    ...     ("kernel", DeepKernelRegressor(hidden_layer_sizes=())),
    ... ]
    >>> model = MetaStackingRegressor(members, random_state=0).fit(tasks[:11])
    >>> model.weights_.shape
    (4, 2)
    >>> X, y = tasks[11]
    >>> model.adapt(X[:5], y[:5]).predict(X[5:]).shape
    (15,)
    """

    def __init__(
        self,
        estimators=None,
        *,
        preset="default",
        n_folds=3,
        n_shots=(1, 10),
        n_queries=16,
        checkpoint=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimators = estimators
        self.preset = preset
        self.n_folds = n_folds
        self.n_shots = n_shots
        self.n_queries = n_queries
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _default_members(self) -> list[tuple[str, Any]]:
        return default_regressors(self.preset, self._shot_range())

    def _folds(
        self, rows: TaskRows, grid: list[int], rng: np.random.RandomState
    ) -> list[Fold]:
        """Hold out tasks; of one table, rows."""
        if len(rows.sizes) == 1:
            return row_folds(rows, self.n_folds, False, rng)
        return task_folds(rows, self.n_folds, grid, self.n_queries, rng)

    def _averages_folds(self, rows: TaskRows) -> bool:
        return len(rows.sizes) > 1

    def _weigh(self, said: list[np.ndarray], weight: list[np.ndarray]) -> np.ndarray:
        return score_weights(self.held_out_scores_)

    def _without_support(self) -> Self:
        """Return a copy that knows of its task only what all tasks have in common."""
        new = copy.copy(self)
        new.adapted_ = self._mix(
            drop_negligible(self.weights_[:1]),
            lambda models, _: [model._without_support() for model in models],
        )
        new.task_names_ = None
        return new

    def _gaussians(
        self, X: np.ndarray, codes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return means, standard deviations and weights, (n_models, n_rows)."""
        models, member, weights = self.adapted_
        views = self._views(X, member.tolist())
        means, stds = predict_members(models, views, codes)
        return means, stds, gate_weights(weights[codes].T, stds)

    def _mean_and_std(
        self, X: np.ndarray, codes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the moments of the mixture."""
        return mixture_moments(*self._gaussians(X, codes))

    def _log_likelihood(
        self, X: np.ndarray, y: np.ndarray, codes: np.ndarray
    ) -> np.ndarray:
        """Return the log-density of the mixture itself."""
        return mixture_log_density(*self._gaussians(X, codes), y)

    def _quantiles(
        self, X: np.ndarray, codes: np.ndarray, levels: np.ndarray
    ) -> np.ndarray:
        """Return the quantiles of the mixture itself."""
        return mixture_quantiles(*self._gaussians(X, codes), levels)


class MetaStackingClassifier(MetaClassifierMixin, _MetaStacking):
    r"""Mixture of meta-classifiers, weighed by what they say of tasks held out.

    The estimator to start with: which way of learning across tasks fits a collection,
    and with how many rows, is found by trying several on tasks (on classes, where these
    are local to their task) that they have not seen [1]_ [2]_.

    Parameters
    ----------
    estimators : list of (str, estimator), default=None
        Names and meta-classifiers of this package. None takes those of ``preset``.
    preset : {"fast", "default", "thorough"}, default="default"
        The members where ``estimators`` is None: see Notes.
    label_mode : {"auto", "shared", "task"}, default="auto"
        "shared": a label means the same in every task. "task": labels are local to
        their task, so that new tasks may bring new classes. "auto": one table (or a
        single task) is learned from class by class ("task"); the labels of several
        tasks are shared if some task has all of them. ``label_mode_`` tells. Members
        get what was found.
    n_folds : int, default=4
        Folds of tasks, at least 2, where labels are shared; not more than there are
        tasks. There are 4 folds of classes where they are local.
    n_ways : int, default=5
        Most classes of an episode in which members are weighed, at least 2, where
        labels are local to the task.
    n_shots : int or (int, int), default=(1, 10)
        Support rows in an episode, per class. With shared labels rows are drawn without
        regard to class: up to that many per class on average, and for a range as few
        rows as its lower end. Members are weighed at up to four numbers in the range.
    n_queries : int, default=16
        Most query rows of an episode in which members are weighed, at least 1; per
        class if labels are local.
    checkpoint : str, path-like or Checkpoint, default=None
        A directory in which members that train keep what they have learned: a fit that
        was killed and is started again trains only what is left, and ends with the same
        weights as one that was not stopped. Members use it in place of their own.
    n_jobs : int, default=None
        Processes for fitting; None is one, -1 all.
    random_state : int, RandomState instance or None, default=None
        Draws folds and episodes, and seeds each ``random_state`` of a member that is
        None.
    verbose : int, default=0
        1 shows which member is fitted on which fold and the time left, 2 also the outer
        steps of each.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels: those of ``fit`` if they are shared, else those of the support.
    label_mode_ : {"shared", "task"}
        What labels mean.
    task_classes_ : dict
        After ``adapt``: the classes of each task, by its id.
    names_ : list of str
        The members.
    estimators_ : list of list of estimator
        Their models: one per fold of tasks; one, fitted on all, for local labels.
    shots_ : ndarray of shape (n_grid,)
        The numbers of shots at which members were weighed: rows of a task if labels are
        shared, rows of a class if they are local.
    weights_ : ndarray of shape (n_grid, n_members)
        The weights there; rows sum to 1.
    held_out_scores_ : ndarray of shape (n_grid, n_members) or None
        Mean log-likelihood of held-out rows, in nats per row; None where nothing could
        be held out.
    n_tasks_ : int
        Tasks seen by ``fit``; 1 for one table.
    n_features_in_ : int
        Number of features seen by ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if they are all strings.

    Raises
    ------
    TypeError
        In ``fit``, if a member is no meta-estimator of this package.
    ValueError
        In ``fit``, if a parameter or the data is not what was expected.

    See Also
    --------
    MetaStackingRegressor : The same for a numeric target.

    Notes
    -----
    The prediction is the linear pool :math:`\sum_m w_m p_m(c \mid x)`. Its weights
    maximise

    .. math::

        \frac{1}{n} \sum_i \log \sum_m w_m p_m(y_i \mid x_i)
        + \frac{0.01}{M} \sum_m \log w_m

    over held-out rows, which pulls them a little towards each other, at each number of
    shots; rows at the neighbouring numbers count too, with 0.3 of their weight.

    Shared labels: members are fitted on folds of tasks, and the models of all folds are
    averaged. Local labels: classes are held out to weigh the members, which are then
    fitted on all classes, as each class tells more about how classes differ. With fewer
    than 4 classes rows are held out, or nothing, with a FewTasksWarning.

    .. list-table:: Members of the presets
       :header-rows: 1

       * - preset
         - shared labels
         - local labels
       * - "fast"
         - PooledClassifier with a shift, and with the level as a feature;
           DeepKernelClassifier
         - ProtoNetClassifier
       * - "default"
         - also DeepKernelClassifier with the correction of a transformer
         - also DeepKernelClassifier
       * - "thorough"
         - also the transformer of ModelBasedMetaClassifier
         - also MAMLClassifier

    References
    ----------
    .. [1] D. H. Wolpert, "Stacked generalization", Neural Networks, 1992.
    .. [2] R. Ranjan, T. Gneiting, "Combining probability forecasts", Journal of the
       Royal Statistical Society B, 2010.

    Examples
    --------
    >>> from sklearn_meta import MetaStackingClassifier, PooledClassifier
    >>> from sklearn_meta import ProtoNetClassifier
    >>> from sklearn_meta.datasets import make_blob_tasks
    >>> tasks = make_blob_tasks(12, 30, n_classes=2, random_state=0)
    >>> members = [
    ...     ("pooled", PooledClassifier(correction="shift")),
    ...     ("prototypes", ProtoNetClassifier(max_iter=20)),
    ... ]
    >>> model = MetaStackingClassifier(members, random_state=0).fit(tasks[:11])
    >>> X, y = tasks[11]
    >>> model.adapt(X[:10], y[:10]).predict(X[10:]).shape
    (20,)
    """

    _parameter_constraints: dict = {
        **_MetaStacking._parameter_constraints,
        "label_mode": [StrOptions({"auto", "shared", "task"})],
        "n_ways": [Interval(Integral, 2, None, closed="left")],
    }

    def __init__(
        self,
        estimators=None,
        *,
        preset="default",
        label_mode="auto",
        n_folds=4,
        n_ways=5,
        n_shots=(1, 10),
        n_queries=16,
        checkpoint=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimators = estimators
        self.preset = preset
        self.label_mode = label_mode
        self.n_folds = n_folds
        self.n_ways = n_ways
        self.n_shots = n_shots
        self.n_queries = n_queries
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _default_members(self) -> list[tuple[str, Any]]:
        return default_classifiers(self.preset, self.label_mode_, self._shot_range())

    def _own(self, member: Any) -> Any:
        """Give the meaning of labels to members that can be told."""
        known = "label_mode" in member.get_params(deep=False)
        return member.set_params(label_mode=self.label_mode_) if known else member

    def _usable_rows(self, rows: TaskRows) -> TaskRows:
        """Learn what labels mean; classes of a single row teach nothing if local."""
        self._learn_labels(rows, None)
        return usable_classes(rows)[0] if self.label_mode_ == "task" else rows

    def _shared_classes(self) -> np.ndarray | None:
        return self.classes_ if self.label_mode_ == "shared" else None

    def _shot_grid(self) -> list[int]:
        """Return shots per class if labels are local, else rows of a task."""
        if self.label_mode_ == "task":
            return super()._shot_grid()
        return shot_grid(*self._support_range())

    def _folds(
        self, rows: TaskRows, grid: list[int], rng: np.random.RandomState
    ) -> list[Fold]:
        """Hold out tasks; if labels are local, classes; of a small table, rows."""
        if self.label_mode_ == "task":
            folds = class_folds(rows, grid, self.n_ways, self.n_queries, rng)
            if folds:
                return folds
        if len(rows.sizes) == 1:
            return row_folds(rows, self.n_folds, True, rng)
        return task_folds(rows, self.n_folds, grid, self.n_queries, rng)

    def _averages_folds(self, rows: TaskRows) -> bool:
        return self.label_mode_ == "shared" and len(rows.sizes) > 1

    def _weigh(self, said: list[np.ndarray], weight: list[np.ndarray]) -> np.ndarray:
        return pool_weights_on_grid([np.exp(rows) for rows in said], weight)

    def _shots_of_tasks(self, rows: TaskRows) -> np.ndarray:
        """Return the rows of each support; per class if labels are local."""
        if self.label_mode_ == "shared":
            return rows.sizes
        return rows.sizes / LocalClasses.of(rows.y, rows.codes).per_task

    def _adapt_to(self, rows: TaskRows) -> None:
        """Adapt the members; local labels become those of the support."""
        super()._adapt_to(rows)
        if self.label_mode_ == "task":
            adapted = self.adapted_.models[0]
            self.classes_, self.task_columns_ = adapted.classes_, adapted.task_columns_

    def _class_proba(self, X: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the mixture of the members' probabilities."""
        models, member, weights = self.adapted_
        views = self._views(X, member.tolist())
        pairs = zip(models, views, strict=True)
        said = np.stack([model._class_proba(own, codes) for model, own in pairs])
        return np.einsum("mrc,rm->rc", said, weights[codes])
