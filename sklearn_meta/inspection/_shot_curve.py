"""Scores against the number of support rows."""

from typing import Any, Self

import numpy as np
from sklearn.base import is_classifier

from sklearn_meta.inspection._figure import (
    axes_for,
    is_negated,
    name_models,
    name_of_score,
)
from sklearn_meta.metrics import few_shot_score
from sklearn_meta.metrics._comparison import mean_and_interval


class ShotCurveDisplay:
    """How the score on new tasks grows with the number of their support rows.

    Each point is the mean over tasks, with its 95 % interval. All models adapt to the
    same support rows. It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    n_shots : array-like of shape (n_sizes,)
        Support rows, per class where the episodes are stratified.
    scores : dict of str to array-like of shape (n_sizes, n_tasks)
        Name of each model and its score on each task.
    score_name : str, default="score"
        What the score axis is called.
    shots_name : str, default="support rows"
        What the axis of the support rows is called.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that were drawn on.
    figure_ : matplotlib Figure
        Their figure.
    errorbars_ : dict of str to ErrorbarContainer
        Means and intervals of each model.
    lines_ : dict of str to Line2D
        The line through the means of each model.

    See Also
    --------
    TaskScoreDisplay : The score of each task.
    sklearn_meta.metrics.few_shot_score : Where the scores come from.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsRegressor
    >>> from sklearn_meta import MAMLRegressor
    >>> from sklearn_meta.datasets import make_sinusoid_tasks
    >>> from sklearn_meta.inspection import ShotCurveDisplay
    >>> tasks = make_sinusoid_tasks(n_tasks=20, random_state=0)
    >>> models = {
    ...     "MAML": MAMLRegressor(max_iter=10, random_state=0).fit(tasks[:15]),
    ...     "2 neighbours": KNeighborsRegressor(2),
    ... }
    >>> display = ShotCurveDisplay.from_estimator(
    ...     models, tasks[15:], n_shots=[2, 5, 10], scoring="neg_mean_absolute_error"
    ... )
    >>> display.ax_.get_ylabel()
    'mean absolute error'
    """

    def __init__(
        self,
        *,
        n_shots: Any,
        scores: dict[str, Any],
        score_name: str = "score",
        shots_name: str = "support rows",
    ) -> None:
        self.n_shots = n_shots
        self.scores = scores
        self.score_name = score_name
        self.shots_name = shots_name

    @classmethod
    def from_estimator(
        cls,
        estimators: Any,
        X: Any,
        y: Any = None,
        tasks: Any = None,
        *,
        n_shots: Any = (1, 2, 5, 10),
        scoring: Any = None,
        n_queries: int | None = None,
        stratify: bool | None = None,
        order: str = "random",
        n_episodes: int = 1,
        random_state: int = 0,
        negate_score: bool | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Score models on new tasks with more and more support rows, and draw it.

        Parameters
        ----------
        estimators : estimator, list of estimator, or dict of str to estimator
            Fitted models that adapt, composites of them, or ordinary estimators, which
            are fitted on the support of each task. A dict names them.
        X : TaskCollection, sequence of Task or (X, y), or array-like of shape \
(n_samples, n_features)
            New tasks, or their flat rows.
        y : array-like of shape (n_samples,), default=None
            Targets of flat rows; None with a sequence of tasks.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each flat row; None with a sequence of tasks.
        n_shots : int or array-like of shape (n_sizes,), default=(1, 2, 5, 10)
            Support rows, per class if ``stratify``.
        scoring : str, callable or None, default=None
            The metric, as in :func:`~sklearn_meta.metrics.few_shot_score`, like the
            next five.
        n_queries : int, default=None
            Query rows; None takes all the rest, which is fewer for a larger support.
        stratify : bool, default=None
            Whether rows are drawn and counted per class. None: yes for every
            classifier; for labels that all tasks share pass False, see the Notes of
            :func:`~sklearn_meta.metrics.few_shot_scorer`.
        order : {"random", "first"}, default="random"
            "first" takes the first rows of each task as support.
        n_episodes : int, default=1
            Draws of support and query rows per task.
        random_state : int, default=0
            Draws the rows, the same for all models.
        negate_score : bool, default=None
            Whether to draw the score with its sign turned. None: yes for a name that
            begins with ``neg_``, so that errors are positive.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to :meth:`plot`.

        Returns
        -------
        display : ShotCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If a task has too few rows for the largest support; the message names it.
        """
        models, shots = name_models(estimators), np.atleast_1d(n_shots).tolist()
        negate = is_negated(scoring) if negate_score is None else negate_score
        settings = {
            "scoring": scoring,
            "n_queries": n_queries,
            "stratify": stratify,
            "order": order,
            "n_episodes": n_episodes,
            "random_state": random_state,
            "return_tasks": True,
        }
        scores = {
            name: np.array(
                [
                    few_shot_score(model, X, y, tasks, n_shots=n, **settings).scores
                    for n in shots
                ]
            )
            for name, model in models.items()
        }
        scores = {name: -s if negate else s for name, s in scores.items()}
        per_class = stratify
        if stratify is None:
            per_class = all(is_classifier(model) for model in models.values())
        display = cls(
            n_shots=shots,
            scores=scores,
            score_name=name_of_score(scoring, models.values()),
            shots_name="support rows per class" if per_class else "support rows",
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw a line with intervals for each model.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to ``Axes.errorbar`` for every model.

        Returns
        -------
        display : ShotCurveDisplay
            The display itself, with its artists.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the scores of a model are not of shape (n_sizes, n_tasks).
        """
        ax = axes_for(self, ax)
        shots = np.asarray(self.n_shots, dtype=float)
        self.errorbars_, self.lines_ = {}, {}
        for i, (name, scores) in enumerate(self.scores.items()):
            mean, half = _means_and_half_widths(name, scores, len(shots))
            # side by side, so that intervals of one size do not hide each other
            place = shots * 1.02 ** (i - (len(self.scores) - 1) / 2)
            style = {"marker": "o", "capsize": 3, "label": name, **kwargs}
            self.errorbars_[name] = ax.errorbar(place, mean, yerr=half, **style)
            self.lines_[name] = self.errorbars_[name].lines[0]
        ax.set_xscale("log")
        ax.set_xticks(shots, [f"{n:g}" for n in shots])
        ax.set_xticks([], minor=True)
        ax.set(xlabel=self.shots_name, ylabel=self.score_name)
        ax.legend()
        return self


def _means_and_half_widths(
    name: str, scores: Any, n_sizes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over tasks for each size, and half the width of its interval."""
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2 or len(scores) != n_sizes:
        raise ValueError(
            f"Expected the scores of {name!r} to be of shape ({n_sizes}, n_tasks), a "
            f"row for each of n_shots, got {scores.shape}."
        )
    found = [mean_and_interval(row) for row in scores]
    mean = np.array([f["mean"] for f in found])
    return mean, np.array([f["interval"][1] for f in found]) - mean
