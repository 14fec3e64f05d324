"""Adapt anything that scikit-learn can fit to a new task, or to many at once."""

import copy
from collections.abc import Callable, Iterator
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_meta.tasks import as_task_collection, flatten_tasks

__all__ = ["adapt", "adapt_tasks"]

NOT_FITTED_MESSAGE = (
    "This %(name)s is not fitted yet: call `fit` with the tasks to learn from before "
    "it is adapted to a new one."
)


def adapt(obj: Any, X_support: Any, y_support: Any, **params: Any) -> Any:
    """Return a new object that is adapted to the support rows of one task.

    The method ``adapt`` of an estimator works in place, as ``list.sort`` does; this
    function leaves ``obj`` as it is, as ``sorted`` does. Objects that come from it
    share the learned weights and nothing else, so it is the one to call from many
    threads.

    Parameters
    ----------
    obj : estimator
        What is adapted:

        - an estimator with a method ``adapt``, fitted: a shallow copy is adapted;
        - a fitted ``Pipeline``: the support rows go through its transformers, which
          are shared, and its last step is adapted;
        - a fitted ``TransformedTargetRegressor``: the targets go through its
          transformer and its regressor is adapted;
        - a fitted search, such as ``GridSearchCV``: its best estimator is adapted;
        - a ``FrozenEstimator``: what it holds is adapted if that has ``adapt``, else
          it stays as it is (a model for all tasks, the pooled baseline);
        - any other estimator: it is cloned and fitted on the support rows (a model
          from scratch). A composite of such estimators keeps the transformers that
          it was fitted with, and is fitted from scratch as a whole if it was not.
          What has learned across tasks may be inside as an ``AdaptedClassifier`` or
          ``AdaptedRegressor``, whose clones keep it.

        These may be nested.
    X_support : array-like of shape (n_support, n_features)
        The known rows of the task, as they were given to ``fit`` of ``obj``.
    y_support : array-like of shape (n_support,)
        Their targets.
    **params : dict
        Handed to the ``adapt``, or ``fit``, of the last estimator.

    Returns
    -------
    adapted : estimator
        An object of the type of ``obj``, independent of it.

    Raises
    ------
    NotFittedError
        If ``obj`` has something to adapt and was not fitted.
    TypeError
        If an estimator to adapt is inside a composite that is not in the list above.

    See Also
    --------
    adapt_tasks : Adapt to many tasks in one call.
    sklearn_meta.metrics.few_shot_score : Score an object on tasks, adapting to each.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_meta.adaptation import adapt
    >>> X = np.arange(10.0).reshape(-1, 1)
    >>> model = make_pipeline(StandardScaler(), Ridge(alpha=1e-6)).fit(X, X.ravel())
    >>> adapted = adapt(model, [[0.0], [1.0]], [0.0, 3.0])
    >>> adapted.predict([[2.0]]).round(3), model.predict([[2.0]]).round(3)
    (array([6.]), array([2.]))
    >>> adapted[0] is model[0]
    True
    """
    if not _loses_by_clone(innermost(obj)) and not _is_fitted(obj):
        return _fit_from_scratch(obj, X_support, y_support, **params)
    check_is_fitted(obj, msg=NOT_FITTED_MESSAGE)
    composite = open_composite(obj)
    if composite is not None:
        X_support, y_support = composite.transform(X_support, y_support)
        return composite.replace(adapt(composite.inner, X_support, y_support, **params))
    if hasattr(obj, "adapt"):
        return copy.copy(obj).adapt(X_support, y_support, **params)
    return _fit_from_scratch(obj, X_support, y_support, **params)


