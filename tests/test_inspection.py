"""Displays: what is drawn is what the scores and the models say."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import is_regressor
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler
from small_estimators import (
    all_small,
    class_tasks,
    name_of,
    outputs,
    regression_tasks,
    small,
)
from toy_estimators import ShiftRegressor

from sklearn_meta import (
    MAMLRegressor,
    PooledRegressor,
    ProtoNetClassifier,
    TaskCollection,
    TaskEnsembleRegressor,
    adapt,
)
from sklearn_meta.adaptation import without_support
from sklearn_meta.inspection import (
    AdaptationDisplay,
    ShotCurveDisplay,
    TaskScoreDisplay,
)
from sklearn_meta.inspection._adaptation import _rows_along
from sklearn_meta.metrics import few_shot_score, paired_comparison
from sklearn_meta.pipeline import make_meta_pipeline

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _closed_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture
def tasks():
    return regression_tasks(8)


@pytest.fixture
def models(tasks):
    """A model that adapts and one that is fitted on each support."""
    return {"line": ShiftRegressor().fit(tasks), "near": KNeighborsRegressor(1)}


# ---------------------------------------------------------------- shots


def test_shot_curve_when_drawn_then_shows_means_and_intervals(tasks, models):
    # The picture must say what few_shot_score says, on the same episodes.
    metric, shots = "neg_mean_absolute_error", [1, 2, 5]
    display = ShotCurveDisplay.from_estimator(
        models, tasks, n_shots=shots, scoring=metric
    )
    for name, model in models.items():
        results = [
            few_shot_score(model, tasks, n_shots=n, scoring=metric, return_tasks=True)
            for n in shots
        ]
        means = display.lines_[name].get_ydata()
        np.testing.assert_allclose(means, [-r.mean for r in results])
        (bars,) = display.errorbars_[name].lines[2]
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(
            ends, [[-e for e in r.interval[::-1]] for r in results]
        )
    assert display.ax_.get_ylabel() == "mean absolute error"
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["1", "2", "5"]


def test_shot_curve_when_there_is_one_size_then_it_may_be_a_number(tasks, models):
    # As for every other tool.
    display = ShotCurveDisplay.from_estimator(models, tasks, n_shots=2)
    assert display.n_shots == [2] and display.scores["near"].shape == (1, 8)


def test_shot_curve_when_given_axes_then_draws_on_them(tasks, models):
    # As all displays of scikit-learn do, also with a score that is no error.
    _, ax = plt.subplots()
    display = ShotCurveDisplay.from_estimator(
        models["line"], tasks, n_shots=(2,), ax=ax, color="red"
    )
    assert display.ax_ is ax and display.figure_ is ax.figure
    assert display.lines_["ShiftRegressor"].get_color() == "red"
    score = few_shot_score(models["line"], tasks, n_shots=2)
    np.testing.assert_allclose(display.lines_["ShiftRegressor"].get_ydata(), [score])
    again = display.plot()
    assert again is display and display.ax_ is not ax


def test_shot_curve_when_one_task_lacks_a_score_then_leaves_it_out():
    # A score may be undefined on a task.
    scores = {"a": [[1.0, np.nan, 3.0]]}
    display = ShotCurveDisplay(n_shots=[5], scores=scores).plot()
    assert display.lines_["a"].get_ydata().tolist() == [2.0]


def test_shot_curve_when_scores_do_not_fit_then_says_how(tasks, models):
    # The rows of a table are easily its columns.
    with pytest.raises(
        ValueError, match=r"'a' to be of shape \(2, n_tasks\).*\(3, 2\)"
    ):
        ShotCurveDisplay(n_shots=[1, 2], scores={"a": np.zeros((3, 2))}).plot()
    twins = [models["line"], models["line"]]
    with pytest.raises(ValueError, match="Pass a dict of names"):
        ShotCurveDisplay.from_estimator(twins, tasks)


# ---------------------------------------------------------------- tasks


def test_task_scores_when_two_models_then_joins_the_scores_of_a_task(tasks, models):
    # Pairs are sorted by their difference, and the title tells its mean.
    display = TaskScoreDisplay.from_estimator(models, tasks, n_shots=3, scoring="r2")
    results = [
        few_shot_score(m, tasks, n_shots=3, scoring="r2", return_tasks=True)
        for m in models.values()
    ]
    difference = paired_comparison(*results)
    order = np.argsort(difference.differences)
    for points, mean, result in zip(
        display.points_.values(), display.mean_lines_.values(), results, strict=True
    ):
        np.testing.assert_allclose(points.get_xdata(), result.scores[order])
        assert mean.get_xdata()[0] == pytest.approx(result.mean)
    ends = np.array([segment[:, 0] for segment in display.lines_.get_segments()])
    np.testing.assert_allclose(ends.T, [r.scores[order] for r in results])
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert names == [tasks.names[i] for i in order]
    assert f"line − near: {difference.mean:.3g} (" in display.ax_.get_title()  # noqa: RUF001


def test_task_scores_when_one_model_then_shows_the_interval_of_the_mean(tasks, models):
    # There is no second model to join it with.
    result = few_shot_score(
        models["line"], tasks, scoring="neg_mean_squared_error", return_tasks=True
    )
    display = TaskScoreDisplay.from_scores({"line": result})
    assert display.lines_ is None
    box = display.interval_.get_extents().transformed(display.ax_.transData.inverted())
    np.testing.assert_allclose(sorted(-np.array(result.interval)), [box.x0, box.x1])
    assert display.points_["line"].get_xdata().tolist() == sorted(-result.scores)


def test_task_scores_when_there_are_many_tasks_then_names_are_left_out():
    # A thousand names are a black bar.
    rng = np.random.default_rng(0)
    display = TaskScoreDisplay(scores={"a": rng.normal(size=100)}, tasks=range(100))
    assert display.plot().ax_.get_yticklabels() == []


@pytest.mark.parametrize("n_tasks", [1, 2, 5])
def test_task_scores_when_there_are_few_tasks_then_the_legend_hides_none(n_tasks):
    # A legend over the one line of a task would hide what the picture is about.
    scores = {"a model": np.arange(n_tasks), "another": np.ones(n_tasks)}
    display = TaskScoreDisplay(scores=scores, tasks=range(n_tasks)).plot()
    display.figure_.draw_without_rendering()
    legend = display.ax_.get_legend().get_window_extent()
    axes, figure = display.ax_.get_window_extent(), display.figure_.bbox
    assert axes.x1 <= legend.x0 and legend.x1 <= figure.x1


def test_task_scores_when_results_cannot_be_paired_then_raises(tasks, models):
    # Scores on other episodes differ by chance.
    results = {
        n: few_shot_score(models["line"], tasks, n_shots=n, return_tasks=True)
        for n in (2, 3)
    }
    with pytest.raises(ValueError, match="same episodes"):
        TaskScoreDisplay.from_scores(results)
    with pytest.raises(ValueError, match="one model or two, got 3"):
        TaskScoreDisplay.from_estimator({**models, "ridge": Ridge()}, tasks)
    with pytest.raises(ValueError, match="one model or two, got 0"):
        TaskScoreDisplay.from_scores({})


# ---------------------------------------------------------------- adaptation


def test_adaptation_when_drawn_then_shows_both_predictions(tasks):
    # Before is the model without a row of the task, after is adapt.
    model = small(MAMLRegressor).fit(tasks)
    X, y = tasks[0]
    display = AdaptationDisplay.from_estimator(
        model, X[:4], y[:4], X_query=X[4:], y_query=y[4:], feature=1, grid_resolution=7
    )
    rows = np.column_stack([np.full(7, np.median(X[:, 0])), display.grid])
    assert (display.grid[0], display.grid[-1]) == (X[:, 1].min(), X[:, 1].max())
    for name, expected in (
        ("before", without_support(model)),
        ("after", adapt(model, X[:4], y[:4])),
    ):
        mean, std = outputs(expected, rows).T
        np.testing.assert_allclose(display.lines_[name].get_ydata(), mean)
        band = display.bands_[name].get_paths()[0].vertices
        assert band[:, 1].max() == pytest.approx((mean + 1.96 * std).max())
    assert display.support_points_.get_xdata().tolist() == X[:4, 1].tolist()
    assert display.query_points_.get_ydata().tolist() == y[4:].tolist()
    assert not hasattr(model, "adapted_")


def test_adaptation_when_model_tells_no_std_then_draws_lines_only(tasks):
    # An ordinary regressor knows nothing before it is fitted, unless one is given.
    X, y = tasks[0]
    display = AdaptationDisplay.from_estimator(LinearRegression(), X, y)
    assert list(display.lines_) == ["after"] and display.bands_ == {}
    pooled = Ridge().fit(*tasks.to_flat()[:2])
    style = {"after_kw": {"color": "red"}, "before_kw": {"label": "all"}}
    display = AdaptationDisplay.from_estimator(Ridge(), X, y, before=pooled, **style)
    assert list(display.lines_) == ["before", "after"] and display.bands_ == {}
    assert display.lines_["after"].get_color() == "red"
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["all", "after", "support"]


def test_adaptation_when_the_target_is_transformed_then_draws_lines_only(tasks):
    # scikit-learn's wrapper turns means back, and knows of nothing else.
    target = TransformedTargetRegressor(ShiftRegressor(), transformer=StandardScaler())
    model = make_meta_pipeline(StandardScaler(), target).fit(tasks)
    X, y = tasks[0]
    display = AdaptationDisplay.from_estimator(model, X[:4], y[:4])
    assert list(display.lines_) == ["after"] and display.bands_ == {}


def test_adaptation_when_rows_are_a_frame_then_the_feature_has_a_name(tasks):
    # And a pipeline is reached into, to show what it says before.
    frames = [(pd.DataFrame({"dose": X[:, 0], "age": X[:, 1]}), y) for X, y in tasks]
    model = make_meta_pipeline(StandardScaler(), small(TaskEnsembleRegressor))
    model.fit(TaskCollection(frames))
    X, y = frames[0]
    display = AdaptationDisplay.from_estimator(model, X[:4], y[:4], feature="age")
    assert display.ax_.get_xlabel() == "age"
    assert list(display.bands_) == ["before", "after"]
    assert not hasattr(model[-1], "adapted_")


def test_rows_along_when_features_are_of_all_kinds_then_holds_typical_ones():
    # The median of a number, the most frequent of anything else.
    frame = pd.DataFrame(
        {"x": [1.0, 3.0], "site": ["b", "b"], "n": [2, 4], "on": [True, True]}
    )
    grid, rows = _rows_along([frame, frame.assign(x=9.0)], 0, 3)
    assert grid.tolist() == rows["x"].tolist() == [1.0, 5.0, 9.0]
    assert rows[["site", "n"]].to_numpy().tolist() == [["b", 3.0]] * 3
    assert list(rows.columns) == list(frame.columns)


def test_rows_along_when_frame_or_array_then_queries_count_among_the_typical():
    # The other features are typical of all rows that are drawn.
    support = pd.DataFrame({"x": [0.0, 1.0], "age": [10.0, 20.0]})
    query = pd.DataFrame({"x": [2.0] * 3, "age": [40.0] * 3})
    _, rows = _rows_along([support, query], 0, 2)
    _, table = _rows_along([support.to_numpy(), query.to_numpy()], 0, 2)
    assert rows["age"].tolist() == table[:, 1].tolist() == [40.0, 40.0]


@pytest.mark.parametrize("feature", ["height", 2, -1, None])
def test_adaptation_when_there_is_no_such_feature_then_raises(tasks, feature):
    # A curve along another feature would mislead.
    X, y = tasks[0]
    with pytest.raises(ValueError, match="Expected feature to be one of 2, got"):
        AdaptationDisplay.from_estimator(Ridge(), X, y, feature=feature)


def test_adaptation_when_the_grid_has_no_two_points_then_raises(tasks):
    # A point is no curve.
    with pytest.raises(ValueError, match="grid_resolution == 1, must be >= 2"):
        AdaptationDisplay.from_estimator(Ridge(), *tasks[0], grid_resolution=1)


def test_adaptation_when_it_is_a_classifier_then_names_other_displays():
    # A class has no curve.
    X, y = class_tasks()[0]
    with pytest.raises(TypeError, match="Expected a regressor.*TaskScoreDisplay"):
        AdaptationDisplay.from_estimator(ProtoNetClassifier(), X, y)


# ---------------------------------------------------------------- all


def test_axes_when_nothing_is_said_then_name_the_own_score_and_what_is_counted(tasks):
    # "score" and "rows" leave the reader guessing.
    classes = class_tasks()
    model = small(ProtoNetClassifier).fit(classes)
    of_classes = ShotCurveDisplay.from_estimator(model, classes, n_shots=[1, 2]).ax_
    assert of_classes.get_xlabel() == "support rows per class"
    assert of_classes.get_ylabel() == "accuracy"
    of_numbers = ShotCurveDisplay.from_estimator(Ridge(), tasks, n_shots=[1, 2]).ax_
    assert (of_numbers.get_xlabel(), of_numbers.get_ylabel()) == ("support rows", "R²")
    points = TaskScoreDisplay.from_estimator(Ridge(), tasks, n_shots=2).ax_
    assert points.get_xlabel() == "R²"


def test_without_support_when_model_is_adapted_then_forgets_the_task(tasks):
    # What a model says before a task cannot depend on the last one.
    model = small(MAMLRegressor).fit(tasks)
    X = tasks[0].X
    expected = outputs(without_support(model), X)
    before = pickle.dumps(outputs(model.adapt(*tasks[0]), X))
    np.testing.assert_array_equal(outputs(without_support(model), X), expected)
    assert pickle.dumps(outputs(model, X)) == before
    # no step is taken without a row
    idle = small(MAMLRegressor).fit(tasks).set_params(adapt_steps=0)
    mean = idle.adapt(*tasks[0]).predict(X)
    np.testing.assert_allclose(expected[:, 0], mean)


@pytest.mark.parametrize(
    "estimator",
    [e for e in all_small() if is_regressor(e)],
    ids=name_of,
)
def test_without_support_of_any_regressor_then_is_what_all_tasks_have_in_common(
    estimator, tasks
):
    # The picture of an adaptation needs both sides of it.
    estimator.fit(tasks).adapt(*tasks[0])
    X = tasks[1].X
    prior = outputs(without_support(estimator), X)
    assert np.isfinite(prior).all()
    fixed = isinstance(estimator, PooledRegressor) and estimator.correction == "none"
    assert np.allclose(prior, outputs(estimator, X)) == fixed
    np.testing.assert_allclose(outputs(without_support(estimator), X), prior)


def test_import_when_matplotlib_is_missing_then_only_drawing_needs_it():
    # Plots are an optional extra.
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from sklearn_meta.inspection import ShotCurveDisplay\n"
        "try:\n    ShotCurveDisplay(n_shots=[1], scores={}).plot()\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ShotCurveDisplay.plot requires matplotlib" in done.stdout, done.stderr
