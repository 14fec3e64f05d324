"""What wrappers hand on of the distribution that the estimator inside predicts."""

import numpy as np
import pytest
import sklearn
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from small_estimators import ALL_ESTIMATORS, class_tasks, regression_tasks, small

from sklearn_meta import (
    AdaptedClassifier,
    AdaptedRegressor,
    DeepKernelRegressor,
    PooledRegressor,
    ProtoNetClassifier,
    adapt,
    adapt_tasks,
)
from sklearn_meta.distributions import ask, can_tell
from sklearn_meta.pipeline import make_meta_pipeline
from sklearn_meta.task_column import TaskColumnClassifier, TaskColumnRegressor

METHODS = ["predict_quantiles", "log_density", "sample_y"]
REGRESSORS = [cls for cls in ALL_ESTIMATORS if hasattr(cls, "log_density")]


@pytest.fixture(params=[False, True], ids=["routing off", "routing on"])
def routing(request):
    """Both states of scikit-learn's metadata routing."""
    with sklearn.config_context(enable_metadata_routing=request.param):
        yield request.param


@pytest.fixture
def tasks():
    """Six tasks with a number to predict."""
    return regression_tasks()


@pytest.fixture
def pipeline(tasks):
    """A pipeline of this package that has learned across tasks, not adapted."""
    return make_meta_pipeline(StandardScaler(), small(PooledRegressor)).fit(tasks)


def answers(model, X, y, **params):
    """Return all that a regressor says of rows."""
    return [
        *model.predict(X, return_std=True, **params),
        model.predict_quantiles(X, [0.1, 0.9], **params),
        model.log_density(X, y, **params),
    ]


def assert_all_equal(found, expected):
    """They are the same arrays."""
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- one task


@pytest.mark.parametrize("cls", REGRESSORS)
def test_get_metadata_routing_when_regressor_then_return_std_is_requested(cls):
    # Without it a pipeline cannot return an uncertainty, whatever its last step.
    requests = small(cls).get_metadata_routing().predict.requests
    assert requests == {"tasks": True, "return_std": True}


def test_meta_pipeline_when_adapted_then_says_what_its_last_step_says(
    pipeline, tasks, routing
):
    # Rows go through the transformers, and nothing gets lost.
    X, y = tasks[0]
    adapted = adapt(pipeline, X[:5], y[:5])
    expected = answers(adapted[-1], adapted[0].transform(X), y)
    assert_all_equal(answers(adapted, X, y), expected)
    assert_all_equal(answers(pipeline.adapt(X[:5], y[:5]), X, y), expected)


def test_meta_pipeline_when_adapted_to_tasks_then_takes_ids(pipeline, tasks, routing):
    # One call for the rows of many tasks.
    X, y, ids = tasks.to_flat()
    adapted = adapt_tasks(pipeline, tasks)
    expected = answers(adapted[-1], adapted[0].transform(X), y, tasks=ids)
    assert_all_equal(answers(adapted, X, y, tasks=ids), expected)


def test_stock_pipeline_when_adapted_then_predicts_with_uncertainty(tasks, routing):
    # It hands on what its last step requests.
    X, y, ids = tasks.to_flat()
    name = "tasks" if routing else "pooledregressor__tasks"
    stock = make_pipeline(StandardScaler(), small(PooledRegressor))
    model = adapt_tasks(stock.fit(X, y, **{name: ids}), X, y, ids)
    mean, std = model.predict(X, return_std=True, tasks=ids)
    np.testing.assert_array_equal(mean, model.predict(X, tasks=ids))
    assert (std > 0).all()


def test_adapted_regressor_when_a_stock_pipeline_is_inside_then_says_all(
    tasks, routing
):
    # The wrapper has the methods that the class Pipeline lacks.
    X, y, ids = tasks.to_flat()
    name = "tasks" if routing else "pooledregressor__tasks"
    stock = make_pipeline(StandardScaler(), small(PooledRegressor))
    stock.fit(X, y, **{name: ids})
    X, y = tasks[0]
    model = AdaptedRegressor(stock).fit(X[:5], y[:5])
    last = model.estimator_[-1]
    assert_all_equal(answers(model, X, y), answers(last, stock[0].transform(X), y))
    assert len(make_pipeline(model).predict(X, return_std=True)) == 2


