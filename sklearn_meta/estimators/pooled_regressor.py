"""One regressor of all rows, its level corrected by the support."""

import copy
from typing import Self

import numpy as np
from sklearn.utils._param_validation import HasMethods, StrOptions

from sklearn_meta.averaging import sum_by_group
from sklearn_meta.estimators.level import Evidence
from sklearn_meta.estimators.pooled import PooledEstimator, Shifts
from sklearn_meta.estimators.refit import RefittedModels
from sklearn_meta.estimators.regressor import TaskRegressorMixin
from sklearn_meta.pooling import fit_member, predict_numbers
from sklearn_meta.tasks import TaskRows

__all__ = ["PooledRegressor"]


class PooledRegressor(TaskRegressorMixin, PooledEstimator):
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
        **PooledEstimator._parameter_constraints,
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
            old = self._learned_in_fit(self.old_rows_)
            model = fit_member(self.pooled_.model, old.X, old.y)
            new.adapted_ = RefittedModels([model], *level)
        elif self.correction == "level":
            # its model has never read an empty support: what is left is the pooled one
            new.correction = "none"
        new.task_names_ = None
        return new

    def _mean_and_std(
        self, X: np.ndarray, codes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (n_rows,) in the unit of the target."""
        adapted = self.adapted_
        if isinstance(adapted, Evidence):
            evidence = adapted.at(codes)
            variance = self._learned_in_fit(self.level_).variance(evidence)
            mean = self._ask_level_model(X, evidence, predict_numbers)
            return mean, np.sqrt(variance)
        variance = adapted.variance[codes, 0] + self.intercept_.within
        if isinstance(adapted, RefittedModels):
            mean = self._ask_refitted(X, adapted, codes, predict_numbers)
            return mean, np.sqrt(variance)
        return X[:, -1] + adapted.mean[codes, 0], np.sqrt(variance)
