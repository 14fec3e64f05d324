"""Scores of models that adapt: each task on its own support and query rows."""

import hashlib
import pickle
import warnings
from collections.abc import Callable, Hashable, Iterator
from dataclasses import asdict, dataclass
from inspect import signature
from numbers import Integral
from typing import Any

import numpy as np
from scipy import stats
from sklearn.base import is_classifier
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import get_scorer
from sklearn.utils import Bunch, _safe_indexing, get_tags
from sklearn.utils.metadata_routing import _MetadataRequester
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples

from sklearn_meta.adaptation import adapt, adapt_tasks, innermost
from sklearn_meta.tasks import (
    Task,
    TaskCollection,
    as_task_collection,
    support_query_indices,
)

__all__ = ["few_shot_score", "few_shot_scorer", "paired_comparison"]

AGGREGATES: dict[str, Callable] = {"mean": np.mean, "median": np.median}


def few_shot_scorer(
    scoring: Any = None,
    *,
    n_shots: int = 5,
    n_queries: int | None = None,
    stratify: bool | None = None,
    order: str = "random",
    n_episodes: int = 1,
    aggregate: Any = "mean",
    random_state: int = 0,
) -> "_FewShotScorer":
    """Make a scorer that adapts to each held-out task before it scores.

    scikit-learn's scorers cannot tell ``predict`` which task a row is from. This one
    splits each task into support and query rows, adapts to all supports at once,
    predicts all queries in one call, and hands each task's predictions to a metric
    of scikit-learn. The score is the mean over tasks: a large task counts as much as
    a small one.

    Parameters
    ----------
    scoring : str, callable or None, default=None
        Any of scikit-learn's scorer names, or ``scorer(estimator, X, y)``. None:
        accuracy for classifiers, else r2.
    n_shots : int, default=5
        Support rows: per class if ``stratify``, else per task. At least 1.
    n_queries : int, default=None
        Query rows, counted likewise; None takes all the rest.
    stratify : bool, default=None
        Whether rows are counted per class. None: yes for classifiers.
    order : {"random", "first"}, default="random"
        "first" takes the first rows of each task as support, for tables that grow in
        time.
    n_episodes : int, default=1
        Draws of support and query rows per task. At least 1.
    aggregate : {"mean", "median"} or callable, default="mean"
        Makes one number of an array of shape (n_tasks,), the scores of the tasks.
    random_state : int, default=0
        Draws the rows, together with the name of the task (its targets, if it has no
        name) and the number of the episode. So every candidate of a search is scored
        on the same episodes, whatever the fold, the order of the tasks and
        ``n_jobs``.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None, *, tasks=None)``, higher is better, for the
        ``scoring`` parameter of ``GridSearchCV``, ``cross_validate`` and others. It
        asks for ``tasks``, so that nothing is to be set under metadata routing.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    See Also
    --------
    few_shot_score : The same score of one fitted model, and the score of each task.

    Notes
    -----
    An estimator without ``adapt_tasks`` goes through
    :func:`sklearn_meta.adaptation.adapt` task by task: an ordinary one is fitted on
    the support rows of each task from scratch, which makes it a baseline on the same
    episodes.

    A score that is not defined, such as the area under the ROC curve of queries of
    one class, is nan. It is left out of the mean, and an
    :class:`~sklearn.exceptions.UndefinedMetricWarning` says of how many tasks.

    Where a probabilistic metric takes ``labels`` (log loss does), it gets the classes
    of the model, so that queries of one class alone can be scored.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn_meta.metrics import few_shot_scorer
    >>> from sklearn_meta.tasks import TaskCollection
    >>> X = np.arange(12.0).reshape(-1, 1)
    >>> tasks = TaskCollection([(X, slope * X.ravel()) for slope in range(1, 7)])
    >>> scorer = few_shot_scorer("r2", n_shots=3)
    >>> round(scorer(LinearRegression(), tasks), 3)
    1.0
    """
    settings = _Episodes(n_shots, n_queries, stratify, order, n_episodes, random_state)
    return _FewShotScorer(scoring, settings, aggregate)