def test_adapted_regressor_when_a_search_is_inside_then_asks_its_best(tasks):
    # What was tuned says as much as what it tuned.
    X, y = tasks[0]
    search = GridSearchCV(small(PooledRegressor), {}, cv=2).fit(regression_tasks(12))
    model = AdaptedRegressor(search).fit(X[:5], y[:5])
    best = adapt(search.best_estimator_, X[:5], y[:5])
    for method in ("predict_quantiles", "log_density"):
        args = (X, y) if method == "log_density" else (X,)
        expected = getattr(best, method)(*args)
        np.testing.assert_array_equal(getattr(model, method)(*args), expected)


def test_task_column_regressor_when_fitted_then_says_all(tasks, routing):
    # The ids are taken out of the rows for every question.
    X, y, ids = tasks.to_flat()
    numbers = np.unique(ids, return_inverse=True)[1]
    stock = make_pipeline(StandardScaler(), small(PooledRegressor))
    table = np.column_stack([X, numbers])
    model = TaskColumnRegressor(stock).fit(table, y)
    inside = model.estimator_
    expected = answers(inside[-1], inside[0].transform(X), y, tasks=numbers)
    assert_all_equal(answers(model, table, y), expected)
    assert len(make_pipeline(model).predict(table, return_std=True)) == 2


def test_sample_y_when_last_step_draws_functions_then_wrappers_do(tasks):
    # The same seed draws the same functions.
    X, y = tasks[0]
    kernel = small(DeepKernelRegressor)
    pipeline = make_meta_pipeline(StandardScaler(), kernel).fit(tasks)
    adapted = adapt(pipeline, X[:5], y[:5])
    rows = adapted[0].transform(X)
    expected = adapted[-1].sample_y(rows, n_samples=3, random_state=1)
    wrapped = AdaptedRegressor(pipeline).fit(X[:5], y[:5])
    for model in (adapted, wrapped):
        np.testing.assert_array_equal(model.sample_y(X, 3, 1), expected)


# ---------------------------------------------------------------- where there is none


@pytest.mark.parametrize("method", METHODS)
def test_methods_when_inside_has_none_then_wrappers_have_none(method):
    # Tools ask with hasattr.
    for model in (
        make_meta_pipeline(StandardScaler(), LinearRegression()),
        make_meta_pipeline(StandardScaler(), "passthrough"),
        AdaptedRegressor(make_pipeline(StandardScaler(), Ridge())),
        TaskColumnRegressor(Ridge()),
    ):
        assert not hasattr(model, method)


def test_can_tell_when_the_target_is_transformed_then_is_false():
    # Quantiles and densities of what is inside are in another unit.
    target = TransformedTargetRegressor(PooledRegressor(Ridge()))
    assert not can_tell(make_pipeline(StandardScaler(), target), "predict_quantiles")
    assert can_tell(make_pipeline(PooledRegressor(Ridge())), "predict_quantiles")


def test_ask_when_nothing_has_the_method_then_names_it():
    # As Python does for any object.
    with pytest.raises(AttributeError, match="Ridge.*log_density"):
        ask(make_pipeline(Ridge()), "log_density", [[0.0]], [0.0])


def test_methods_when_not_fitted_then_raise():
    # There is nothing to say yet.
    with pytest.raises(NotFittedError):
        AdaptedRegressor(PooledRegressor(Ridge())).log_density([[0.0]], [0.0])
    with pytest.raises(NotFittedError):
        make_meta_pipeline(PooledRegressor(Ridge())).predict_quantiles([[0.0]])


# ---------------------------------------------------------------- classes


def test_predict_log_proba_when_wrapped_then_is_the_logarithm(routing):
    # Scorers and users of scikit-learn expect it beside predict_proba.
    tasks = class_tasks()
    X, y, ids = tasks.to_flat()
    column = np.column_stack([X, np.unique(ids, return_inverse=True)[1]])
    pipeline = make_meta_pipeline(StandardScaler(), small(ProtoNetClassifier))
    pipeline.fit(tasks)
    for model, rows in (
        (pipeline.adapt(*tasks[0]), X),
        (AdaptedClassifier(pipeline).fit(*tasks[0]), X),
        (TaskColumnClassifier(small(ProtoNetClassifier)).fit(column, y), column),
    ):
        found = np.exp(model.predict_log_proba(rows))
        np.testing.assert_allclose(found, model.predict_proba(rows))


def test_predict_log_proba_when_inside_has_no_probabilities_then_is_missing():
    # Tools ask with hasattr.
    assert not hasattr(AdaptedClassifier(LinearSVC()), "predict_log_proba")
    assert hasattr(AdaptedClassifier(LogisticRegression()), "predict_log_proba")
