"""Few-shot scores as a function, and as a scorer for scikit-learn's tools."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import get_scorer
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import _MetadataRequester

from sklearn_meta.adaptation import innermost
from sklearn_meta.metrics._adapted_tasks import score_one_by_one, score_together
from sklearn_meta.metrics._comparison import mean_and_interval
from sklearn_meta.metrics._episodes import Episodes, named_tasks, task_key
from sklearn_meta.tasks import TaskCollection, as_task_collection

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
        accuracy for classifiers, else r2. What a name does not say, such as the
        positive class of "f1" where labels are texts, says
        :func:`~sklearn.metrics.make_scorer`.
    n_shots : int, default=5
        Support rows: per class if ``stratify``, else per task. At least 1.
    n_queries : int, default=None
        Query rows, counted likewise; None takes all the rest.
    stratify : bool, default=None
        Whether rows are drawn and counted per class. None: yes for every classifier,
        so that each class has ``n_shots`` rows in the support, however rare it is. For
        labels that are shared by all tasks this is not how models are trained: pass
        False, which draws ``n_shots`` rows in all, without regard to class. See Notes.
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

    Where labels mean the same in every task (``label_mode="shared"``) and classes are
    not equally frequent, pass ``stratify=False``. The rows of a new task will come as
    they come, and models are trained so: on supports drawn without regard to class. A
    balanced support misleads them about how frequent each class is, which favours one
    pooled model that does not look at the support. With new classes in every task
    (``label_mode="task"``) the default is how models are trained.

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

    Shared labels, few of them "ill": four rows as they come, and F1 of the ill ones.

    >>> from sklearn.metrics import f1_score, make_scorer
    >>> from sklearn_meta import PooledClassifier
    >>> y = np.where(X.ravel() > 8, "ill", "well")
    >>> wards = TaskCollection([(X + shift, y) for shift in range(6)])
    >>> model = PooledClassifier().fit(wards[:5])
    >>> f1 = make_scorer(f1_score, pos_label="ill", zero_division=0.0)
    >>> scorer = few_shot_scorer(f1, n_shots=4, stratify=False)
    >>> bool(0.0 <= scorer(model, wards[5:]) <= 1.0)
    True
    """
    settings = Episodes(n_shots, n_queries, stratify, order, n_episodes, random_state)
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
        Whether rows are drawn and counted per class. None: yes for every classifier.
        For labels that are shared by all tasks this is not how models are trained: pass
        False, as the Notes of :func:`few_shot_scorer` explain.
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
    episodes = Episodes(n_shots, n_queries, stratify, order, n_episodes, random_state)
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
        **mean_and_interval(scores),
    )


class _FewShotScorer(_MetadataRequester):
    """What :func:`few_shot_scorer` returns."""

    # scikit-learn reads this only from a class with a method `score`: without one the
    # ids would never arrive
    __metadata_request__score = {"tasks": True}

    def __init__(self, scoring: Any, episodes: Episodes, aggregate: Any) -> None:
        if not callable(aggregate) and aggregate not in AGGREGATES:
            raise ValueError(
                f"Expected aggregate to be 'mean', 'median' or a callable, got "
                f"{aggregate!r}."
            )
        _check_scoring(scoring)
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
        """Return the score over tasks.

        Parameters
        ----------
        estimator : meta-estimator, Pipeline or estimator
            As of `few_shot_score`.
        X : TaskCollection, sequence of (X, y) or array-like
            Held-out tasks, or their rows of shape (n_rows, n_features).
        y : array-like of shape (n_rows,), default=None
            Targets, if not in X.
        tasks : array-like of shape (n_rows,), default=None
            The task of each row, if not in X.

        Returns
        -------
        score : float
            The mean over tasks.
        """
        return self.aggregate(self.task_scores(estimator, X, y, tasks)[1])

    def task_scores(
        self, estimator: Any, X: Any, y: Any, tasks: Any
    ) -> tuple[TaskCollection, np.ndarray]:
        """Return the tasks and the score of each, of shape (n_tasks,)."""
        collection = as_task_collection(X, y, tasks, caller=self.__name__)
        # a lazy collection is read once
        collection = TaskCollection(list(collection))
        keys = [task_key(name, task) for name, task in named_tasks(X, collection)]
        scorer = self._scoring
        if scorer is None:
            scorer = get_scorer("accuracy" if is_classifier(estimator) else "r2")
        vectorised = hasattr(innermost(estimator), "adapt_tasks")
        score_episode = score_together if vectorised else score_one_by_one
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


def _check_scoring(scoring: Any) -> None:
    """Raise if it is neither a name nor a callable of (estimator, X, y)."""
    if scoring is None or isinstance(scoring, str):
        return
    if not callable(scoring):
        raise ValueError(
            f"Expected scoring to be a name, a callable or None, got {scoring!r}. For "
            "several scores pass a dict of few-shot scorers to the tool that takes "
            "them."
        )
    try:
        signature(scoring).bind(None, None, None)
    except TypeError as error:
        name = getattr(scoring, "__name__", repr(scoring))
        raise ValueError(
            f"Expected scoring to be called as scoring(estimator, X, y), got {name}, "
            f"which is not ({error}). Of a metric of (y_true, y_pred) make a scorer: "
            f"scoring=make_scorer({name}), with greater_is_better=False if it is a "
            "loss."
        ) from error
    except ValueError:  # compiled code has no signature to look at
        return


def _nanmean(scores: np.ndarray) -> np.ndarray:
    """Return the mean over episodes of scores (n_episodes, n_tasks); nan if all are."""
    defined = ~np.isnan(scores)
    total = np.where(defined, scores, 0.0).sum(axis=0)
    counts = defined.sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
