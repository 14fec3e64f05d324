"""`adapt` and `adapt_tasks` through scikit-learn's composites."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from toy_estimators import AdaptOnlyRegressor, CentroidClassifier, ShiftRegressor

from sklearn_meta.adaptation import adapt, adapt_tasks, innermost
from sklearn_meta.exceptions import FewTasksWarning
from sklearn_meta.metrics import few_shot_scorer
from sklearn_meta.tasks import TaskCollection


@pytest.fixture
def table(rng):
    X = rng.normal(5.0, 3.0, (40, 2))
    return X, X @ [1.0, -2.0] + 1.0


def composites(table):
    """Fit every composite that `adapt` knows around the same regressor."""
    X, y = table
    pipeline = make_pipeline(StandardScaler(), "passthrough", ShiftRegressor())
    return {
        "estimator": ShiftRegressor().fit(X, y),
        "pipeline": pipeline.fit(X, y),
        "target": TransformedTargetRegressor(
            ShiftRegressor(), transformer=StandardScaler()
        ).fit(X, y),
        "frozen": FrozenEstimator(ShiftRegressor().fit(X, y)),
        "nested": make_pipeline(
            MinMaxScaler(),
            TransformedTargetRegressor(
                make_pipeline(StandardScaler(), ShiftRegressor()),
                transformer=StandardScaler(),
            ),
        ).fit(X, y),
    }


NAMES = ["estimator", "pipeline", "target", "frozen", "nested"]


@pytest.mark.parametrize("name", NAMES)
def test_adapt_when_composite_then_prediction_is_that_on_the_original_scale(
    name, table
):
    # Support rows and targets must go through what is around the estimator.
    X, y = table
    adapted = adapt(composites(table)[name], X[:3], y[:3] + 7.0)
    np.testing.assert_allclose(adapted.predict(X), y + 7.0)


@pytest.mark.parametrize("name", NAMES)
def test_adapt_when_called_twice_then_objects_are_independent(name, table):
    # A server holds one fitted model and adapts it for many users.
    X, y = table
    model = composites(table)[name]
    first = adapt(model, X[:3], y[:3] + 7.0)
    second = adapt(model, X[:3], y[:3] - 7.0)
    np.testing.assert_allclose(first.predict(X) - second.predict(X), 14.0)
    assert not hasattr(innermost(model), "known_")
    assert type(first) is type(model)


@pytest.mark.parametrize("name", NAMES)
def test_adapt_tasks_when_composite_then_equals_adapt_of_each_task(name, table):
    # The vectorised call is an optimisation and must not be another model.
    X, y = table
    model = composites(table)[name]
    ids = np.repeat(["b", "a"], 20)
    shifted = y + np.where(ids == "a", 5.0, -5.0)
    together = adapt_tasks(model, X, shifted, ids).predict(X, tasks=ids)
    for name in "ab":
        own = ids == name
        alone = adapt(model, X[own], shifted[own]).predict(X[own])
        np.testing.assert_allclose(together[own], alone)


def test_adapt_when_pipeline_then_transformers_are_shared_and_steps_are_not(table):
    # Copies for thousands of tasks must cost one estimator each, not a pipeline.
    model = composites(table)["pipeline"]
    adapted = adapt(model, *(part[:3] for part in table))
    assert adapted[0] is model[0]
    assert adapted.steps is not model.steps
    assert adapted[-1] is not model[-1]


def test_adapt_when_search_then_best_estimator_is_adapted(table):
    # A fitted search is what a user has in hand after tuning.
    X, y = table
    search = GridSearchCV(
        LinearRegression(), {"fit_intercept": [True]}, cv=2, scoring="r2"
    ).fit(X, y)
    adapted = adapt(search, X[:5], 3 * y[:5])
    np.testing.assert_allclose(adapted.predict(X), 3 * y)
    np.testing.assert_allclose(search.predict(X), y)
    assert adapted.best_params_ == search.best_params_


def test_adapt_tasks_when_search_then_returns_the_best_estimator(table):
    # `predict` of a search takes no ids, so the search itself could not be asked.
    X, y = table
    labels = (y > np.median(y)).astype(int)
    scoring = few_shot_scorer("accuracy", n_shots=2)
    search = GridSearchCV(CentroidClassifier(), {}, scoring=scoring, cv=2)
    search.fit([(X, labels)] * 4)
    adapted = adapt_tasks(search, [(X, labels)])
    assert isinstance(adapted, CentroidClassifier)
    assert adapted.predict(X, tasks=[0] * 40).shape == (40,)


def test_adapt_when_search_kept_no_estimator_then_says_refit(table):
    # A search without refit has nothing that could be adapted.
    search = GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=2, refit=False).fit(*table)
    with pytest.raises(NotFittedError, match="refit=True"):
        adapt(search, *table)


def test_adapt_when_ordinary_estimator_then_fits_a_clone(table):
    # The same call makes the from-scratch baseline, fitted before or not.
    X, y = table
    model = Ridge(alpha=1e-9)
    np.testing.assert_allclose(adapt(model, X[:5], 2 * y[:5]).predict(X), 2 * y)
    assert not hasattr(model, "coef_")


def test_adapt_when_ordinary_pipeline_is_unfitted_then_fits_all_of_it(table):
    # Without earlier tasks the scaler too can only come from the support rows.
    X, y = table
    adapted = adapt(make_pipeline(StandardScaler(), Ridge()), X[:5], y[:5])
    np.testing.assert_allclose(adapted[0].mean_, X[:5].mean(0))


def test_adapt_when_ordinary_pipeline_is_fitted_then_keeps_its_transformers(table):
    # Preprocessing belongs to the training tasks.
    X, y = table
    model = make_pipeline(StandardScaler(), Ridge()).fit(X, y)
    assert adapt(model, X[:5], y[:5])[0] is model[0]


def test_adapt_when_frozen_ordinary_estimator_then_stays_as_it_is(table):
    # A frozen model of all tasks is the pooled baseline on the same episodes.
    X, y = table
    model = FrozenEstimator(LinearRegression().fit(X, y))
    np.testing.assert_allclose(adapt(model, X[:5], 9 * y[:5]).predict(X), y)


@pytest.mark.parametrize(
    "model",
    [
        ShiftRegressor(),
        make_pipeline(StandardScaler(), ShiftRegressor()),
        TransformedTargetRegressor(ShiftRegressor()),
        GridSearchCV(ShiftRegressor(), {}),
        FrozenEstimator(ShiftRegressor()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_adapt_when_not_fitted_then_says_what_to_call(model, table):
    # Adapting an unfitted model must not silently fit one on five rows.
    with pytest.raises(NotFittedError, match="not fitted yet: call `fit` with"):
        adapt(model, *table)
    with pytest.raises(NotFittedError, match="not fitted yet: call `fit` with"):
        adapt_tasks(model, *table, np.zeros(40))


def test_adapt_when_hidden_in_unknown_composite_then_refuses(table):
    # Refitting the composite would throw the meta-training away without a word.
    model = BaggingRegressor(ShiftRegressor())
    with pytest.raises(TypeError, match="inside of BaggingRegressor"):
        adapt(model, *table)


def test_adapt_tasks_when_there_is_no_such_method_then_points_to_adapt(table):
    # An ordinary estimator can only be fitted task by task.
    X, y = table
    for model in (Ridge().fit(X, y), AdaptOnlyRegressor().fit(X, y)):
        with pytest.raises(TypeError, match=r"`sklearn_meta\.adapt`"):
            adapt_tasks(model, X, y, np.zeros(40))


def test_adapt_tasks_when_collection_then_names_are_the_ids(table):
    # All three forms with tasks are taken, as in `fit`.
    X, y = table
    tasks = TaskCollection([(X, y + 3.0), (X, y)], names=["up", "as is"])
    adapted = adapt_tasks(ShiftRegressor().fit(X, y), tasks)
    np.testing.assert_allclose(adapted.predict(X[:1], tasks=["up"]), y[:1] + 3.0)


def test_adapt_tasks_when_a_task_has_no_rows_then_warns(table):
    # It cannot be predicted for afterwards, so it must not vanish unseen.
    X, y = table
    tasks = TaskCollection([(X, y), (X[:0], y[:0])], names=["full", "empty"])
    with pytest.warns(FewTasksWarning, match="1 of 2 tasks have no rows .* 'empty'"):
        adapted = adapt_tasks(ShiftRegressor().fit(X, y), tasks)
    assert list(adapted.known_) == ["full"]


def test_adapt_tasks_when_there_are_no_ids_then_says_how_to_pass_them(table):
    # Rows of many tasks taken for one task would give a wrong model.
    model = ShiftRegressor().fit(*table)
    with pytest.raises(ValueError, match="adapt_tasks got rows without task ids"):
        adapt_tasks(model, *table)


def test_adapt_when_many_threads_then_no_answer_is_of_another_task(table):
    # One fitted model serves all threads of a server.
    X, y = table
    model = composites(table)["nested"]

    def serve(shift):
        return adapt(model, X[:3], y[:3] + shift).predict(X[3:]) - y[3:]

    shifts = np.arange(400.0)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(serve, shifts))
    np.testing.assert_allclose(answers, np.tile(shifts[:, None], 37), atol=1e-8)
