"""Scores of one episode: adapt to tasks, predict their queries, apply a metric."""

import pickle
from collections.abc import Callable, Hashable
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples

from sklearn_meta.adaptation import adapt, adapt_tasks, innermost
from sklearn_meta.targets import log_probabilities
from sklearn_meta.tasks import TaskCollection


def score_one_by_one(
    estimator: Any, collection: TaskCollection, splits: list, scorer: Callable
) -> list[float]:
    """Adapt an object without `adapt_tasks` to one task after the other."""
    scores = []
    for task, (support, query) in zip(collection, splits, strict=True):
        X = task.X if hasattr(task.X, "iloc") else np.asarray(task.X)
        y = np.asarray(task.y)
        try:
            adapted = adapt(estimator, _safe_indexing(X, support), y[support])
            scorer_of_task = _with_labels(scorer, getattr(adapted, "classes_", None))
            score = scorer_of_task(adapted, _safe_indexing(X, query), y[query])
        except Exception as error:
            if is_classifier(estimator) and isinstance(error, ValueError):
                _raise_if_classes_lack(error, task.name, y[support], y[query])
            error.add_note(f"This happened in task {task.name!r}.")
            raise
        scores.append(score)
    return scores


def _raise_if_classes_lack(
    error: ValueError, name: Hashable, support: np.ndarray, query: np.ndarray
) -> None:
    """Raise an error with a way out where a support (n_support,) lacks classes."""
    known = np.unique(support).tolist()
    if len(known) > 1 and np.isin(query, support).all():
        return
    raise ValueError(
        f"In task {name!r}, whose support has rows of {known} only: "
        f"{str(error).rstrip('.')}. Draw supports of every class with stratify=True, "
        "raise n_shots, or drop the task."
    ) from error


def score_together(
    estimator: Any, collection: TaskCollection, splits: list, scorer: Callable
) -> list[float]:
    """Adapt to all tasks at once, predict at once, and score each task's slice."""
    if len(set(collection.names)) < len(collection):
        # a task that is drawn twice is two tasks
        collection = TaskCollection(collection, names=range(len(collection)))
    X, y, ids = collection.to_flat()
    sizes = [len(task) for task in collection]
    support = _join_rows([support for support, _ in splits], sizes)
    query = _join_rows([query for _, query in splits], sizes)
    adapted = adapt_tasks(
        estimator, _safe_indexing(X, support), y[support], ids[support]
    )
    responses = _Responses(adapted, _safe_indexing(X, query), ids[query])
    ends = np.cumsum([len(q) for _, q in splits])
    scores = []
    for name, (_, q), end in zip(collection.names, splits, ends, strict=True):
        rows = slice(end - len(q), end)
        view = _TaskView(responses, name, rows)
        score = _with_labels(scorer, getattr(view, "classes_", None))
        scores.append(score(view, view.X_, y[query[rows]]))
    return scores


def _join_rows(rows: list[np.ndarray], sizes: list[int]) -> np.ndarray:
    """Turn row numbers within each task into row numbers (n,) of the flat table."""
    starts = np.cumsum(sizes) - sizes
    return np.concatenate([own + at for own, at in zip(rows, starts, strict=True)])


class _Responses:
    """What an object that is adapted to many tasks says of all their queries.

    Each response is computed at its first use, for all tasks in one call.
    """

    def __init__(self, adapted: Any, X: Any, ids: np.ndarray) -> None:
        self.adapted, self.X, self.ids = adapted, X, ids
        self.tags = get_tags(adapted)
        self._known: dict[bytes, Any] = {}
        last = innermost(adapted)
        local = getattr(last, "label_mode_", None) == "task"
        self._task_classes = last.task_classes_ if local else None

    def get(self, method: str, rows: slice, args: tuple, kwargs: dict) -> Any:
        """Return some rows of the response of a method."""
        key = pickle.dumps((method, args, kwargs))
        if key not in self._known:
            self._known[key] = self.call(method, self.X, self.ids, args, kwargs)
        response = self._known[key]
        if isinstance(response, tuple):
            return tuple(part[rows] for part in response)
        return response[rows]

    def call(
        self, method: str, X: Any, ids: np.ndarray, args: tuple, kwargs: dict
    ) -> Any:
        """Call a method of the adapted object with the task of each row.

        Rows and ids are of shapes (n_rows, n_features) and (n_rows,).
        """
        return getattr(self.adapted, method)(X, *args, tasks=ids, **kwargs)

    def classes(self, name: Hashable) -> np.ndarray:
        """Return the classes that a task may have."""
        if self._task_classes is None:
            return self.adapted.classes_
        return self._task_classes[name]


def _adapted_has(method: str) -> Callable:
    """Return a check for `available_if`: whether the adapted object has a method."""
    return lambda self: hasattr(self._responses.adapted, method)


class _TaskView:
    """An adapted object as one of its tasks sees it, for scorers of scikit-learn."""

    def __init__(self, responses: _Responses, name: Hashable, rows: slice) -> None:
        self._responses, self._name, self._rows = responses, name, rows
        self.X_ = _safe_indexing(responses.X, rows)

    def __sklearn_tags__(self) -> Any:
        return self._responses.tags

    @property
    def classes_(self) -> np.ndarray:
        """The classes of the task."""
        return self._responses.classes(self._name)

    @available_if(_adapted_has("predict"))
    def predict(self, X: Any, *args: Any, **kwargs: Any) -> Any:
        """Predict rows of the task, of shape (n_rows, n_features)."""
        return self._respond("predict", X, *args, **kwargs)

    @available_if(_adapted_has("predict_quantiles"))
    def predict_quantiles(self, X: Any, *args: Any, **kwargs: Any) -> Any:
        """Predict quantiles for rows, of shape (n_rows, n_features)."""
        return self._respond("predict_quantiles", X, *args, **kwargs)

    @available_if(_adapted_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each class, of shape (n_rows, n_classes)."""
        # the other columns are classes of other tasks
        columns = np.searchsorted(self._responses.adapted.classes_, self.classes_)
        return self._respond("predict_proba", X)[:, columns]

    @available_if(_adapted_has("predict_proba"))
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict the logarithms of the probabilities, of that shape."""
        return log_probabilities(self.predict_proba(X))

    @available_if(_adapted_has("decision_function"))
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the decision function, in the shape that scikit-learn gives it."""
        return self._respond("decision_function", X)

    def _respond(self, method: str, X: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the known response to the queries, or ask for that to other rows."""
        if X is self.X_:
            return self._responses.get(method, self._rows, args, kwargs)
        ids = np.repeat(self._responses.ids[self._rows][:1], _num_samples(X))
        return self._responses.call(method, X, ids, args, kwargs)


def _with_labels(scorer: Any, classes: np.ndarray | None) -> Callable:
    """Return a scorer that knows the classes which the queries may lack.

    Metrics of `predict` average over the classes that they see, so theirs stay.
    """
    function = getattr(scorer, "_score_func", None)
    if function is None or classes is None or "labels" in scorer._kwargs:
        return scorer
    if scorer._response_method == "predict":
        return scorer
    if "labels" not in signature(function).parameters:
        return scorer
    return type(scorer)(
        function,
        scorer._sign,
        {**scorer._kwargs, "labels": classes},
        scorer._response_method,
    )
