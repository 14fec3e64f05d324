"""A pipeline that takes tasks in every form and adapts its last step."""

from collections.abc import Callable
from typing import Any

from sklearn import config_context
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline, _name_estimators
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import has_fit_parameter

from sklearn_meta.adaptation import adapt, adapt_tasks, before_last_step, innermost
from sklearn_meta.distributions import InnerDistributionMixin, ask
from sklearn_meta.metrics import few_shot_score
from sklearn_meta.tasks import as_task_collection, flatten_tasks, is_task_sequence

__all__ = ["MetaPipeline", "make_meta_pipeline"]


def _innermost_has(method: str) -> Callable:
    """Return a check for `available_if`: whether the last estimator has a method."""
    return lambda self: hasattr(innermost(self), method)


class MetaPipeline(InnerDistributionMixin, Pipeline):
    """A Pipeline whose last step learns across tasks.

    It is scikit-learn's ``Pipeline``, and adds that ``fit`` and ``score`` take a
    collection of tasks, that it has ``adapt``, and ``predict_quantiles``,
    ``log_density`` and ``sample_y`` where its last step has them. The transformers are
    fitted on the rows of all training tasks and never on those of a new task. With flat
    rows a stock ``Pipeline`` does as well, see Notes.

    Parameters
    ----------
    steps : list of (str, estimator)
        Names and estimators: transformers, then an estimator that learns across tasks
        or a ``TransformedTargetRegressor`` around one.
    transform_input : list of str, default=None
        As in ``Pipeline``.
    memory : str or object with the joblib.Memory interface, default=None
        Caches the fitted transformers.
    verbose : bool, default=False
        Whether the time of each step is printed.

    See Also
    --------
    make_meta_pipeline : Make one without naming the steps.
    sklearn_meta.adaptation.adapt : Get an independent adapted object.

    Notes
    -----
    A stock ``Pipeline`` takes flat rows with ``fit(X, y, tasks=ids)`` under
    ``sklearn.set_config(enable_metadata_routing=True)``, and with
    ``fit(X, y, <last step>__tasks=ids)`` without; it is adapted by
    :func:`sklearn_meta.adaptation.adapt`. It has no way to take a collection, whose
    rows its transformers would have to find.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_meta import MAMLRegressor
    >>> from sklearn_meta.pipeline import MetaPipeline
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(20, 2))
    >>> tasks = [(X, X @ rng.normal(size=2)) for _ in range(8)]
    >>> steps = [
    ...     ("scale", StandardScaler()), ("meta", MAMLRegressor(max_iter=5))
    ... ]
    >>> model = MetaPipeline(steps).fit(tasks)
    >>> model.adapt(X[:5], X[:5, 0]).predict(X[5:]).shape
    (15,)
    """

    def fit(
        self, X: Any, y: Any = None, tasks: Any = None, **params: Any
    ) -> "MetaPipeline":
        """Fit the transformers on all rows, then the last step on tasks.

        Parameters
        ----------
        X : TaskCollection, sequence of Task or (X, y), or array-like of shape \
(n_samples, n_features)
            The tasks, flat rows of tasks, or one table.
        y : array-like of shape (n_samples,), default=None
            Targets of flat rows; None with a sequence of tasks.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each flat row.
        **params : dict
            As in ``Pipeline.fit``; with tasks, named as under metadata routing.

        Returns
        -------
        self : object
            Fitted.

        Raises
        ------
        TypeError
            If there are tasks, and no step that learns across tasks.
        """
        X, y, tasks = _flat_rows(X, y, tasks)
        if tasks is None:
            return super().fit(X, y, **params)
        # the last step's class asks for `tasks`, at any depth: routing brings it there
        with config_context(enable_metadata_routing=True):
            self._check_learns_across_tasks()
            return super().fit(X, y, tasks=tasks, **params)

    @available_if(_innermost_has("adapt"))
    def adapt(self, X_support: Any, y_support: Any) -> "MetaPipeline":
        """Adapt the last step to one task, in place.

        Parameters
        ----------
        X_support : array-like of shape (n_support, n_features)
            The known rows of the task, before any transformer.
        y_support : array-like of shape (n_support,)
            Their targets.

        Returns
        -------
        self : object
            Adapted. :func:`sklearn_meta.adaptation.adapt` leaves it as it is and
            returns another object.

        Raises
        ------
        NotFittedError
            If the pipeline is not fitted.
        """
        self.steps = adapt(self, X_support, y_support).steps
        return self

    @available_if(_innermost_has("adapt_tasks"))
    def adapt_tasks(self, X: Any, y: Any = None, tasks: Any = None) -> "MetaPipeline":
        """Adapt the last step to many tasks at once, in place.

        Parameters
        ----------
        X : TaskCollection, sequence of Task or (X, y), or array-like of shape \
(n_samples, n_features)
            The support rows of all tasks, before any transformer.
        y : array-like of shape (n_samples,), default=None
            Targets of flat rows.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each flat row.

        Returns
        -------
        self : object
            Adapted: ``predict(X, tasks=ids)`` now knows these tasks.

        Raises
        ------
        NotFittedError
            If the pipeline is not fitted.
        ValueError
            If flat rows come without ids.
        """
        self.steps = adapt_tasks(self, X, y, tasks).steps
        return self

    def score(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        tasks: Any = None,
        **params: Any,
    ) -> float:
        """Return the score of the last step on tasks, or on rows of an adapted one.

        Parameters
        ----------
        X : TaskCollection, sequence of Task or (X, y), or array-like of shape \
(n_samples, n_features)
            The tasks to score on, flat rows of tasks, or query rows of the task that
            the pipeline is adapted to.
        y : array-like of shape (n_samples,), default=None
            Targets of flat rows; None with a sequence of tasks.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; only without tasks.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each flat row.
        **params : dict
            As in ``Pipeline.score``.

        Returns
        -------
        score : float
            The last step's own score. With tasks and a composite as the last step,
            that of :func:`sklearn_meta.metrics.few_shot_score` with its defaults.
        """
        X, y, tasks = _flat_rows(X, y, tasks)
        if tasks is None:
            return super().score(X, y, sample_weight, **params)
        if innermost(self) is not self.steps[-1][1]:
            return few_shot_score(self, X, y, tasks)
        with config_context(enable_metadata_routing=True):
            return super().score(X, y, tasks=tasks, **params)

    def _inside(self) -> Any:
        return self.steps[-1][1]

    def _ask(self, method: str, X: Any, *args: Any, **params: Any) -> Any:
        rows = before_last_step(self, X)
        return ask(self._inside(), method, rows, *args, **params)

    def _check_learns_across_tasks(self) -> None:
        """Raise where no step has a use for the tasks; metadata routing is on."""
        last = innermost(self)
        # a last step that takes them and did not ask is told so by scikit-learn
        takes_tasks = hasattr(last, "fit") and has_fit_parameter(last, "tasks")
        if takes_tasks or self.get_metadata_routing().consumes("fit", ["tasks"]):
            return
        remedy = "add one"
        if hasattr(last, "predict"):
            pooled = "PooledClassifier" if is_classifier(last) else "PooledRegressor"
            remedy = f"use {pooled}({last!r}), or put a MetaEmbedding before it"
        raise TypeError(
            f"Expected a last step that learns across tasks, got {last!r}, whose fit "
            f"has no use for tasks: {remedy}. Without tasks, fit(X, y) takes one table."
        )


