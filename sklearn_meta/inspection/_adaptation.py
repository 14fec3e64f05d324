"""What a regressor predicts along one feature, before and after it adapts."""

from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import is_regressor
from sklearn.compose import TransformedTargetRegressor
from sklearn.utils import _safe_indexing, check_scalar

from sklearn_meta.adaptation import adapt, has_prior, nested, without_support
from sklearn_meta.inspection._figure import axes_for
from sklearn_meta.tasks._stack import TableStack

# bands are mean ± so many standard deviations: 95 % of a Gaussian
BAND_WIDTH = 1.96


class Curve(NamedTuple):
    """Predictions along a grid."""

    mean: np.ndarray  # (n_grid,)
    std: np.ndarray | None  # (n_grid,), None if the model tells none


class AdaptationDisplay:
    """What a regressor predicts for one task, before it adapts to it and after.

    The prediction is drawn along one feature, with the support rows that the model
    adapted to. Before it adapts, a model predicts what all tasks have in common. Bands
    hold 95 % of the predicted distribution. It is recommended to use
    :meth:`from_estimator`.

    Parameters
    ----------
    grid : ndarray of shape (n_grid,)
        Values of the feature.
    after : Curve or (mean, std)
        Predictions of the adapted model, each of shape (n_grid,); std may be None.
    before : Curve or (mean, std), default=None
        Those of the model that knows no row of the task; None draws nothing.
    support : (array-like, array-like)
        Feature values and targets of the support rows.
    query : (array-like, array-like), default=None
        Those of rows that the model did not adapt to.
    feature_name : str, default="feature 0"
        What the feature is called.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that were drawn on.
    figure_ : matplotlib Figure
        Their figure.
    lines_ : dict of str to Line2D
        The mean "after", and "before" if there is one.
    bands_ : dict of str to FillBetweenPolyCollection
        The bands, of the models that tell a standard deviation.
    support_points_ : Line2D
        The support rows.
    query_points_ : Line2D or None
        The query rows.

    See Also
    --------
    ShotCurveDisplay : How the score grows with the support.

    Notes
    -----
    Most models learn with at least one support row in every episode, so what they say
    before the first is an extrapolation, and its band may be too narrow.

    Examples
    --------
    >>> from sklearn_meta import MAMLRegressor
    >>> from sklearn_meta.datasets import make_sinusoid_tasks
    >>> from sklearn_meta.inspection import AdaptationDisplay
    >>> tasks = make_sinusoid_tasks(n_tasks=20, random_state=0)
    >>> model = MAMLRegressor(max_iter=10, random_state=0).fit(tasks[:19])
    >>> X, y = tasks[19]
    >>> display = AdaptationDisplay.from_estimator(
    ...     model, X[:5], y[:5], X_query=X[5:], y_query=y[5:]
    ... )
    >>> sorted(display.lines_)
    ['after', 'before']
    """

    ax_: Any
    lines_: dict[str, Any]
    bands_: dict[str, Any]

    def __init__(
        self,
        *,
        grid: np.ndarray,
        after: Any,
        before: Any = None,
        support: Any,
        query: Any = None,
        feature_name: str = "feature 0",
    ) -> None:
        self.grid = grid
        self.after = after
        self.before = before
        self.support = support
        self.query = query
        self.feature_name = feature_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X_support: Any,
        y_support: Any,
        *,
        X_query: Any = None,
        y_query: Any = None,
        feature: Any = 0,
        before: Any = None,
        grid_resolution: int = 100,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Adapt a copy of a regressor to one task, and draw what it predicts.

        Parameters
        ----------
        estimator : estimator
            A fitted regressor that adapts, or a composite of one; an ordinary regressor
            is fitted on the support. It is not changed.
        X_support : array-like of shape (n_support, n_features)
            The labelled rows of the task.
        y_support : array-like of shape (n_support,)
            Their targets.
        X_query : array-like of shape (n_query, n_features), default=None
            More rows of the task to draw, with ``y_query``; the model does not see
            them, and they widen the grid.
        y_query : array-like of shape (n_query,), default=None
            Their targets.
        feature : int or str, default=0
            The position of the feature, or its name in a DataFrame. Other features are
            held at their median over the rows (the most frequent value, if they are not
            numbers).
        before : estimator, default=None
            A fitted regressor that predicts without the support. None: the model
            itself as it is without a row of the task, if it can tell.
        grid_resolution : int, default=100
            Points of the grid, at least 2.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        **kwargs : dict
            Handed to :meth:`plot`.

        Returns
        -------
        display : AdaptationDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator is no regressor.
        ValueError
            If there is no such feature, the grid has fewer than 2 points, or the rows
            are not what ``fit`` saw.
        """
        if not is_regressor(estimator):
            raise TypeError(
                f"Expected a regressor, got {estimator!r}: a class has no curve. Use "
                "TaskScoreDisplay or ShotCurveDisplay for classifiers."
            )
        check_scalar(grid_resolution, "grid_resolution", Integral, min_val=2)
        position, feature_name = _find_feature(X_support, feature)
        tables = [table for table in (X_support, X_query) if table is not None]
        grid, rows = _rows_along(tables, position, grid_resolution)
        if before is None and has_prior(estimator):
            before = without_support(estimator)
        display = cls(
            grid=grid,
            after=_predict(adapt(estimator, X_support, y_support), rows),
            before=None if before is None else _predict(before, rows),
            support=(_column(X_support, position), np.asarray(y_support)),
            query=None
            if X_query is None or y_query is None
            else (_column(X_query, position), np.asarray(y_query)),
            feature_name=feature_name,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        before_kw: dict | None = None,
        after_kw: dict | None = None,
    ) -> Self:
        """Draw both predictions and the rows of the task.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        before_kw : dict, default=None
            Handed to ``Axes.plot`` for the line before adapting.
        after_kw : dict, default=None
            The same for the line after it.

        Returns
        -------
        display : AdaptationDisplay
            The display itself, with its artists.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = axes_for(self, ax)
        self.lines_, self.bands_, self.query_points_ = {}, {}, None
        before = {
            "color": "C7",
            "linestyle": "--",
            "label": "before",
            **(before_kw or {}),
        }
        after = {"color": "C0", "label": "after", **(after_kw or {})}
        if self.before is not None:
            self._draw("before", self.before, before)
        self._draw("after", self.after, after)
        style = {"linestyle": "none", "color": "black", "zorder": 3}
        (self.support_points_,) = ax.plot(
            *self.support, marker="o", label="support", **style
        )
        if self.query is not None:
            (self.query_points_,) = ax.plot(
                *self.query, marker="o", fillstyle="none", label="query", **style
            )
        ax.set(xlabel=self.feature_name, ylabel="target")
        ax.legend()
        return self

    def _draw(self, name: str, curve: Any, style: dict) -> None:
        """Draw a mean and, if there is a standard deviation, its band."""
        mean, std = curve
        (line,) = self.ax_.plot(self.grid, mean, **style)
        self.lines_[name] = line
        if std is not None:
            low, high = mean - BAND_WIDTH * std, mean + BAND_WIDTH * std
            self.bands_[name] = self.ax_.fill_between(
                self.grid, low, high, color=line.get_color(), alpha=0.15, linewidth=0
            )


