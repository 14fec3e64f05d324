"""Ordinary estimators for one new task, on top of what was learned across tasks."""

import copy
from typing import Any, Self

import numpy as np
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
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklearn_meta.adaptation import adapt, innermost, keeps_fit_when_cloned
from sklearn_meta.distributions import (
    InnerDistributionMixin,
    LogProbabilitiesMixin,
    ask,
)
from sklearn_meta.tasks import is_task_sequence

__all__ = ["AdaptedClassifier", "AdaptedRegressor"]


def _adapted_has(method: str) -> Any:
    """Return a check for `available_if`: whether the meta estimator has a method."""
    return lambda self: hasattr(
        getattr(self, "estimator_", self.meta_estimator), method
    )


class _AdaptedEstimator(MetaEstimatorMixin, BaseEstimator):
    """An estimator whose `fit` adapts a copy of another one."""

    _parameter_constraints: dict = {"meta_estimator": [HasMethods(["fit", "predict"])]}

    def __init__(self, meta_estimator: Any) -> None:
        self.meta_estimator = meta_estimator

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any) -> Self:
        """Adapt a copy of the meta estimator to the rows of one task.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The labelled rows of the task.
        y : array-like of shape (n_samples,)
            Their targets.

        Returns
        -------
        self : object
            Adapted; the meta estimator is as it was.

        Raises
        ------
        NotFittedError
            If the meta estimator has not learned across tasks yet.
        TypeError
            If the meta estimator is of the other kind.
        ValueError
            If X is a sequence of tasks, or the rows are not what the meta estimator
            can adapt to.
        """
        self._check_kind()
        if is_task_sequence(X):
            raise ValueError(
                f"{type(self).__name__}.fit takes the rows X, y of one task, got a "
                "sequence of tasks. Give tasks to `fit` of the meta estimator before "
                "it is wrapped; to score on many tasks, give the meta estimator and "
                "few_shot_scorer to the tool."
            )
        self.estimator_ = adapt(self.meta_estimator, X, self._check_labels(y))
        for name in ("n_features_in_", "feature_names_in_", "classes_"):
            self.__dict__.pop(name, None)
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        self._learn_codes()
        return self

    def adapt(self, X_support: Any, y_support: Any) -> Self:
        """Adapt to the rows of one task, in place: another name for ``fit``.

        Parameters
        ----------
        X_support : array-like of shape (n_support, n_features)
            The labelled rows of the task.
        y_support : array-like of shape (n_support,)
            Their targets.

        Returns
        -------
        self : object
            Adapted.
        """
        return self.fit(X_support, y_support)

    def _check_labels(self, y: Any) -> Any:
        """Return the target that the meta estimator learns from."""
        return y

    def _learn_codes(self) -> None:
        """Learn what numbers stand for labels; a numeric target has none."""

    def _adapted(self) -> Any:
        """Return the adapted estimator."""
        check_is_fitted(self)
        return self.estimator_

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there is an adapted estimator."""
        return hasattr(self, "estimator_")

    def __sklearn_clone__(self) -> Self:
        """Share what was learned across tasks, and no parameter."""
        params = self.get_params(deep=False)
        return type(self)(**{k: _with_own_params(v) for k, v in params.items()})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.meta_estimator)
        tags.input_tags, tags.target_tags = inner.input_tags, inner.target_tags
        tags.non_deterministic = inner.non_deterministic
        return tags


class AdaptedClassifier(LogProbabilitiesMixin, ClassifierMixin, _AdaptedEstimator):
    """An ordinary classifier for one new task: ``fit`` means adapt.

    Tools that cross-validate or combine models clone an estimator and fit it on rows.
    A clone of a meta-learning estimator has forgotten what it learned across tasks. A
    clone of this one has not, so that ``cross_val_score``, ``GridSearchCV``,
    ``StackingClassifier``, ``CalibratedClassifierCV``,
    ``TunedThresholdClassifierCV``, ``permutation_importance`` and others work on the
    rows of one task.

    Parameters
    ----------
    meta_estimator : estimator
        A classifier that was fitted on tasks, or a ``Pipeline`` or search with one;
        see :func:`sklearn_meta.adapt`. It is never changed. An ordinary classifier is
        cloned and fitted.
    codes : array-like of shape (n_codes,), default=None
        The labels that the numbers 0, 1, ... stand for, ``np.unique(y)`` of the task,
        for tools that number labels before they fit; see Notes. None: ``fit`` gets the
        labels themselves.

    Attributes
    ----------
    estimator_ : estimator
        A copy of the meta estimator, adapted to the rows of ``fit``.
    classes_ : ndarray of shape (n_classes,)
        The labels. Where labels are shared by all tasks, those of all tasks: a class
        without rows in ``fit`` keeps a probability. With ``codes`` the numbers.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if they are all strings.

    See Also
    --------
    sklearn_meta.adapt : Adapts without a wrapper, where no tool is to clone.
    sklearn.frozen.FrozenEstimator : Its clones keep what was learned too, and its
        ``fit`` does nothing.

    Notes
    -----
    Clones share the learned weights and have parameters of their own. In a search over
    ``meta_estimator__x``, only parameters that act when a task is adapted to make a
    difference, such as ``adapt_steps`` of :class:`~sklearn_meta.MAMLClassifier`.

    Transformers belong into the meta estimator, fitted on the old tasks. A scaler
    before the wrapper is fitted on the few rows of one task, and the meta estimator
    then gets other features than it learned from.

    ``StackingClassifier``, ``VotingClassifier``, ``BaggingClassifier`` and the
    probabilities of ``cross_val_predict`` number the labels 0, 1, ... before they fit.
    Estimators with ``label_mode_="task"`` do not mind. Shared labels under other names
    need ``codes=np.unique(y)``; probabilities are then those of these classes alone.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn_meta import AdaptedClassifier, ProtoNetClassifier
    >>> from sklearn_meta.datasets import make_blob_tasks
    >>> tasks = make_blob_tasks(n_tasks=12, random_state=0)
    >>> meta = ProtoNetClassifier(max_iter=20, random_state=0).fit(tasks[:11])
    >>> X, y = tasks[11]
    >>> cross_val_score(AdaptedClassifier(meta), X, y, cv=3).shape
    (3,)
    """

    def __init__(self, meta_estimator: Any, codes: Any = None) -> None:
        super().__init__(meta_estimator)
        self.codes = codes

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the task.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels.

        Raises
        ------
        NotFittedError
            If ``fit`` was not called.
        """
        adapted = self._adapted()
        if self.codes is None:
            return adapted.predict(X)
        if hasattr(adapted, "predict_proba"):
            return self.predict_proba(X).argmax(1)
        return _positions(adapted.predict(X), self.codes)

    @available_if(_adapted_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the task.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; rows sum to 1.

        Raises
        ------
        NotFittedError
            If ``fit`` was not called.
        """
        proba = self._adapted().predict_proba(X)
        if self.codes is None:
            return proba
        column = _positions(self.codes, self.estimator_.classes_)
        known = np.where(column < 0, 0, proba[:, column])
        total = known.sum(1, keepdims=True)
        return np.divide(
            known, total, out=np.full(known.shape, 1 / len(column)), where=total > 0
        )

    def _check_kind(self) -> None:
        """Raise if the meta estimator is no classifier."""
        if not is_classifier(self.meta_estimator):
            raise TypeError(_KIND_MESSAGE.format("classifier", self, "Regressor"))

    def _check_labels(self, y: Any) -> Any:
        """Return labels in place of numbers; raise if shared labels are unknown."""
        y = y if self.codes is None or y is None else _decode(y, self.codes)
        last = innermost(self.meta_estimator)
        if getattr(last, "label_mode_", None) != "shared" or y is None:
            return y
        known, labels = set(last.classes_.tolist()), np.asarray(y).ravel().tolist()
        if unknown := [label for label in labels if label not in known]:
            raise ValueError(
                f"The label {unknown[0]!r} was not seen across tasks: expected one of "
                f"{last.classes_.tolist()}. StackingClassifier, VotingClassifier, "
                "BaggingClassifier and cross_val_predict of probabilities number the "
                "labels of the task 0, 1, ...: to use them, give the labels, "
                "AdaptedClassifier(meta_estimator, codes=np.unique(y))."
            )
        return y

    def _learn_codes(self) -> None:
        """Let tools see the numbers that they gave."""
        if self.codes is not None:
            self.classes_ = np.arange(len(self.codes))


class AdaptedRegressor(InnerDistributionMixin, RegressorMixin, _AdaptedEstimator):
    """An ordinary regressor for one new task: ``fit`` means adapt.

    Tools that cross-validate or combine models clone an estimator and fit it on rows.
    A clone of a meta-learning estimator has forgotten what it learned across tasks. A
    clone of this one has not, so that ``cross_val_score``, ``cross_val_predict``,
    ``GridSearchCV``, ``StackingRegressor``, ``permutation_importance``,
    ``partial_dependence`` and others work on the rows of one task.

    Parameters
    ----------
    meta_estimator : estimator
        A regressor that was fitted on tasks, or a ``Pipeline``,
        ``TransformedTargetRegressor`` or search with one; see
        :func:`sklearn_meta.adapt`. It is never changed. An ordinary regressor is cloned
        and fitted.

    Attributes
    ----------
    estimator_ : estimator
        A copy of the meta estimator, adapted to the rows of ``fit``.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if they are all strings.

    See Also
    --------
    sklearn_meta.adapt : Adapts without a wrapper, where no tool is to clone.
    AdaptedClassifier : The same for classes; its Notes hold here too.

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_predict
    >>> from sklearn_meta import AdaptedRegressor, MAMLRegressor
    >>> from sklearn_meta.datasets import make_sinusoid_tasks
    >>> tasks = make_sinusoid_tasks(n_tasks=12, random_state=0)
    >>> meta = MAMLRegressor(max_iter=10, random_state=0).fit(tasks[:11])
    >>> X, y = tasks[11]
    >>> cross_val_predict(AdaptedRegressor(meta), X, y, cv=4).shape
    (20,)
    """

    # a pipeline hands on what its last step requests
    __metadata_request__predict = {"return_std": True}

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the target of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the task.
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
        """
        adapted = self._adapted()
        return adapted.predict(X, return_std=True) if return_std else adapted.predict(X)

    def _inside(self) -> Any:
        return getattr(self, "estimator_", self.meta_estimator)

    def _ask(self, method: str, X: Any, *args: Any, **params: Any) -> Any:
        return ask(self._adapted(), method, X, *args, **params)

    def _check_kind(self) -> None:
        """Raise if the meta estimator is no regressor."""
        if not is_regressor(self.meta_estimator):
            raise TypeError(_KIND_MESSAGE.format("regressor", self, "Classifier"))


_KIND_MESSAGE = (
    "Expected meta_estimator to be a {0}, got {1.meta_estimator!r}. Use Adapted{2}."
)


def _decode(y: Any, codes: Any) -> np.ndarray:
    """Return the labels that numbers stand for."""
    y, codes = np.asarray(y).ravel(), np.asarray(codes)
    if len(set(codes.tolist())) < len(codes) or codes.ndim != 1:
        raise ValueError(f"Expected distinct labels as codes, got {codes.tolist()}.")
    number = y.astype(int) if y.dtype.kind in "biuf" else np.full(len(y), -1)
    bad = np.flatnonzero((number != y) | (number < 0) | (number >= len(codes)))
    if len(bad):
        raise ValueError(
            f"Expected the numbers 0 to {len(codes) - 1}, which stand for "
            f"{codes.tolist()}, got {y.tolist()[bad[0]]!r}. Set codes=None where fit "
            "gets the labels themselves."
        )
    return codes[number]


def _positions(labels: Any, among: Any) -> np.ndarray:
    """Return the position of labels among others, -1 for those that are not there."""
    place = {label: i for i, label in enumerate(np.asarray(among).tolist())}
    return np.array([place.get(label, -1) for label in np.asarray(labels).tolist()])


def _with_own_params(obj: Any) -> Any:
    """Copy an estimator so that `set_params` on the copy reaches nothing else.

    What was learned is shared: parameters that are estimators are copied, at any depth.
    """
    if isinstance(obj, (list, tuple)):
        return type(obj)(_with_own_params(part) for part in obj)
    if isinstance(obj, type) or not hasattr(obj, "get_params"):
        return obj
    if keeps_fit_when_cloned(obj):
        return clone(obj)
    new = copy.copy(obj)
    for name, value in obj.get_params(deep=False).items():
        setattr(new, name, _with_own_params(value))
    return new