def few_shot_score(
    estimator: Any,
    X: Any,
    y: Any = None,
    tasks: Any = None,
    *,
    scoring: Any = None,
    n_shots: int = 5,
    n_queries: int | None = None,
    stratify: bool | None = None,
    order: str = "random",
    n_episodes: int = 1,
    aggregate: Any = "mean",
    random_state: int = 0,
    return_tasks: bool = False,
) -> Any:
    """Score a model on tasks, each with its own support and query rows.

    Parameters
    ----------
    estimator : estimator
        A fitted model that adapts, or a composite of one; an ordinary estimator is
        fitted on the support rows of each task.
    X : TaskCollection, sequence of Task or (X, y), or array-like of shape \
(n_samples, n_features)
        The tasks to score on, or flat rows.
    y : array-like of shape (n_samples,), default=None
        Targets of flat rows; None with a sequence of tasks.
    tasks : array-like of shape (n_samples,), default=None
        Task id of each flat row; None with a sequence of tasks.
    scoring : str, callable or None, default=None
        As in :func:`few_shot_scorer`, like all that follow but the last.
    n_shots : int, default=5
        Support rows, per class if ``stratify``.
    n_queries : int, default=None
        Query rows, counted likewise; None takes all the rest.
    stratify : bool, default=None
        Whether rows are counted per class. None: yes for classifiers.
    order : {"random", "first"}, default="random"
        "first" takes the first rows of each task as support.
    n_episodes : int, default=1
        Draws of support and query rows per task.
    aggregate : {"mean", "median"} or callable, default="mean"
        Makes one number of the scores of the tasks.
    random_state : int, default=0
        Draws the rows, together with the name of the task.
    return_tasks : bool, default=False
        Whether to return the score of each task and what follows from them.

    Returns
    -------
    score : float or Bunch
        The score over tasks. With ``return_tasks=True`` a Bunch with:

        score : float
            The score over tasks, by ``aggregate``.
        scores : ndarray of shape (n_tasks,)
            The score of each task, its mean over episodes; nan where undefined.
        tasks : list of length n_tasks
            The names of the tasks.
        mean : float
            The mean over tasks, and ``standard_error`` of that mean.
        interval : tuple of float
            The 95 % interval of the mean, by Student's t over tasks.
        n_episodes : int
            As given.
        episodes : dict
            How the episodes were drawn; equal for comparable results.

    Raises
    ------
    ValueError
        If flat rows come without ids, a task has too few rows (the message names it)
        or a parameter is out of its range.

    See Also
    --------
    paired_comparison : Compare two models on the same episodes.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn_meta.metrics import few_shot_score
    >>> X = np.zeros((4, 1))
    >>> tasks = [(X, [1.0, 1.0, 1.0, 1.0]), (X, [2.0, 2.0, 4.0, 4.0])]
    >>> result = few_shot_score(
    ...     DummyRegressor(), tasks, scoring="neg_mean_absolute_error", n_shots=2,
    ...     order="first", return_tasks=True,
    ... )
    >>> result.scores.tolist(), result.mean
    ([0.0, -2.0], -1.0)
    """
    episodes = _Episodes(n_shots, n_queries, stratify, order, n_episodes, random_state)
    scorer = _FewShotScorer(scoring, episodes, aggregate)
    if not return_tasks:
        return scorer.score(estimator, X, y, tasks=tasks)
    collection, scores = scorer.task_scores(estimator, X, y, tasks)
    return Bunch(
        score=scorer.aggregate(scores),
        scores=scores,
        tasks=collection.names,
        n_episodes=n_episodes,
        episodes={**asdict(episodes), "scoring": scoring},
        **_mean_and_interval(scores),
    )