def make_meta_pipeline(
    *steps: Any, transform_input: Any = None, memory: Any = None, verbose: bool = False
) -> MetaPipeline:
    """Make a MetaPipeline whose steps are named after their types.

    Parameters
    ----------
    *steps : list of estimators
        Transformers, then the estimator that learns across tasks.
    transform_input : list of str, default=None
        As in ``make_pipeline``.
    memory : str or object with the joblib.Memory interface, default=None
        Caches the fitted transformers.
    verbose : bool, default=False
        Whether the time of each step is printed.

    Returns
    -------
    pipeline : MetaPipeline
        Not fitted yet.

    See Also
    --------
    MetaPipeline : Names its steps.

    Examples
    --------
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_meta import ProtoNetClassifier
    >>> from sklearn_meta.pipeline import make_meta_pipeline
    >>> list(make_meta_pipeline(StandardScaler(), ProtoNetClassifier()).named_steps)
    ['standardscaler', 'protonetclassifier']
    """
    return MetaPipeline(
        _name_estimators(steps),
        transform_input=transform_input,
        memory=memory,
        verbose=verbose,
    )


def _flat_rows(X: Any, y: Any, tasks: Any) -> tuple[Any, Any, Any]:
    """Return a sequence of tasks as flat rows with ids, anything else as it is."""
    if not is_task_sequence(X):
        return X, y, tasks
    return flatten_tasks(as_task_collection(X, caller="MetaPipeline"))
