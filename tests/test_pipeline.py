"""MetaPipeline: a Pipeline that takes tasks in every form and adapts."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from toy_estimators import CentroidClassifier, ShiftRegressor

from sklearn_meta import (
    MetaEmbedding,
    ModelBasedMetaRegressor,
    RidgeHeadRegressor,
    adapt,
)
from sklearn_meta.exceptions import FewTasksWarning
from sklearn_meta.metrics import few_shot_score
from sklearn_meta.pipeline import MetaPipeline, make_meta_pipeline
from sklearn_meta.tasks import TaskCollection


@pytest.fixture
def lines(rng):
    """Six tasks of one line, each with a shift of its own."""
    tables = [rng.normal(4.0, 2.0, size=(12, 2)) for _ in range(6)]
    tasks = [(X, X @ [1.0, 2.0] + 5 * rng.normal()) for X in tables]
    return TaskCollection(tasks, names=list("abcdef"))


def pipeline():
    return make_meta_pipeline(StandardScaler(), ShiftRegressor())


@pytest.mark.parametrize("routing", [False, True], ids=["off", "on"])
def test_fit_when_forms_differ_then_models_are_equal(routing, lines):
    # The three forms with tasks are one input, whatever the setting.
    X, y, ids = lines.to_flat()
    with sklearn.config_context(enable_metadata_routing=routing):
        models = [
            pipeline().fit(lines),
            pipeline().fit(list(lines)),
            pipeline().fit(X, y, tasks=ids),
        ]
    for model in models:
        assert model[-1].n_tasks_ == 6
        np.testing.assert_allclose(model[0].mean_, X.mean(0))
        np.testing.assert_allclose(model[-1].line_.coef_, models[0][-1].line_.coef_)


def test_fit_when_one_table_then_is_a_stock_pipeline(lines):
    # One table has no tasks and goes through as ever.
    X, y = lines[0]
    model = make_meta_pipeline(StandardScaler(), LinearRegression()).fit(X, y)
    np.testing.assert_allclose(model.predict(X), y)
    assert model.score(X, y) == pytest.approx(1.0)
    assert not hasattr(model, "adapt")


@pytest.mark.parametrize("method", ["fit", "adapt_tasks"])
def test_methods_when_a_task_has_no_rows_then_warn(method, lines):
    # The rows of all tasks become one table, in which an empty one cannot be seen.
    model, (X, y) = pipeline().fit(lines), lines[0]
    tasks = TaskCollection([*lines, (X[:0], y[:0])], names=list("abcdefg"))
    with pytest.warns(FewTasksWarning, match="1 of 7 tasks have no rows .* 'g'"):
        getattr(model, method)(tasks)


def test_fit_when_last_step_takes_no_tasks_then_raises(lines):
    # Dropping the ids would fit another model than the one asked for.
    with pytest.raises(
        TypeError, match=r"LinearRegression\(\), .* use PooledRegressor"
    ):
        make_meta_pipeline(StandardScaler(), LinearRegression()).fit(lines)
    with pytest.raises(TypeError, match=r"use PooledClassifier.* a MetaEmbedding"):
        make_meta_pipeline(LogisticRegression()).fit(lines)
    with pytest.raises(TypeError, match=r"got StandardScaler\(\), .*: add one"):
        make_meta_pipeline(StandardScaler()).fit(lines)
    with pytest.raises(TypeError, match="got 'passthrough'"):
        make_meta_pipeline(StandardScaler(), "passthrough").fit(lines)


def test_fit_when_an_ordinary_step_follows_an_embedding_then_works(lines):
    # A transformer has use for the tasks: no reason to complain of the last step.
    embedding = MetaEmbedding(RidgeHeadRegressor(max_iter=2), random_state=0)
    model = make_meta_pipeline(embedding, LinearRegression()).fit(lines)
    assert np.isfinite(model.predict(lines[0].X)).all()


def test_fit_when_two_tasks_have_one_name_then_raises(lines):
    # Their rows would be fitted as those of one task, without a word.
    with pytest.raises(ValueError, match="Two tasks are named 'a'"):
        pipeline().fit(lines[[0, 0, 1]])


def test_adapt_when_called_then_is_in_place_and_returns_self(lines):
    # As the method of an estimator does.
    model = pipeline().fit(lines)
    X, y = lines[0]
    assert model.adapt(X[:3], y[:3] + 9.0) is model
    other = adapt(model, X[:3], y[:3])
    assert type(other) is MetaPipeline
    np.testing.assert_allclose(model.predict(X) - other.predict(X), 9.0)


def test_adapt_when_it_fails_then_pipeline_stays_as_it_was(lines):
    # A request with bad rows must not break the next one.
    model = pipeline().fit(lines)
    X, y = lines[0]
    expected = model.adapt(X, y).predict(X)
    with pytest.raises(ValueError, match="3 features"):
        model.adapt(np.zeros((4, 3)), np.zeros(4))
    np.testing.assert_array_equal(model.predict(X), expected)


def test_adapt_tasks_when_called_then_predicts_rows_of_any_task(lines):
    # Rows come in any order, each with the id of its task.
    model = pipeline().fit(lines).adapt_tasks(lines)
    X, y, ids = lines.to_flat()
    order = np.random.default_rng(0).permutation(len(y))
    for row in order[:5]:
        alone = adapt(model, *lines[lines.names.index(ids[row])]).predict(
            X[row : row + 1]
        )
        np.testing.assert_allclose(
            model.predict(X[row : row + 1], tasks=ids[row : row + 1]), alone
        )


def test_score_when_forms_differ_then_is_the_score_of_the_last_step(lines):
    # `score` takes what `fit` takes.
    X, y, ids = lines.to_flat()
    model = make_meta_pipeline(
        StandardScaler(), ModelBasedMetaRegressor(max_iter=3, random_state=0)
    ).fit(lines)
    expected = model[-1].score(model[0].transform(X), y, tasks=ids)
    assert model.score(lines) == model.score(X, y, tasks=ids) == expected


def test_score_when_last_step_is_a_composite_then_is_on_its_own_scale(lines):
    # The targets that are scored are those that were given.
    target = TransformedTargetRegressor(ShiftRegressor(), transformer=StandardScaler())
    model = make_meta_pipeline(StandardScaler(), target).fit(lines)
    # a line through scaled targets is the same line
    expected = few_shot_score(pipeline().fit(lines), lines)
    assert model.score(lines) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore::sklearn_meta.exceptions.FewTasksWarning")
def test_grid_search_when_collection_then_needs_no_setting(lines):
    # The promise of the package: no option, no routing, no request.
    search = GridSearchCV(
        make_meta_pipeline(
            StandardScaler(), ModelBasedMetaRegressor(max_iter=3, random_state=0)
        ),
        {"modelbasedmetaregressor__lr": [0.001, 0.01]},
        cv=2,
    ).fit(lines)
    assert np.isfinite(search.best_score_)
    assert np.isfinite(search.score(lines))


def test_adapt_when_not_fitted_then_says_what_to_call(lines):
    # Its transformers know no rows yet.
    with pytest.raises(NotFittedError, match="call `fit`"):
        pipeline().adapt(*lines[0])
    with pytest.raises(NotFittedError, match="call `fit`"):
        pipeline().adapt_tasks(lines)


def test_adapt_tasks_when_rows_have_no_ids_then_says_how_to_pass_them(lines):
    # Rows of many tasks are not one task.
    X, y, _ = lines.to_flat()
    with pytest.raises(ValueError, match="without task ids"):
        pipeline().fit(lines).adapt_tasks(X, y)


def test_pipeline_when_cloned_pickled_and_shown_then_is_whole(lines):
    # What any scikit-learn object can do.
    model = pipeline().fit(lines)
    X, y = lines[0]
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        adapt(loaded, X[:3], y[:3]).predict(X), adapt(model, X[:3], y[:3]).predict(X)
    )
    assert not hasattr(clone(model)[-1], "line_")
    assert "ShiftRegressor" in estimator_html_repr(model)
    assert is_regressor(model)
    assert is_classifier(make_meta_pipeline(CentroidClassifier()))


def test_make_meta_pipeline_when_options_are_given_then_are_kept(tmp_path):
    # The transformers of a long search can be cached.
    model = make_meta_pipeline(StandardScaler(), memory=str(tmp_path), verbose=True)
    assert model.memory == str(tmp_path) and model.verbose
    assert list(model.named_steps) == ["standardscaler"]