def paired_comparison(a: Any, b: Any) -> Bunch:
    """Compare two models task by task.

    Differences on the same episodes vary far less than the scores do, since a task
    that is hard for one model is hard for the other too.

    Parameters
    ----------
    a : Bunch or array-like of shape (n_tasks,)
        What :func:`few_shot_score` returns with ``return_tasks=True``, or scores.
    b : Bunch or array-like of shape (n_tasks,)
        That of the other model, on the same tasks and episodes.

    Returns
    -------
    comparison : Bunch
        With ``differences``, ndarray of shape (n_tasks,), the scores of ``a`` minus
        those of ``b``; their ``mean``, its ``standard_error`` and 95 % ``interval``
        by Student's t over tasks. Tasks that have no score in one of them are nan
        and left out.

    Raises
    ------
    ValueError
        If the results are of other tasks or of episodes drawn in another way.

    Examples
    --------
    >>> from sklearn_meta.metrics import paired_comparison
    >>> result = paired_comparison([0.9, 0.7, 0.5], [0.8, 0.6, 0.3])
    >>> result.mean, [round(end, 3) for end in result.interval]
    (0.133, [-0.01, 0.277])
    """
    if isinstance(a, Bunch) and isinstance(b, Bunch):
        for what in ("tasks", "episodes"):
            if a[what] != b[what]:
                raise ValueError(
                    f"Expected two results on the same {what}, got {a[what]} and "
                    f"{b[what]}."
                )
    first, second = (
        np.asarray(r.scores if isinstance(r, Bunch) else r, dtype=float) for r in (a, b)
    )
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"Expected a score of each task in both results, got arrays of shape "
            f"{first.shape} and {second.shape}."
        )
    differences = first - second
    return Bunch(differences=differences, **_mean_and_interval(differences))


