"""The score of each task, of one model or of two."""

from typing import Any, Self

import numpy as np
from sklearn.utils import Bunch

from sklearn_meta.inspection._figure import (
    axes_for,
    is_negated,
    name_models,
    name_of_score,
)
from sklearn_meta.metrics import few_shot_score, paired_comparison
from sklearn_meta.metrics._comparison import mean_and_interval

# more names than this cannot be read
MAX_NAMED_TASKS = 40


class TaskScoreDisplay:
    """The score of a model on each task, or those of two models side by side.

    A mean over tasks hides which tasks are hard, and whether one model is better on
    most tasks or far better on a few. It is recommended to use :meth:`from_estimator`
    or :meth:`from_scores`.

    Parameters
    ----------
    scores : dict of str to array-like of shape (n_tasks,)
        Name and scores of one model, or of two on the same tasks and episodes.
    tasks : sequence of length n_tasks
        The names of the tasks.
    score_name : str, default="score"
        What the score axis is called.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that were drawn on.
    figure_ : matplotlib Figure
        Their figure.
    points_ : dict of str to Line2D
        The scores of each model, a point for each task.
    lines_ : LineCollection or None
        What joins the two scores of each task; None for one model.
    mean_lines_ : dict of str to Line2D
        The mean of each model.
    interval_ : Polygon or None
        The 95 % interval of the mean of one model; None for two, whose difference and
        its interval are in the title.

    See Also
    --------
    ShotCurveDisplay : The mean over tasks for several sizes of the support.
    sklearn_meta.metrics.paired_comparison : The difference of two models.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsRegressor
    >>> from sklearn_meta import MAMLRegressor
    >>> from sklearn_meta.datasets import make_sinusoid_tasks
    >>> from sklearn_meta.inspection import TaskScoreDisplay
    >>> tasks = make_sinusoid_tasks(n_tasks=20, random_state=0)
    >>> models = {
    ...     "MAML": MAMLRegressor(max_iter=10, random_state=0).fit(tasks[:15]),
    ...     "2 neighbours": KNeighborsRegressor(2),
    ... }
    >>> display = TaskScoreDisplay.from_estimator(models, tasks[15:], scoring="r2")
    >>> len(display.points_["MAML"].get_xdata())
    5
    """

    ax_: Any

    def __init__(
        self, *, scores: dict[str, Any], tasks: Any, score_name: str = "score"
    ) -> None:
        self.scores = scores
        self.tasks = tasks
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        estimators: Any,
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
        random_state: int = 0,
        negate_score: bool | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Score one model, or two, on new tasks, and draw the score of each task.

        Parameters
        ----------
        estimators : estimator, list of estimator, or dict of str to estimator
            One fitted model or two; ordinary estimators are fitted on the support of
            each task. A dict names them.
        X : TaskCollection, sequence of Task or (X, y), or array-like of shape \
