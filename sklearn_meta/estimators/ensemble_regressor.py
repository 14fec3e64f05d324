"""Regressors of old tasks, weighed by how right they are about a new one."""

import copy
from typing import Any, Self

import numpy as np
from scipy.stats import norm
from sklearn.ensemble import RandomForestRegressor
from sklearn.utils._param_validation import HasMethods

from sklearn_meta.averaging import (
    choose_prior,
    drop_negligible,
    fit_shift_noise,
    posterior_weights,
    sum_by_group,
)
from sklearn_meta.estimators.episode_rows import Draws
from sklearn_meta.estimators.kept_models import AdaptedMembers, KeptModelsEstimator
from sklearn_meta.estimators.regressor import TaskRegressorMixin
from sklearn_meta.functional import STD_FLOOR
from sklearn_meta.pooling import out_of_fold
from sklearn_meta.tasks import TaskRows

__all__ = ["TaskEnsembleRegressor"]


class TaskEnsembleRegressor(TaskRegressorMixin, KeptModelsEstimator):
    r"""Regressor that keeps a model per old task and weighs them on a new one.

    Any scikit-learn regressor learns to learn: a clone is fitted on each old task and
    kept, and a pooled one on all rows. The support of a new task says which of them
    are right about it, by Bayesian model averaging [1]_ with a prior and with noise
    that were learned across tasks. No gradient is needed.

    Parameters
    ----------
    estimator : estimator, default=None
        The scikit-learn regressor, or Pipeline, that is cloned for each task. None is
        ``RandomForestRegressor()``.
    correction : {"shift", "none"}, default="shift"
        "shift" moves every member by its mean error on the support, shrunk by what
        such shifts were on old tasks. "none" only weighs the members.
    max_models : int, default=50
        Most models kept beside the pooled one, at least 1; None keeps all. Those are
        kept whose predictions differ most, by a greedy cover.
    n_shots : int or (int, int), default=(1, 10)
        Support rows of the episodes in which the weighing is learned, per task. A pair
        is a range, both ends included.
    order : {"random", "first"}, default="random"
        Which rows of a task are the support of its episodes: any, or the first ones, in
        the order in which ``fit`` gets them. "first" is for tables that grow in time.
    n_jobs : int, default=None
        Processes for fitting and threads for predicting; None is one, -1 all.
    random_state : int, RandomState instance or None, default=None
        Draws episodes, and seeds each ``random_state`` of ``estimator`` that is None.

    Attributes
    ----------
    models_ : list of estimator
        The kept models.
    model_tasks_ : list
        The name of the task that each of them learned from.
    pooled_ : estimator
        The model of all rows.
    prior_ : ndarray of shape (n_models + 1,)
        Probability that a member is the right one before the support is seen, the
        pooled one first.
    exponent_ : float
        Power of the support's likelihood, in [0, 1].
    noise_ : ShiftNoise
        Variance of each member's errors within a task, and of its shift between tasks,
        in squared units of the target.
    weights_ : ndarray of shape (n_tasks, n_models + 1)
        After ``adapt``: the weight of each member, the pooled one first.
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
    TaskEnsembleClassifier : The same for classes.
    ModelBasedMetaRegressor : One network learns to read the support.

    Notes
    -----
    With members :math:`f_m`, the support :math:`S` of a task has the likelihood

    .. math::

        p(S \mid m) = \mathcal{N}(y_S; f_m(x_S), \sigma_m^2 I + \tau_m^2 1 1^\top),

    where :math:`\tau_m = 0` without correction, and the weights are
    :math:`w_m \propto \pi_m \, p(S \mid m)^\eta`. Members, prior and noise are
    learned on old tasks with the member of the task itself left out: :math:`\pi_m`,
    :math:`\sigma_m` and :math:`\tau_m` by expectation maximisation, the exponent
    :math:`\eta` and the pooled member's share by the likelihood of query rows. The
    exponent is below 1 where the rows of a task err together [2]_. Predictions are
    mixtures; ``return_std`` is the mixture's standard deviation, and quantiles are
    those of a Gaussian with its mean and standard deviation.

    In one table, without tasks, there is one model: the noise is that of rows held
    out.

    References
    ----------
    .. [1] J. A. Hoeting, D. Madigan, A. E. Raftery, C. T. Volinsky, "Bayesian model
       averaging: a tutorial", Statistical Science, 1999, equations 1 to 3.
    .. [2] P. Grünwald, T. van Ommen, "Inconsistency of Bayesian inference for
       misspecified linear models, and a proposal for repairing it", Bayesian Analysis,
       2017.

    Examples
    --------
    >>> from sklearn.svm import SVR
    >>> from sklearn_meta import TaskEnsembleRegressor
    >>> from sklearn_meta.datasets import make_sinusoid_tasks
    >>> tasks = make_sinusoid_tasks(n_tasks=30, n_samples=20, random_state=0)
    >>> model = TaskEnsembleRegressor(SVR(C=10), random_state=0).fit(tasks[:29])
    >>> X, y = tasks[29]
    >>> model.adapt(X[:5], y[:5]).predict(X[5:]).shape
    (15,)
    """

    _parameter_constraints: dict = {
        **KeptModelsEstimator._parameter_constraints,
        "estimator": [HasMethods(["fit", "predict"]), None],
    }

    def __init__(
        self,
        estimator=None,
        *,
        correction="shift",
        max_models=50,
        n_shots=(1, 10),
        order="random",
        n_jobs=None,
        random_state=None,
    ):
        self.estimator = estimator
        self.correction = correction
        self.max_models = max_models
        self.n_shots = n_shots
        self.order = order
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _base_estimator(self) -> Any:
        return RandomForestRegressor() if self.estimator is None else self.estimator

    def _ask(self, model: Any, X: np.ndarray) -> np.ndarray:
        return model.predict(X)

    def _ask_out_of_fold(self, estimator: Any, rows: TaskRows) -> np.ndarray:
        return out_of_fold(estimator, rows)

    def _learn_to_weigh(
        self, rows: TaskRows, said: np.ndarray, usable: np.ndarray, draws: Draws
    ) -> None:
        """Learn the noise of errors and shifts, then prior and exponent."""
        errors = rows.y[:, None] - said
        self.noise_, share = fit_shift_noise(
            rows.sizes,
            sum_by_group(errors, rows.sizes),
            sum_by_group(errors**2, rows.sizes),
            usable,
            with_shift=self.correction == "shift",
            floor=(STD_FLOOR * (float(rows.y.std()) or 1.0)) ** 2,
        )
        total = draws.sum_support(errors)
        evidence = self.noise_.log_evidence(
            draws.counts, total, draws.sum_support(errors**2)
        )
        shift, uncertain = self.noise_.shift(draws.counts, total)
        log_density = norm.logpdf(
            errors[draws.query] - shift[draws.episode],
            scale=np.sqrt(self.noise_.variance + uncertain[draws.episode]),
        )
        self._set_prior(
            choose_prior(
                share, evidence, usable[draws.task], log_density, draws.episode
            )
        )

    def _n_numbers(self) -> int:
        return 1

    def _weigh_block(self, rows: TaskRows) -> AdaptedMembers:
        """Weigh and shift the members by their errors on the supports."""

        def errors_and_squares(X: np.ndarray, y: np.ndarray) -> tuple:
            errors = y[:, None] - self._ask_members(X)
            return errors, errors**2

        return self._weigh(rows.sizes, *self._sum_by_task(rows, errors_and_squares))

    def _weigh(
        self, sizes: np.ndarray, total: np.ndarray, squares: np.ndarray
    ) -> AdaptedMembers:
        """Return weights and shifts from sums of errors, (n_tasks, n_members)."""
        evidence = self.noise_.log_evidence(sizes, total, squares)
        weights = drop_negligible(posterior_weights(self._prior(), evidence))
        return AdaptedMembers(weights, self.noise_.shift(sizes, total))

    def _without_support(self) -> Self:
        """Return a copy that knows of its task only what all tasks have in common."""
        new = copy.copy(self)
        nothing = np.zeros((1, len(self.prior_)))
        new.adapted_ = new._weigh(np.zeros(1, int), nothing, nothing)
        new.task_names_ = None
        return new

    def _mean_and_std(
        self, X: np.ndarray, codes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return moments (n_rows,) of the mixture of shifted members."""
        return tuple(self._answer(self._moments, X, codes).T)

    def _moments(self, X: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return mean and standard deviation of a block of rows, (n_rows, 2)."""
        weights = self.adapted_.weights[codes]
        shift, uncertain = (part[codes] for part in self.adapted_.correction)
        means = self._ask_members(X, weights) + shift
        mean = (weights * means).sum(1)
        apart = (means - mean[:, None]) ** 2
        variance = weights * (self.noise_.variance + uncertain + apart)
        return np.column_stack([mean, np.sqrt(variance.sum(1))])
