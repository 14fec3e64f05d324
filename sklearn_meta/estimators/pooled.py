"""One model of all rows, corrected by the support of a new task: what to beat."""

import copy
from abc import abstractmethod
from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import _fit_context, is_regressor
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from sklearn_meta.averaging import sum_by_group
from sklearn_meta.base import BaseTaskEstimator, PooledColumnsMixin
from sklearn_meta.base._state import unchanged_on_error
from sklearn_meta.estimators.classifier import TaskClassifierMixin
from sklearn_meta.estimators.episode_rows import draw_episodes
from sklearn_meta.estimators.level import (
    Evidence,
    LevelModel,
    automatic_estimator,
    draw_evidence,
    fit_level_model,
)
from sklearn_meta.estimators.refit import OldRows, RefittedModels, refit_models
from sklearn_meta.estimators.regressor import TaskRegressorMixin
from sklearn_meta.functional import STD_FLOOR
from sklearn_meta.pooling import (
    PooledModel,
    class_probabilities,
    fit_member,
    fit_pooled,
    predict_numbers,
)
from sklearn_meta.shifts import (
    LogitEpisodes,
    fit_random_intercept,
    fit_shift_precision,
    map_shift,
)
from sklearn_meta.targets import one_hot
from sklearn_meta.tasks import TaskRows

__all__ = ["PooledClassifier", "PooledRegressor"]

# sizes of support at which the prior of a shift of logits is tuned
N_SUPPORT_SIZES = 4


class Shifts(NamedTuple):
    """What is added to the pooled prediction in each adapted task."""

    mean: np.ndarray  # (n_tasks, n_columns)
    variance: np.ndarray  # (n_tasks, n_columns)


class _PooledEstimator(PooledColumnsMixin, BaseTaskEstimator):
    """Fit the pooled model and learn how supports correct it."""

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
        old = OldRows.of(self._raw(rows), residuals, self.intercept_)
        if rows.names is None:
            # the rows of one table are its support, and count once
            self.old_rows_ = OldRows(old.X[:0], old.y[:0])
            self._adapt_to(rows)
        self.old_rows_ = old if self.correction == "refit" else None

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
        """Return what the level model reads of prepared rows beside the level."""
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
                self.old_rows_,
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

    def _ask_level_model(
        self, X: np.ndarray, codes: np.ndarray, ask: Any
    ) -> np.ndarray:
        """Return ``ask(model, X)`` of prepared rows, by the model that reads levels."""
        evidence: Evidence = self.adapted_.at(codes)
        return ask(
            self.level_.model, self.level_.features(self._beside_level(X), evidence)
        )

    def _ask_refitted(self, X: np.ndarray, codes: np.ndarray, ask: Any) -> np.ndarray:
        """Return ``ask(model, X)`` of prepared rows, each by the model of its task."""
        refitted: RefittedModels = self.adapted_
        X = np.column_stack([X[:, : self.n_features_in_], refitted.level[codes]])
        X = self.old_rows_.cut(X)
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


