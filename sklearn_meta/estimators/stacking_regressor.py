"""A mixture of meta-regressors."""

import copy
from typing import Any, Self

import numpy as np

from sklearn_meta.averaging import drop_negligible
from sklearn_meta.estimators.kernel_teams import predict_members
from sklearn_meta.estimators.presets import default_regressors
from sklearn_meta.estimators.regressor import TaskRegressorMixin
from sklearn_meta.estimators.stacking import BaseMetaStacking
from sklearn_meta.held_out import Fold, row_folds, task_folds
from sklearn_meta.mixing import (
    gate_weights,
    mixture_log_density,
    mixture_moments,
    mixture_quantiles,
    score_beside_pool,
    score_weights,
)
from sklearn_meta.tasks import TaskRows

__all__ = ["MetaStackingRegressor"]


class MetaStackingRegressor(TaskRegressorMixin, BaseMetaStacking):
    r"""Mixture of meta-regressors, weighed by what they say of tasks held out.

    The estimator to start with: which way of learning across tasks fits a collection,
    and with how many rows, is found by trying several on tasks that they have not seen.
    Each member is fitted on folds of tasks; its weight follows from the likelihood of
    the tasks left out, for each number of shots apart; the models of all folds are
    averaged [1]_ [2]_, by how sure each is of a row [3]_.

    Parameters
    ----------
    estimators : list of (str, estimator), default=None
        Names and meta-regressors of this package, fitted as they are. None takes those
        of ``preset``; "drop" in the place of an estimator leaves it out.
    preset : {"fast", "default", "thorough"}, default="default"
        The members where ``estimators`` is None: see Notes.
    n_folds : int, default=3
        Folds of tasks, at least 2; at most as many as there are tasks, to which the
        default is lowered.
    n_shots : int or (int, int), default=(1, 10)
        Support rows in an episode, per task. The members of a preset learn from this
        range, both ends included, and all members are weighed at up to four numbers
        in it. In between weights are interpolated in the logarithm of the shots.
    order : {"random", "first"}, default="random"
        Which rows of a task are the support of its episodes: any, or the first ones, in
        the order in which ``fit`` gets them. "first" is for tables that grow in time.
        Members of a preset learn in this order, and all members are weighed in it;
        those in ``estimators`` have an ``order`` of their own.
    n_queries : int, default=16
        Most query rows of an episode in which members are weighed, at least 1.
    checkpoint : str, path-like or Checkpoint, default=None
        A directory in which members that train keep what they have learned: a fit that
        was killed and is started again trains only what is left, and ends with the same
        weights as one that was not stopped. Members use it in place of their own.
    n_jobs : int, default=None
        Processes for fitting; None is one, -1 all. The members of ``preset="fast"`` are
        fitted in one: they take less time than others take to start.
    random_state : int, RandomState instance or None, default=None
        Draws folds and episodes, and seeds each ``random_state`` of a member that is
        None.
    verbose : int, default=0
        1 shows which member is fitted on which fold and the time left, 2 also the outer
        steps of each.

    Attributes
    ----------
    names_ : list of str
        The members that were not dropped.
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
        In ``fit``, if a member is no meta-regressor of this package.
    ValueError
        In ``fit``, if a parameter, also of a member, or the data is not what was
        expected.

    See Also
    --------
    MetaStackingClassifier : The same for classes.
    DeepKernelRegressor : The member that carries most weight on many tables.

    Notes
    -----
    A member :math:`m` is scored by held-out rows: by their likelihood under a mixture
    that is half the member and half the mean density :math:`\bar p` of all members. Its
    model without fold :math:`f` states a standard deviation :math:`\sigma_{mf}(x)` at a
    row. The prediction for a new task is the mixture

    .. math::

        p(y \mid x) = \sum_{m, f} v_{mf}(x) \, p_{mf}(y \mid x), \quad
        v_{mf}(x) \propto \frac{w_m}{\sigma_{mf}^2(x)}, \quad
        w_m \propto e^{30 s_m}, \quad
        s_m = \mathrm{mean} \log \tfrac12 (p_m + \bar p).

    ``return_std`` is its standard deviation; quantiles and ``log_density`` are those of
    the mixture itself. The weights of [2]_, which maximise the likelihood of the
    mixture, feed members whose wide tails cover outliers, on small tables;
    :math:`s_m` asks of each member alone what it adds to the others. The mean, of which
    each model has a say by its precision, is that of the generalized product of experts
    [3]_.

    Members that start from one and the same ``pooled_estimator`` (None aside) share
    it: it is fitted once, and what they learn from is its out-of-fold prediction.

    .. list-table:: Members of the presets
       :header-rows: 1

       * - preset
         - members
       * - "fast"
         - PooledRegressor with a shift; DeepKernelRegressor, shallow and deep (300
           outer steps; 600 in the other presets)
       * - "default"
         - also DeepKernelRegressor a second time with another seed, from random
           weights, and without a pooled model
       * - "thorough"
         - also DeepKernelRegressor with dropped features and no learned mean, and the
           transformer of ModelBasedMetaRegressor

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
        order="random",
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
        self.order = order
        self.n_queries = n_queries
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _default_members(self) -> list[tuple[str, Any]]:
        return default_regressors(self.preset, self._shot_range(), self.order)

    def _n_processes(self) -> int | None:
        """Return one for "fast": its members take less time than others to start."""
        is_fast = self.estimators is None and self.preset == "fast"
        return 1 if is_fast else self.n_jobs

    def _folds(
        self, rows: TaskRows, grid: list[int], rng: np.random.RandomState
    ) -> list[Fold]:
        """Hold out tasks; of one table, rows."""
        if len(rows.sizes) == 1:
            return row_folds(rows, self.n_folds, False, rng)
        return task_folds(rows, self.n_folds, grid, self.n_queries, rng, self.order)

    def _averages_folds(self, rows: TaskRows) -> bool:
        return len(rows.sizes) > 1

    def _weigh(self, said: list[np.ndarray], weight: list[np.ndarray]) -> np.ndarray:
        pairs = zip(said, weight, strict=True)
        return score_weights(np.stack([score_beside_pool(*pair) for pair in pairs]))

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
        """Return mean and standard deviation (n_rows,) of the mixture."""
        return mixture_moments(*self._gaussians(X, codes))

    def _log_likelihood(
        self, X: np.ndarray, y: np.ndarray, codes: np.ndarray
    ) -> np.ndarray:
        """Return the log-density (n_rows,) of the mixture itself."""
        return mixture_log_density(*self._gaussians(X, codes), y)

    def _quantiles(
        self, X: np.ndarray, codes: np.ndarray, levels: np.ndarray
    ) -> np.ndarray:
        """Return the quantiles (n_rows, n_levels) of the mixture itself."""
        return mixture_quantiles(*self._gaussians(X, codes), levels)