(n_samples, n_features)
            New tasks, or their flat rows.
        y : array-like of shape (n_samples,), default=None
            Targets of flat rows; None with a sequence of tasks.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each flat row; None with a sequence of tasks.
        scoring : str, callable or None, default=None
            The metric, as in :func:`~sklearn_meta.metrics.few_shot_score`, like the
            next six.
        n_shots : int, default=5
            Support rows, per class if ``stratify``.
        n_queries : int, default=None
            Query rows, counted likewise; None takes all the rest.
        stratify : bool, default=None
            Whether rows are drawn and counted per class. None: yes for every
            classifier; for labels that all tasks share pass False, see the Notes of
            :func:`~sklearn_meta.metrics.few_shot_scorer`.
        order : {"random", "first"}, default="random"
            "first" takes the first rows of each task as support.
        n_episodes : int, default=1
            Draws of support and query rows per task.
        random_state : int, default=0
            Draws the rows, the same for both models.
        negate_score : bool, default=None
            Whether to draw the score with its sign turned. None: yes for a name that
            begins with ``neg_``, so that errors are positive.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to :meth:`plot`.

        Returns
        -------
        display : TaskScoreDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there are more than two models, or a task has too few rows.
        """
        models = name_models(estimators)
        results = {
            name: few_shot_score(
                model,
                X,
                y,
                tasks,
                scoring=scoring,
                n_shots=n_shots,
                n_queries=n_queries,
                stratify=stratify,
                order=order,
                n_episodes=n_episodes,
                random_state=random_state,
                return_tasks=True,
            )
            for name, model in models.items()
        }
        return cls.from_scores(
            results,
            negate_score=negate_score,
            score_name=name_of_score(scoring, models.values()),
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_scores(
        cls,
        results: dict[str, Bunch],
        *,
        negate_score: bool | None = None,
        score_name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw what ``few_shot_score(..., return_tasks=True)`` has returned.

        Parameters
        ----------
        results : dict of str to Bunch
            Name and result of one model, or of two on the same episodes.
        negate_score : bool, default=None
            Whether to draw the score with its sign turned. None: yes for a metric whose
            name begins with ``neg_``.
        score_name : str, default=None
            What the score axis is called; None takes the name of the metric.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to :meth:`plot`.

        Returns
        -------
        display : TaskScoreDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there are no or more than two results, or two of other episodes.
        """
        _check_one_or_two(results)
        if len(results) == 2:
            paired_comparison(*results.values())  # on the same episodes, or it raises
        first = next(iter(results.values()))
        scoring = first.episodes["scoring"]
        negate = is_negated(scoring) if negate_score is None else negate_score
        scores = {
            name: -r.scores if negate else r.scores for name, r in results.items()
        }
        if score_name is None:
            score_name = name_of_score(scoring)
        display = cls(scores=scores, tasks=first.tasks, score_name=score_name)
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw a point for each task and model, tasks in the order of their scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to ``Axes.plot`` for the points.

        Returns
        -------
        display : TaskScoreDisplay
            The display itself, with its artists.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are no or more than two models.
        """
        _check_one_or_two(self.scores)
        ax = axes_for(self, ax)
        table = np.array([np.asarray(s, dtype=float) for s in self.scores.values()])
        # two models: by how much the first is ahead of the second
        key = table[0] - table[1] if len(table) == 2 else table[0]
        order = np.argsort(key, kind="stable")
        rows = np.arange(len(order))
        self.lines_ = self.interval_ = None
        if len(table) == 2:
            self.lines_ = ax.hlines(rows, *table[:, order], color="0.75", zorder=1)
            self._describe_difference(key)
        else:
            interval = mean_and_interval(table[0])["interval"]
            self.interval_ = ax.axvspan(*interval, color="0.9", zorder=0)
        self.points_, self.mean_lines_ = {}, {}
        for name, scores in zip(self.scores, table[:, order], strict=True):
            style = {"linestyle": "none", "marker": "o", "label": name, **kwargs}
            (points,) = ax.plot(scores, rows, **style)
            mean = ax.axvline(np.nanmean(scores), color=points.get_color(), zorder=0)
            mean.set_linestyle("--")
            self.points_[name], self.mean_lines_[name] = points, mean
        few = len(order) <= MAX_NAMED_TASKS
        ax.set_yticks(rows if few else [], [self.tasks[i] for i in order] * few)
        ax.set(xlabel=self.score_name, ylabel="task")
        # beside the axes: every height in them is a task's, every mean a line across
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return self

    def _describe_difference(self, differences: np.ndarray) -> None:
        """Say in the title how far apart two models are."""
        first, second = self.scores
        found = mean_and_interval(differences)
        low, high = found["interval"]
        self.ax_.set_title(
            f"{first} − {second}: {found['mean']:.3g} ({low:.3g} to {high:.3g})",  # noqa: RUF001
            fontsize="medium",
        )


def _check_one_or_two(models: Any) -> None:
    """Raise unless there are one or two models."""
    if not 1 <= len(models) <= 2:
        raise ValueError(
            f"Expected one model or two, got {len(models)}. ShotCurveDisplay shows any "
            "number."
        )
