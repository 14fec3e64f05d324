"""One classifier of all rows, its logits corrected by the support."""

from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, StrOptions

from sklearn_meta.estimators.classifier import TaskClassifierMixin
from sklearn_meta.estimators.episode_rows import draw_episodes
from sklearn_meta.estimators.level import Evidence
from sklearn_meta.estimators.pooled import PooledEstimator, Shifts
from sklearn_meta.estimators.refit import RefittedModels
from sklearn_meta.pooling import class_probabilities
from sklearn_meta.shifts import LogitEpisodes, fit_shift_precision, map_shift
from sklearn_meta.targets import one_hot
from sklearn_meta.tasks import TaskRows

__all__ = ["PooledClassifier"]

# sizes of support at which the prior of a shift of logits is tuned
N_SUPPORT_SIZES = 4


class PooledClassifier(TaskClassifierMixin, PooledEstimator):
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
        **PooledEstimator._parameter_constraints,
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
        """Add probabilities (n_rows, n_classes) to columns that are their logarithms.

        Linear models cannot make the one of the other.
        """
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
        """Return the probabilities, (n_rows, n_classes)."""
        adapted = self.adapted_
        if isinstance(adapted, RefittedModels):
            return self._ask_refitted(X, adapted, codes, self._ask)
        if isinstance(adapted, Evidence):
            return self._ask_level_model(X, adapted.at(codes), self._ask)
        return softmax(self._logits(X) + adapted.mean[codes], axis=1)

    def _ask(self, model: Any, X: np.ndarray) -> np.ndarray:
        return class_probabilities(model, X, self.classes_)
