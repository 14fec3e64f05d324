"""Ordinary estimators over all tasks, with the task of a row as a column of X."""

from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn import config_context
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    RegressorMixin,
    _fit_context,
    clone,
    is_classifier,
    is_regressor,
)
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from sklearn_meta.adaptation import adapt_tasks, innermost
from sklearn_meta.distributions import (
    InnerDistributionMixin,
    LogProbabilitiesMixin,
    ask,
)
from sklearn_meta.tasks import group_rows, is_task_sequence, separate_ids

__all__ = ["TaskColumnClassifier", "TaskColumnRegressor"]


class _TaskColumnEstimator(MetaEstimatorMixin, BaseEstimator):
    """An estimator that learns across the tasks of its rows and adapts to each."""

    _parameter_constraints: dict = {
        "meta_estimator": [HasMethods(["fit", "predict"])],
        "task_column": [str, Integral],
        "min_rows": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self, meta_estimator: Any, *, task_column: Any = -1, min_rows: int = 2
    ) -> None:
        self.meta_estimator = meta_estimator
        self.task_column = task_column
        self.min_rows = min_rows

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any) -> Self:
        """Learn across the tasks of the rows, then adapt to each of them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features + 1)
            Features and the column of task ids.
        y : array-like of shape (n_samples,)
            Targets.

        Returns
        -------
        self : object
            It predicts for every task that has rows here.

        Raises
        ------
        TypeError
            If the meta estimator is of the other kind or has no ``adapt_tasks``.
        ValueError
            If X has no such column, or no task has ``min_rows`` rows.
        """
        self._check_meta_estimator()
        rows, ids = self._separate(X, reset=True)
        check_consistent_length(rows, y)
        codes, names = group_rows(ids, len(ids))
        learned = np.flatnonzero(np.bincount(codes)[codes] >= self.min_rows)
        if not len(learned):
            raise ValueError(
                f"None of the {len(names)} tasks has min_rows={self.min_rows} rows to "
                f"learn from. Is task_column={self.task_column!r} the column of ids?"
            )
        # the class of the meta estimator asks for `tasks`, at any depth of a pipeline
        with config_context(enable_metadata_routing=True):
            fitted = clone(self.meta_estimator).fit(
                _safe_indexing(rows, learned),
                _safe_indexing(y, learned),
                tasks=ids[learned],
            )
        self.estimator_ = adapt_tasks(fitted, rows, y, ids)
        self.tasks_ = names
        self.__dict__.pop("classes_", None)
        if hasattr(self.estimator_, "classes_"):
            self.classes_ = self.estimator_.classes_
        return self

    def _ask(self, method: str, X: Any, *args: Any, **params: Any) -> Any:
        """Call a method of the adapted estimator on rows of known tasks."""
        check_is_fitted(self)
        rows, ids = self._separate(X, reset=False)
        known = set(self.tasks_)
        unknown = [i for i in group_rows(ids, len(ids))[1] if i not in known]
        if unknown:
            raise ValueError(
                f"Task {unknown[0]!r} had no rows in fit to adapt to. "
                "Split with FewShotSplit(task_column=...), which leaves support "
                "rows of each held-out task in the training fold; where each row must "
                "be held out once, with StratifiedKFold().split(X, ids) as cv."
            )
        return ask(self.estimator_, method, rows, *args, tasks=ids, **params)

    def _separate(self, X: Any, reset: bool) -> tuple[Any, np.ndarray]:
        """Check the columns of X and take the ids out of it."""
        if is_task_sequence(X):
            raise ValueError(
                f"{type(self).__name__} takes rows with the task ids as a column, got "
                "a sequence of tasks. The meta estimator itself takes them, with "
                "scoring=few_shot_scorer(...) in tools that score."
            )
        table = X if hasattr(X, "iloc") else np.asarray(X)
        features, ids = separate_ids(table, self.task_column)
        validate_data(self, table, reset=reset, skip_check_array=True)
        return features, ids

    def _check_meta_estimator(self) -> None:
        """Raise before training if the meta estimator is of no use here."""
        is_kind, other = self._kind
        if not is_kind(self.meta_estimator):
            raise TypeError(
                f"Expected meta_estimator to be of the kind of {type(self).__name__}, "
                f"got {self.meta_estimator!r}. Use {other}."
            )
        if not hasattr(innermost(self.meta_estimator), "adapt_tasks"):
            raise TypeError(
                "Expected a meta_estimator with a method `adapt_tasks`, got "
                f"{self.meta_estimator!r}. An ordinary estimator takes X with its "
                "column of ids by itself."
            )

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there is an adapted estimator."""
        return hasattr(self, "estimator_")


class TaskColumnClassifier(
    LogProbabilitiesMixin, ClassifierMixin, _TaskColumnEstimator
):
    """A classifier over all tasks that finds the task of a row in a column of X.

    Scorers of scikit-learn, ``cross_val_predict``, ``CalibratedClassifierCV``,
    ``StackingClassifier`` and ``permutation_importance`` call ``predict(X)`` and cannot
    pass ids beside X. With the ids inside of X they work over all tasks: ``fit`` learns
    across tasks, then adapts to the rows of each, and ``predict`` answers for rows of
    these tasks.

    Parameters
    ----------
    meta_estimator : estimator
        A classifier that learns across tasks, or a ``Pipeline`` or search with one. It
        is cloned and gets the features without the ids. A ``FrozenEstimator`` around a
        fitted one is adapted only.
    task_column : str or int, default=-1
        The column of X with the task ids: a name, or a position from the left, or from
        the right if negative. Ids in an array without names are numbers.
    min_rows : int, default=2
        Tasks with fewer rows in ``fit`` are adapted to but not learned from. With one
        more than the support rows that
        :class:`~sklearn_meta.model_selection.FewShotSplit` leaves in the training
        fold, held-out tasks take no part in learning.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator, adapted to all tasks of ``fit``.
    tasks_ : list of length n_tasks
        Their ids.
    classes_ : ndarray of shape (n_classes,)
        The labels of all tasks.
    n_features_in_ : int
        Number of columns of X, the ids included.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if they are all strings.

    See Also
    --------
    sklearn_meta.model_selection.FewShotSplit : The splitter for it.
    sklearn_meta.AdaptedClassifier : The rows of one task in any tool.
    sklearn_meta.metrics.few_shot_scorer : Scores over tasks without a column.

    Notes
    -----
    Transformers belong into the meta estimator, where they do not see the ids. Before
    this estimator they must leave the column as it is, or map ids one to one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn_meta import ProtoNetClassifier
    >>> from sklearn_meta.datasets import make_blob_tasks
    >>> from sklearn_meta.model_selection import FewShotSplit
    >>> from sklearn_meta.task_column import TaskColumnClassifier
    >>> X, y, ids = make_blob_tasks(n_tasks=6, random_state=0).to_flat()
    >>> X = np.column_stack([X, ids])
    >>> model = TaskColumnClassifier(ProtoNetClassifier(max_iter=5, random_state=0))
    >>> cv = FewShotSplit(n_splits=3, n_shots=3, random_state=0)
    >>> cross_val_score(model, X, y, cv=cv, scoring="neg_log_loss").shape
    (3,)
    """

    _kind = (is_classifier, "TaskColumnRegressor")

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features + 1)
            Features and the column of task ids.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels.

        Raises
        ------
        NotFittedError
            If ``fit`` was not called.
        ValueError
            If a task had no rows in ``fit``.
        """
        return self._ask("predict", X)

    @available_if(lambda self: hasattr(self.meta_estimator, "predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features + 1)
            Features and the column of task ids.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; rows sum to 1. A class that is not one of the
            row's task has probability 0.

        Raises
        ------
        NotFittedError
            If ``fit`` was not called.
        ValueError
            If a task had no rows in ``fit``.
        """
        return self._ask("predict_proba", X)


class TaskColumnRegressor(InnerDistributionMixin, RegressorMixin, _TaskColumnEstimator):
    """A regressor over all tasks that finds the task of a row in a column of X.

    Scorers of scikit-learn, ``cross_val_predict``, ``StackingRegressor`` and
    ``permutation_importance`` call ``predict(X)`` and cannot pass ids beside X. With
    the ids inside of X they work over all tasks: ``fit`` learns across tasks, then
    adapts to the rows of each, and ``predict`` answers for rows of these tasks.

    Parameters
    ----------
    meta_estimator : estimator
        A regressor that learns across tasks, or a ``Pipeline``,
        ``TransformedTargetRegressor`` or search with one. It is cloned and gets the
        features without the ids. A ``FrozenEstimator`` around a fitted one is adapted
        only.
    task_column : str or int, default=-1
        The column of X with the task ids: a name, or a position from the left, or from
        the right if negative. Ids in an array without names are numbers.
    min_rows : int, default=2
        Tasks with fewer rows in ``fit`` are adapted to but not learned from. With one
        more than the support rows that
        :class:`~sklearn_meta.model_selection.FewShotSplit` leaves in the training
        fold, held-out tasks take no part in learning.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator, adapted to all tasks of ``fit``.
    tasks_ : list of length n_tasks
        Their ids.
    n_features_in_ : int
        Number of columns of X, the ids included.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if they are all strings.

    See Also
    --------
    TaskColumnClassifier : The same for classes; its Notes hold here too.
    sklearn_meta.model_selection.FewShotSplit : The splitter for it.
    sklearn_meta.AdaptedRegressor : The rows of one task in any tool.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta import MAMLRegressor
    >>> from sklearn_meta.datasets import make_sinusoid_tasks
    >>> from sklearn_meta.task_column import TaskColumnRegressor
    >>> X, y, ids = make_sinusoid_tasks(n_tasks=6, random_state=0).to_flat()
    >>> X = np.column_stack([X, ids])
    >>> model = TaskColumnRegressor(MAMLRegressor(max_iter=5, random_state=0))
    >>> model.fit(X, y).predict(X[:3]).shape
    (3,)
    """

    _kind = (is_regressor, "TaskColumnClassifier")

    # a pipeline hands on what its last step requests
    __metadata_request__predict = {"return_std": True}

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the target of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features + 1)
            Features and the column of task ids.
        return_std : bool, default=False
            Whether the standard deviation is returned too, if the meta estimator can.

        Returns
        -------
        y_mean : ndarray of shape (n_samples,)
            Predicted mean, in the unit of the target.
        y_std : ndarray of shape (n_samples,)
            Predicted standard deviation, only if ``return_std``.

        Raises
        ------
        NotFittedError
            If ``fit`` was not called.
        ValueError
            If a task had no rows in ``fit``.
        """
        return self._ask("predict", X, **({"return_std": True} if return_std else {}))

    def _inside(self) -> Any:
        return getattr(self, "estimator_", self.meta_estimator)