def adapt_tasks(obj: Any, X: Any, y: Any = None, tasks: Any = None) -> Any:
    """Return a new object that is adapted to many tasks in one vectorised call.

    The prediction for a row of a task is then ``predict(X, tasks=ids)``. It is that
    of ``adapt`` on the task's own support rows, without a loop over tasks.

    Parameters
    ----------
    obj : estimator
        A fitted estimator with a method ``adapt_tasks``, or such an estimator as the
        last one of a composite that :func:`adapt` knows.
    X : TaskCollection, sequence of Task or (X, y), or array-like of shape \
(n_samples, n_features)
        The support rows of all tasks.
    y : array-like of shape (n_samples,), default=None
        Targets of flat rows; None with a sequence of tasks.
    tasks : array-like of shape (n_samples,), default=None
        Task id of each flat row; None with a sequence of tasks.

    Returns
    -------
    adapted : estimator
        An object of the type of ``obj``, independent of it; for a search its adapted
        best estimator, since ``predict`` of a search takes no ids.

    Raises
    ------
    NotFittedError
        If ``obj`` was not fitted.
    TypeError
        If the last estimator of ``obj`` has no ``adapt_tasks``.
    ValueError
        If flat rows come without ids.

    See Also
    --------
    adapt : Adapt to one task.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator, RegressorMixin
    >>> from sklearn_meta.adaptation import adapt_tasks
    >>> class TaskMean(RegressorMixin, BaseEstimator):
    ...     def fit(self, X, y, tasks=None):
    ...         self.is_fitted_ = True
    ...         return self
    ...     def adapt_tasks(self, X, y, tasks):
    ...         self.means_ = {i: np.mean(y[tasks == i]) for i in np.unique(tasks)}
    ...         return self
    ...     def predict(self, X, tasks):
    ...         return np.array([self.means_[i] for i in tasks])
    >>> model = TaskMean().fit([[0.0]], [0.0])
    >>> two = [([[0.0], [1.0]], [1.0, 3.0]), ([[0.0]], [7.0])]
    >>> adapt_tasks(model, two).predict([[5.0], [5.0]], tasks=[1, 0]).tolist()
    [7.0, 2.0]
    """
    if tasks is None:
        X, y, tasks = flatten_tasks(as_task_collection(X, y, caller="adapt_tasks"))
    if not hasattr(innermost(obj), "adapt_tasks"):
        raise TypeError(
            f"Expected an estimator with a method `adapt_tasks`, got "
            f"{type(innermost(obj)).__name__}. Adapt it to each task by itself with "
            "`sklearn_meta.adapt`."
        )
    check_is_fitted(obj, msg=NOT_FITTED_MESSAGE)
    composite = open_composite(obj)
    if composite is None:
        return copy.copy(obj).adapt_tasks(X, y, tasks)
    inner = adapt_tasks(composite.inner, *composite.transform(X, y), tasks)
    return inner if isinstance(obj, BaseSearchCV) else composite.replace(inner)


def has_prior(obj: Any) -> bool:
    """Return whether an object can tell what it predicts of a task without rows."""
    return hasattr(innermost(obj), "_without_support")


def without_support(obj: Any) -> Any:
    """Return a new object that knows of its task only what all tasks have in common."""
    check_is_fitted(obj, msg=NOT_FITTED_MESSAGE)
    composite = open_composite(obj)
    if composite is None:
        return obj._without_support()
    return composite.replace(without_support(composite.inner))


def innermost(obj: Any) -> Any:
    """Return the estimator at the end of any nesting of known composites."""
    *_, last = nested(obj)
    return last


def nested(obj: Any) -> Iterator[Any]:
    """Yield an object, what it holds if it is a known composite, and so on."""
    yield obj
    while (composite := open_composite(obj)) is not None:
        obj = composite.inner
        yield obj


def before_last_step(pipeline: Pipeline, X: Any) -> Any:
    """Return rows (n_rows, n_features) as the last step of a pipeline sees them."""
    for _, step in pipeline.steps[:-1]:
        if step is not None and step != "passthrough":
            X = step.transform(X)
    return X


class _Composite(NamedTuple):
    """What is needed to adapt an estimator inside of a composite."""

    inner: Any
    # of (X, y), X of shape (n_rows, n_features), as the inner estimator sees them
    transform: Callable[[Any, Any], tuple[Any, Any]]
    replace: Callable[[Any], Any]  # a new composite around another inner estimator