def _find_feature(X: Any, feature: Any) -> tuple[int, str]:
    """Return the position of a feature and what to call it."""
    names = X.columns.tolist() if hasattr(X, "columns") else []
    n_features = np.shape(X)[1] if np.ndim(X) == 2 else 0
    if feature in names:
        return names.index(feature), str(feature)
    if not isinstance(feature, (int, np.integer)) or not 0 <= feature < n_features:
        raise ValueError(
            f"Expected feature to be one of {names or n_features}, got {feature!r}."
        )
    return int(feature), str(names[feature]) if names else f"feature {feature}"


def _column(X: Any, position: int) -> np.ndarray:
    """Return one column of a table as numbers."""
    return np.asarray(_safe_indexing(_as_table(X), position, axis=1), dtype=float)


def _as_table(X: Any) -> Any:
    """Return rows as they are if they have columns by name, else as an array."""
    return X if hasattr(X, "iloc") else np.asarray(X)


def _rows_along(tables: list, position: int, resolution: int) -> tuple[np.ndarray, Any]:
    """Return a grid of one feature, and rows that differ in this feature only."""
    values = np.concatenate([_column(X, position) for X in tables])
    grid = np.linspace(values.min(), values.max(), resolution)
    stack = TableStack()
    for table, name in zip(tables, ("support", "query"), strict=False):
        stack.add(_as_table(table), name)
    table = stack.merge()
    if not hasattr(table, "iloc"):
        rows = np.tile(np.median(table, axis=0), (resolution, 1))
        rows[:, position] = grid
        return grid, rows
    rows = table.iloc[np.zeros(resolution, int)].reset_index(drop=True)
    for name in rows.columns:
        column = _safe_indexing(table, name, axis=1)
        numeric = column.dtype.kind in "iufb"
        rows[name] = column.median() if numeric else column.mode().iloc[0]
    rows[rows.columns[position]] = grid
    return grid, rows


def _predict(model: Any, rows: Any) -> Curve:
    """Return mean and, where the model tells it, standard deviation of rows."""
    if any(isinstance(part, TransformedTargetRegressor) for part in nested(model)):
        return Curve(model.predict(rows), None)  # it transforms means only
    try:
        return Curve(*model.predict(rows, return_std=True))
    except TypeError:  # its `predict` knows no such argument
        return Curve(model.predict(rows), None)