class PooledRegressor(TaskRegressorMixin, _PooledEstimator):
    r"""Regressor of all rows that ignores tasks, corrected by the support of one.

    This is what practitioners do, and what meta-learning must beat: one model of the
    rows of all tasks, plus the level of the new task as far as its support tells it.

    Parameters
    ----------
    estimator : estimator or "auto", default="auto"
        The scikit-learn regressor, or Pipeline, that is fitted on all rows. "auto"
        takes a linear model, gradient boosting or their mean, whichever has the least
        squared error out of fold, with folds split by task.
    correction : {"shift", "none", "level", "refit"}, default="shift"
        "shift" adds the level of the new task, shrunk by what levels were on old
        tasks (a random intercept). "none" ignores the support. "level" fits the
        estimator once more, on old rows with what other rows of their task say of its
        level as features. "refit" fits the estimator again for each new task, on the
        old rows and its own, with the level of each row's task as one more feature:
        every adaptation takes as long as the first fit, and the old rows are kept.
    n_shots : int or (int, int), default=(1, 10)
        Support rows of a task in ``score``; the middle of a range.
    random_state : int, RandomState instance or None, default=None
        Seeds each ``random_state`` of ``estimator`` that is None.

    Attributes
    ----------
    pooled_ : PooledModel
        The pooled model: ``pooled_.model`` is the fitted estimator and
        ``pooled_.name`` what "auto" chose.
    intercept_ : RandomIntercept
        Mean and variance of the levels of tasks, and variance within tasks, of the
        errors on tasks that the model did not see.
    level_ : LevelModel or None
        With ``correction="level"``: the estimator that reads levels.
    n_tasks_ : int
        Tasks seen by ``fit``; 1 for one table.
    n_features_in_ : int
        Number of features seen by ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if they are all strings.

    Raises
    ------
    ValueError
        In ``fit``, if a parameter or the data is not what was expected.

    See Also
    --------
    PooledClassifier : The same for classes.
    TaskEnsembleRegressor : Keeps a model of every old task too.

    Notes
    -----
    The errors :math:`r_i` of the model on tasks that it did not see are a level and
    noise, :math:`r_i = b_t + e_i` with :math:`b_t \sim N(\mu, \tau^2)` and
    :math:`e_i \sim N(0, \sigma^2)`, fitted by maximum likelihood. From the mean error
    :math:`\bar r` of :math:`K` support rows the level of a new task is
    :math:`\mu + w (\bar r - \mu)` with :math:`w = \tau^2 / (\tau^2 + \sigma^2 / K)`,
    the best linear unbiased prediction [1]_, and its prediction has the variance
    :math:`\sigma^2 + \tau^2 (1 - w)`. "refit" states this variance too. One table,
    without tasks, tells nothing of levels: it is not shifted.

    "level" reads, beside a row and its out-of-fold prediction, the mean target and the
    mean error of the support, both also shrunk, and learns from supports of random size
    among the other rows of each old task (target encoding, in the terms of [2]_). For
    "auto" it takes the mean of a linear model and boosting with small trees. Its
    variance is a constant and a multiple of :math:`\tau^2 (1 - w)`, fitted to errors on
    tasks left out.

    References
    ----------
    .. [1] G. K. Robinson, "That BLUP is a good thing: the estimation of random
       effects", Statistical Science, 1991, equation 1.2.
    .. [2] D. Micci-Barreca, "A preprocessing scheme for high-cardinality categorical
       attributes in classification and prediction problems", SIGKDD Explorations, 2001.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn_meta import PooledRegressor
    >>> from sklearn_meta.datasets import make_gp_tasks
    >>> tasks = make_gp_tasks(n_tasks=12, n_samples=20, random_state=0)
    >>> model = PooledRegressor(Ridge(), random_state=0).fit(tasks[:11])
    >>> X, y = tasks[11]
    >>> model.adapt(X[:5], y[:5]).predict_quantiles(X[5:]).shape
    (15, 3)
    """

    _parameter_constraints: dict = {
        **_PooledEstimator._parameter_constraints,
        "estimator": [HasMethods(["fit", "predict"]), StrOptions({"auto"})],
    }

    def __init__(
        self,
        estimator="auto",
        *,
        correction="shift",
        n_shots=(1, 10),
        random_state=None,
    ):
        self.estimator = estimator
        self.correction = correction
        self.n_shots = n_shots
        self.random_state = random_state

    def _targets(self, rows: TaskRows) -> np.ndarray:
        return rows.y[:, None]

    def _residuals(self, rows: TaskRows) -> np.ndarray:
        return (rows.y - rows.X[:, -1])[:, None]

    def _support_bounds(self) -> tuple[int, int]:
        return self._shot_range()

    def _shifts(self, rows: TaskRows) -> Shifts:
        """Return the levels of tasks given the support, or given nothing."""
        counts, total = rows.sizes, sum_by_group(self._residuals(rows), rows.sizes)
        if not self._shifts_tasks():
            counts, total = 0 * counts, 0 * total
        return Shifts(*self.intercept_.posterior(counts, total))

    def _without_support(self) -> Self:
        """Return a copy that knows of its task only what all tasks have in common."""
        new = copy.copy(self)
        level = self.intercept_.posterior(np.zeros(1), np.zeros((1, 1)))
        new.adapted_ = Shifts(*level)
        if self.correction == "refit":
            model = fit_member(self.pooled_.model, *self.old_rows_)
            new.adapted_ = RefittedModels([model], *level)
        elif self.correction == "level":
            # its model has never read an empty support: what is left is the pooled one
            new.correction = "none"
        new.task_names_ = None
        return new

    def _mean_and_std(
        self, X: np.ndarray, codes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the prediction in the unit of the target."""
        if self._has_level_model():
            variance = self.level_.variance(self.adapted_.at(codes))
            mean = self._ask_level_model(X, codes, predict_numbers)
            return mean, np.sqrt(variance)
        variance = self.adapted_.variance[codes, 0] + self.intercept_.within
        if self.correction == "refit":
            return self._ask_refitted(X, codes, predict_numbers), np.sqrt(variance)
        return X[:, -1] + self.adapted_.mean[codes, 0], np.sqrt(variance)


class PooledClassifier(TaskClassifierMixin, _PooledEstimator):
    r"""Classifier of all rows that ignores tasks, corrected by the support of one.

    This is what practitioners do, and what meta-learning must beat: one model of the
    rows of all tasks, plus a shift of its logits as far as the support tells it. Labels
    must mean the same in every task.

    Parameters
    ----------
    estimator : estimator or "auto", default="auto"
        The scikit-learn classifier, or Pipeline, that is fitted on all rows; it needs
        ``predict_proba``. "auto" takes a linear model, gradient boosting or their
        mean, whichever has the least log-loss out of fold, with folds split by task.
    correction : {"shift", "none", "level", "refit"}, default="shift"
        "shift" adds a vector to the logits of the new task, shrunk by as much as
        helped on old tasks. It needs supports that are drawn without regard to class.
        "none" ignores the support. "level" fits the estimator once more, on old rows
        with what other rows of their task say of its level as features. "refit" fits
        the estimator again for each new task, on the old rows and its own, with the
        level of each row's task as one more feature per class: every adaptation takes
        as long as the first fit, and the old rows are kept.
    n_shots : int or (int, int), default=(1, 10)
        Support rows for which the shrinkage is tuned: up to that many per class on
        average, and for a range as few rows as its lower end.
    random_state : int, RandomState instance or None, default=None
        Draws episodes, and seeds each ``random_state`` of ``estimator`` that is None.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, which mean the same in every task.
    label_mode_ : {"shared"}
        What labels mean.
    pooled_ : PooledModel
        The pooled model: ``pooled_.model`` is the fitted estimator and
        ``pooled_.name`` what "auto" chose.
    intercept_ : RandomIntercept
        Mean and variance of the levels of tasks, and variance within tasks, of the
        errors of each class's probability on tasks that the model did not see.
    precision_ : ShiftPrecision
        Precision of the prior of shifts, by the number of support rows.
    level_ : LevelModel or None
        With ``correction="level"``: the estimator that reads levels.
    n_tasks_ : int
        Tasks seen by ``fit``; 1 for one table.
    n_features_in_ : int
        Number of features seen by ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if they are all strings.

    Raises
    ------
    ValueError
        In ``fit``, if a parameter or the data is not what was expected, or if no two
        tasks have a label in common.

    See Also
    --------
    PooledRegressor : The same for a numeric target.
    ProtoNetClassifier : For tasks whose labels are their own.

    Notes
    -----
    With the logits :math:`l_i` of the pooled model, the shift of a task is

    .. math::

        b = \arg\max \sum_i \log \mathrm{softmax}(l_i + b)_{y_i}
        - \tfrac{\lambda}{2} \lVert b \rVert^2

    over its support: the mode of the posterior of a random intercept [1]_. The
    precision :math:`\lambda` is the one that predicts queries best in episodes of old
    tasks with out-of-fold logits, for four sizes of support, and log-linear between
    them. "level" is that of :class:`PooledRegressor`, for each class.

    References
    ----------
    .. [1] N. E. Breslow and D. G. Clayton, "Approximate inference in generalized linear
       mixed models", Journal of the American Statistical Association, 1993.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_meta import PooledClassifier
    >>> from sklearn_meta.datasets import make_blob_tasks
    >>> tasks = make_blob_tasks(12, 30, n_classes=2, random_state=0)
    >>> model = PooledClassifier(LogisticRegression(), random_state=0).fit(tasks[:11])
    >>> X, y = tasks[11]
    >>> model.adapt(X[:10], y[:10]).predict_proba(X[10:]).shape
    (20, 2)
    """

    _parameter_constraints: dict = {
        **_PooledEstimator._parameter_constraints,
        "estimator": [HasMethods(["fit", "predict_proba"]), StrOptions({"auto"})],
    }

    def __init__(
        self,
        estimator="auto",
        *,
        correction="shift",
        n_shots=(1, 10),
        random_state=None,
    ):
        self.estimator = estimator
        self.correction = correction
        self.n_shots = n_shots
        self.random_state = random_state

    def _learn_labels(self, rows: TaskRows, classes: Any = None) -> None:
        self._learn_shared_labels(rows, classes)

    def _targets(self, rows: TaskRows) -> np.ndarray:
        return one_hot(self._positions(rows), len(self.classes_))

    def _logits(self, X: np.ndarray) -> np.ndarray:
        """Return the logits of prepared rows, (n_rows, n_classes)."""
        return X[:, self.n_features_in_ :]

    def _residuals(self, rows: TaskRows) -> np.ndarray:
        return self._targets(rows) - softmax(self._logits(rows.X), axis=1)

    def _support_bounds(self) -> tuple[int, int]:
        return self._support_range()

    def _beside_level(self, X: np.ndarray) -> np.ndarray:
        """Add probabilities, which linear models cannot make of their logarithms."""
        return np.hstack([X, softmax(self._logits(X), axis=1)])

    def _learn_shift(self, rows: TaskRows) -> None:
        """Choose the precision of the prior on episodes of the old tasks."""
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(np.iinfo(np.int32).max))
        low, high = np.minimum(self._support_range(), rows.sizes.max() - 1)
        sizes = np.geomspace(low, high, N_SUPPORT_SIZES).round().astype(int)
        self.precision_ = fit_shift_precision(
            [(n, self._episodes(rows, n, seed)) for n in np.unique(sizes).tolist()]
        )

    def _episodes(self, rows: TaskRows, n_support: int, seed: int) -> LogitEpisodes:
        """Draw episodes of the tasks with more than ``n_support`` rows."""
        rows = rows.select(rows.sizes > n_support)
        logits, labels = self._logits(rows.X), self._targets(rows)
        draws = draw_episodes(rows, (n_support, n_support), seed)
        support = draws.support[draws.is_support]
        return LogitEpisodes(
            logits[support],
            labels[support],
            draws.counts,
            logits[draws.query],
            labels[draws.query],
            draws.episode,
        )

    def _shifts(self, rows: TaskRows) -> Shifts:
        """Return the most probable shifts of the logits, or none."""
        logits, labels = self._logits(rows.X), self._targets(rows)
        shift = np.zeros((len(rows.sizes), len(self.classes_)))
        if self._shifts_tasks():
            precision = self.precision_.at(rows.sizes)
            shift = map_shift(logits, labels, rows.sizes, precision)
        return Shifts(shift, np.zeros_like(shift))

    def _class_proba(self, X: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the probabilities in the columns of the labels."""
        if self.correction == "refit":
            return self._ask_refitted(X, codes, self._ask)
        if self._has_level_model():
            return self._ask_level_model(X, codes, self._ask)
        return softmax(self._logits(X) + self.adapted_.mean[codes], axis=1)

    def _ask(self, model: Any, X: np.ndarray) -> np.ndarray:
        return class_probabilities(model, X, self.classes_)