@singledispatch
def open_composite(obj: Any) -> _Composite | None:
    """Return how to reach into a composite; None for any other object."""
    return None


@open_composite.register
def _(pipeline: Pipeline) -> _Composite:
    def transform(X: Any, y: Any) -> tuple[Any, Any]:
        """Return rows (n_rows, n_features) as the last step sees them, and targets."""
        return before_last_step(pipeline, X), y

    name, last = pipeline.steps[-1]

    def replace(inner: Any) -> Pipeline:
        return _copy_with(pipeline, steps=[*pipeline.steps[:-1], (name, inner)])

    return _Composite(last, transform, replace)


@open_composite.register
def _(model: TransformedTargetRegressor) -> _Composite:
    def transform(X: Any, y: Any) -> tuple[Any, Any]:
        """Return rows, and targets (n_rows,) or (n_rows, n_outputs) in their scale."""
        y = np.asarray(y)
        table = y.reshape(-1, 1) if y.ndim == 1 else y
        changed = model.transformer_.transform(table)
        return X, changed.ravel() if y.ndim == 1 else changed

    return _Composite(
        getattr(model, "regressor_", model.regressor),
        transform,
        lambda inner: _copy_with(model, regressor_=inner),
    )


@open_composite.register
def _(search: BaseSearchCV) -> _Composite:
    if _is_fitted(search) and not hasattr(search, "best_estimator_"):
        raise NotFittedError(
            f"This {type(search).__name__} kept no best estimator to adapt: fit it "
            "with refit=True, or with the name of a score."
        )
    return _Composite(
        getattr(search, "best_estimator_", search.estimator),
        lambda X, y: (X, y),
        lambda inner: _copy_with(search, best_estimator_=inner),
    )


@open_composite.register
def _(frozen: FrozenEstimator) -> _Composite | None:
    if not hasattr(innermost(frozen.estimator), "adapt"):
        return None  # frozen for good: its `fit` does nothing
    return _Composite(frozen.estimator, lambda X, y: (X, y), FrozenEstimator)


def _copy_with(obj: Any, **attributes: Any) -> Any:
    """Return a shallow copy with some attributes bound to other values."""
    new = copy.copy(obj)
    for name, value in attributes.items():
        setattr(new, name, value)
    return new


def keeps_fit_when_cloned(obj: Any) -> bool:
    """Return whether a clone of an estimator keeps what the estimator has learned."""
    plain = BaseEstimator.__sklearn_clone__
    return getattr(type(obj), "__sklearn_clone__", plain) is not plain


def _loses_by_clone(obj: Any) -> bool:
    """Return whether a clone would forget what an estimator learned across tasks."""
    return hasattr(obj, "adapt") and not keeps_fit_when_cloned(obj)


def _fit_from_scratch(obj: Any, X: Any, y: Any, **params: Any) -> Any:
    """Clone an ordinary estimator and fit it on the support rows."""
    lost = _lost_members(obj)
    if lost:
        raise TypeError(
            f"Cannot adapt {lost[0]!r} inside of {type(obj).__name__}: what it has "
            "learned across tasks would be lost. Wrap it into an AdaptedClassifier or "
            "AdaptedRegressor, or adapt a Pipeline, a TransformedTargetRegressor or a "
            "search."
        )
    return clone(obj).fit(X, y, **params)


def _lost_members(obj: Any) -> list[str]:
    """Return the parameters whose estimator a clone of the object would reset."""
    params = {} if keeps_fit_when_cloned(obj) else obj.get_params()
    kept = tuple(f"{k}__" for k, v in params.items() if keeps_fit_when_cloned(v))
    return [
        name
        for name, value in params.items()
        if _loses_by_clone(value) and not name.startswith(kept)
    ]


def _is_fitted(obj: Any) -> bool:
    """Return whether scikit-learn takes the object as fitted."""
    try:
        check_is_fitted(obj)
    except NotFittedError:
        return False
    return True