@dataclass(frozen=True)
class _Episodes:
    """How tasks are split into support and query rows."""

    n_shots: int
    n_queries: int | None
    stratify: bool | None
    order: str
    n_episodes: int
    random_state: int

    def __post_init__(self) -> None:
        _check_integer("n_shots", self.n_shots, 1)
        _check_integer("n_episodes", self.n_episodes, 1)
        # a generator would give each candidate of a search other episodes
        _check_integer("random_state", self.random_state, 0)
        if self.n_queries is not None:
            _check_integer("n_queries", self.n_queries, 1)
        if self.order not in ("random", "first"):
            raise ValueError(
                f"Expected order to be 'random' or 'first', got {self.order!r}."
            )

    def split(
        self, task: Task, key: int, episode: int, stratify: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the support and query row numbers of one task."""
        return support_query_indices(
            task.y,
            n_shots=self.n_shots,
            n_queries=self.n_queries,
            stratify=stratify,
            order=self.order,
            random_state=np.random.RandomState([self.random_state, key, episode]),
            name=task.name,
        )


class _FewShotScorer(_MetadataRequester):
    """What :func:`few_shot_scorer` returns."""

    # scikit-learn reads this only from a class with a method `score`: without one the
    # ids would never arrive
    __metadata_request__score = {"tasks": True}

    def __init__(self, scoring: Any, episodes: _Episodes, aggregate: Any) -> None:
        if not callable(aggregate) and aggregate not in AGGREGATES:
            raise ValueError(
                f"Expected aggregate to be 'mean', 'median' or a callable, got "
                f"{aggregate!r}."
            )
        if scoring is not None and not isinstance(scoring, str):
            if not callable(scoring):
                raise ValueError(
                    f"Expected scoring to be a name, a callable or None, got "
                    f"{scoring!r}. For several scores pass a dict of few-shot scorers "
                    "to the tool that takes them."
                )
        self._scoring = scoring if scoring is None else get_scorer(scoring)
        self._episodes = episodes
        self._aggregate = aggregate
        name = getattr(scoring, "__name__", "score") if callable(scoring) else scoring
        self.__name__ = f"few_shot_{name or 'score'}"

    def __call__(
        self, estimator: Any, X: Any, y: Any = None, *, tasks: Any = None
    ) -> float:
        """Return the score over tasks, see `score`."""
        return self.score(estimator, X, y, tasks=tasks)

    def score(
        self, estimator: Any, X: Any, y: Any = None, *, tasks: Any = None
    ) -> float:
        """Return the score over tasks, in any of the forms of input with tasks."""
        return self.aggregate(self.task_scores(estimator, X, y, tasks)[1])

    def task_scores(
        self, estimator: Any, X: Any, y: Any, tasks: Any
    ) -> tuple[TaskCollection, np.ndarray]:
        """Return the tasks and the score of each, of shape (n_tasks,)."""
        collection = as_task_collection(X, y, tasks, caller=self.__name__)
        # a lazy collection is read once
        collection = TaskCollection(list(collection))
        keys = [_task_key(name, task) for name, task in _named(X, collection)]
        scorer = self._scoring
        if scorer is None:
            scorer = get_scorer("accuracy" if is_classifier(estimator) else "r2")
        vectorised = hasattr(innermost(estimator), "adapt_tasks")
        score_episode = _score_together if vectorised else _score_one_by_one
        scores = [
            score_episode(estimator, collection, splits, scorer)
            for splits in self._splits(estimator, collection, keys)
        ]
        return collection, _nanmean(np.array(scores, dtype=float))

    def aggregate(self, scores: np.ndarray) -> float:
        """Return one number for the scores of the tasks, of shape (n_tasks,)."""
        defined = ~np.isnan(scores)
        if not defined.all():
            warnings.warn(
                f"{self.__name__} is undefined in {np.sum(~defined)} of {len(scores)} "
                "tasks, which are left out of it. Ask for more query rows, or for "
                "another metric.",
                UndefinedMetricWarning,
                stacklevel=3,
            )
        if not defined.any():
            return float("nan")
        return float(AGGREGATES.get(self._aggregate, self._aggregate)(scores[defined]))

    def _splits(
        self, estimator: Any, collection: TaskCollection, keys: list[int]
    ) -> Iterator[list]:
        """Yield for each episode the support and query row numbers of all tasks."""
        stratify = self._episodes.stratify
        # numeric targets that happen to be whole look like labels: ask the model
        stratify = is_classifier(estimator) if stratify is None else stratify
        for episode in range(self._episodes.n_episodes):
            yield [
                self._episodes.split(task, key, episode, stratify)
                for task, key in zip(collection, keys, strict=True)
            ]

    def __repr__(self) -> str:
        """Show what is scored and how."""
        return f"few_shot_scorer({self._scoring!r}, {self._episodes!r})"


def _score_one_by_one(
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
            error.add_note(f"This happened in task {task.name!r}.")
            raise
        scores.append(score)
    return scores


def _score_together(
    estimator: Any, collection: TaskCollection, splits: list, scorer: Callable
) -> list[float]:
    """Adapt to all tasks at once, predict at once, and score each task's slice."""
    X, y, ids = collection.to_flat()
    names = collection.names
    if len(set(names)) < len(names):  # two tasks of one name are still two tasks
        names = list(range(len(names)))
        ids = np.repeat(names, [len(task) for task in collection])
    starts = np.cumsum([0, *(len(task) for task in collection)])[:-1]
    support = np.concatenate(
        [s + at for at, (s, _) in zip(starts, splits, strict=True)]
    )
    query = np.concatenate([q + at for at, (_, q) in zip(starts, splits, strict=True)])
    adapted = adapt_tasks(
        estimator, _safe_indexing(X, support), y[support], ids[support]
    )
    responses = _Responses(adapted, _safe_indexing(X, query), ids[query])
    ends = np.cumsum([len(q) for _, q in splits])
    scores = []
    for name, (_, q), end in zip(names, splits, ends, strict=True):
        rows = slice(end - len(q), end)
        view = _TaskView(responses, name, rows)
        score = _with_labels(scorer, getattr(view, "classes_", None))
        scores.append(score(view, view.X_, y[query[rows]]))
    return scores


class _Responses:
    """What an object that is adapted to many tasks says of all their queries.

    Each response is computed at its first use, for all tasks in one call.
    """

    def __init__(self, adapted: Any, X: Any, ids: np.ndarray) -> None:
        self.adapted, self.X, self.ids = adapted, X, ids
        self.tags = get_tags(adapted)
        self._known: dict[bytes, Any] = {}

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
        """Call a method of the adapted object with the task of each row."""
        return getattr(self.adapted, method)(X, *args, tasks=ids, **kwargs)

    def classes(self, name: Hashable) -> np.ndarray:
        """Return the classes that a task may have."""
        last = innermost(self.adapted)
        if getattr(last, "label_mode_", None) == "task":
            return last.task_classes_[name]
        return self.adapted.classes_


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
        """Predict rows of the task."""
        return self._respond("predict", X, *args, **kwargs)

    @available_if(_adapted_has("predict_quantiles"))
    def predict_quantiles(self, X: Any, *args: Any, **kwargs: Any) -> Any:
        """Predict quantiles for rows of the task."""
        return self._respond("predict_quantiles", X, *args, **kwargs)

    @available_if(_adapted_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each class of the task."""
        # columns beyond the task's own classes belong to tasks with more of them
        return self._respond("predict_proba", X)[:, : len(self.classes_)]

    @available_if(_adapted_has("predict_proba"))
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict the logarithm of the probability of each class of the task."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    @available_if(_adapted_has("decision_function"))
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the decision function of rows of the task."""
        return self._respond("decision_function", X)

    def _respond(self, method: str, X: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the known response to the queries, or ask for that to other rows."""
        if X is self.X_:
            return self._responses.get(method, self._rows, args, kwargs)
        ids = np.repeat(self._responses.ids[self._rows][:1], _num_samples(X))
        return self._responses.call(method, X, ids, args, kwargs)


def _with_labels(scorer: Callable, classes: np.ndarray | None) -> Callable:
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


def _named(X: Any, collection: TaskCollection) -> Iterator[tuple[Hashable, Task]]:
    """Yield each task with its name, None where that is only its place in a list."""
    kept = isinstance(X, TaskCollection) or hasattr(X, "shape") or hasattr(X, "iloc")
    for position, task in enumerate(collection):
        named = kept or getattr(X[position], "name", None) is not None
        yield (task.name if named else None), task


def _task_key(name: Hashable, task: Task) -> int:
    """Return a number for a task that is the same in every process and fold."""
    if name is None:
        content = repr(np.asarray(task.y).tolist())
    else:
        content = repr(name.item() if isinstance(name, np.generic) else name)
    digest = hashlib.blake2b(content.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def _nanmean(scores: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of what is not nan; nan if all is."""
    defined = ~np.isnan(scores)
    total = np.where(defined, scores, 0.0).sum(axis=0)
    counts = defined.sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _mean_and_interval(scores: np.ndarray) -> dict[str, Any]:
    """Return the mean over tasks, its standard error and its 95 % interval."""
    scores = scores[~np.isnan(scores)]
    n = len(scores)
    if n < 2:  # the spread between tasks is unknown
        mean = float(scores[0]) if n else float("nan")
        return {"mean": mean, "standard_error": np.nan, "interval": (np.nan, np.nan)}
    mean = float(np.mean(scores))
    error = float(np.std(scores, ddof=1) / np.sqrt(n))
    half = float(stats.t.ppf(0.975, n - 1)) * error
    return {
        "mean": mean,
        "standard_error": error,
        "interval": (mean - half, mean + half),
    }


def _check_integer(name: str, value: Any, low: int) -> None:
    """Raise if a parameter is no whole number or too small."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise ValueError(
            f"Expected {name} to be an int of at least {low}, got {value!r}."
        )
