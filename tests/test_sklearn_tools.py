"""scikit-learn's own tools, with a collection of tasks and with flat rows."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.impute import SimpleImputer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.utils import Bunch, estimator_html_repr

from sklearn_meta import (
    MAMLClassifier,
    MAMLRegressor,
    ModelBasedMetaClassifier,
    ModelBasedMetaRegressor,
    NotAdaptedError,
    ProtoNetClassifier,
    adapt,
    adapt_tasks,
)
from sklearn_meta.metrics import few_shot_scorer
from sklearn_meta.model_selection import TaskKFold
from sklearn_meta.pipeline import make_meta_pipeline
from sklearn_meta.tasks import TaskCollection

SMALL = {"max_iter": 5, "meta_batch_size": 4, "random_state": 0}
ROUTES = ["collection", "flat rows"]


def tiny(cls, **params):
    """Return an estimator whose fit takes a moment."""
    if cls in (MAMLClassifier, MAMLRegressor):
        params = {"hidden_layer_sizes": (8,), "inner_steps": 1, **params}
    return cls(**SMALL, **params)


def line_tasks():
    """Twelve tasks: one line, a shift for each."""
    rng = np.random.default_rng(0)
    tables = [rng.normal(size=(14, 3)) for _ in range(12)]
    return TaskCollection([(X, X[:, 0] + 3 * rng.normal()) for X in tables])


def class_tasks():
    """Twelve tasks: the classes "no" and "yes", on sides of their own."""
    rng = np.random.default_rng(0)
    tasks = []
    for _ in range(12):
        y = np.repeat(["no", "yes"], 10)
        centre = 2 * rng.normal(size=(2, 3))
        tasks.append((centre[np.repeat([0, 1], 10)] + rng.normal(size=(20, 3)), y))
    return TaskCollection(tasks)


def mixed_frame_tasks():
    """Twelve tasks as DataFrames with text and missing values."""
    rng = np.random.default_rng(0)
    tasks = []
    for X, y in line_tasks():
        frame = pd.DataFrame(X, columns=["a", "b", "c"])
        frame.loc[::5, "b"] = np.nan
        frame["kind"] = rng.choice(["x", "y", "z"], len(frame))
        tasks.append((frame, y))
    return TaskCollection(tasks)


@pytest.fixture(params=ROUTES)
def route(request):
    """Give a function that turns tasks into what one route of input needs."""
    flat_rows = request.param == "flat rows"

    def prepare(tasks):
        if not flat_rows:
            return Bunch(X=tasks, y=None, params={}, cv=3, flat=False)
        X, y, ids = tasks.to_flat()
        return Bunch(X=X, y=y, params={"tasks": ids}, cv=TaskKFold(3), flat=True)

    with sklearn.config_context(enable_metadata_routing=flat_rows):
        yield prepare


def preprocess_and(data, *steps):
    """Return a stock pipeline for flat rows, a MetaPipeline for a collection."""
    return (make_pipeline if data.flat else make_meta_pipeline)(*steps)


CASES = [
    (ProtoNetClassifier, class_tasks, "lr"),
    (MAMLClassifier, class_tasks, "inner_lr"),
    (ModelBasedMetaClassifier, class_tasks, "lr"),
    (MAMLRegressor, line_tasks, "inner_lr"),
    (ModelBasedMetaRegressor, line_tasks, "lr"),
]


@pytest.mark.parametrize("scoring", [None, few_shot_scorer(n_shots=3)], ids=["own", ""])
@pytest.mark.parametrize(("cls", "make_tasks", "name"), CASES)
def test_grid_search_when_tasks_are_given_then_is_adapted(
    cls, make_tasks, name, scoring, route
):
    # The main way to choose parameters, for every estimator.
    tasks = make_tasks()
    data = route(tasks)
    search = GridSearchCV(tiny(cls), {name: [0.01, 0.1]}, cv=data.cv, scoring=scoring)
    search.fit(data.X, data.y, **data.params)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    X, y = tasks[0]
    adapted = adapt(search, X[5:], y[5:])
    assert adapted.predict(X[:5]).shape == (5,)
    assert adapted.best_estimator_.n_tasks_ == 12


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_randomized_search_when_n_jobs_varies_then_finds_the_same(n_jobs, route):
    # Workers must draw the same episodes.
    data = route(line_tasks())
    search = RandomizedSearchCV(
        tiny(MAMLRegressor),
        {"inner_lr": [0.001, 0.01, 0.1]},
        n_iter=2,
        random_state=0,
        cv=data.cv,
        scoring=few_shot_scorer("neg_mean_squared_error"),
        n_jobs=n_jobs,
    ).fit(data.X, data.y, **data.params)
    serial = clone(search).set_params(n_jobs=1).fit(data.X, data.y, **data.params)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"]
    )


@pytest.mark.filterwarnings("ignore::sklearn_meta.exceptions.FewTasksWarning")
def test_halving_search_when_tasks_are_given_then_spends_more_on_the_best(route):
    # Tasks are the resource of a collection; flat rows must not be thinned out within
    # tasks, so there outer steps are.
    data = route(line_tasks())
    resource = {"resource": "max_iter", "max_resources": 6} if data.flat else {}
    search = HalvingGridSearchCV(
        tiny(MAMLRegressor),
        {"inner_lr": [0.01, 0.1]},
        factor=2,
        min_resources=3 if data.flat else 6,
        cv=2 if not data.flat else TaskKFold(2),
        scoring=few_shot_scorer(),
        random_state=0,
        **resource,
    ).fit(data.X, data.y, **data.params)
    assert search.n_resources_ == ([3, 6] if data.flat else [6, 12])


@pytest.mark.parametrize("scoring", [None, few_shot_scorer("r2", n_shots=4)])
def test_cross_val_score_when_tasks_are_given_then_scores_each_fold(scoring, route):
    # The own `score` adapts per task too.
    data = route(line_tasks())
    scores = cross_val_score(
        tiny(ModelBasedMetaRegressor),
        data.X,
        data.y,
        cv=data.cv,
        params=data.params,
        scoring=scoring,
    )
    assert np.isfinite(scores).all() and len(scores) == 3


def test_cross_validate_when_several_scorers_then_each_is_there(route):
    # Any metric of scikit-learn, several at once, probabilities included.
    data = route(class_tasks())
    names = ["accuracy", "neg_log_loss", "roc_auc", "f1_macro"]
    result = cross_validate(
        tiny(ProtoNetClassifier),
        data.X,
        data.y,
        cv=data.cv,
        params=data.params,
        scoring={name: few_shot_scorer(name) for name in names},
        return_train_score=True,
    )
    for name in names:
        assert np.isfinite(result[f"test_{name}"]).all()
        assert np.isfinite(result[f"train_{name}"]).all()


def test_cross_validate_when_cv_is_stock_then_groups_can_ask_for_tasks():
    # Whoever has a splitter by groups need not change it.
    X, y, ids = line_tasks().to_flat()
    with sklearn.config_context(enable_metadata_routing=True):
        cv = GroupKFold(3).set_split_request(groups="tasks")
        result = cross_validate(tiny(MAMLRegressor), X, y, cv=cv, params={"tasks": ids})
    assert np.isfinite(result["test_score"]).all()


@pytest.mark.filterwarnings("ignore::sklearn_meta.exceptions.FewTasksWarning")
def test_learning_curve_when_tasks_are_given_then_sizes_grow(route):
    # How many old tasks are needed is the first question of a new user.
    data = route(line_tasks())
    sizes, _, scores = learning_curve(
        tiny(MAMLRegressor),
        data.X,
        data.y,
        train_sizes=[0.5, 1.0],
        cv=data.cv,
        params=data.params,
        scoring=few_shot_scorer(),
    )
    assert sizes.tolist() == ([56, 112] if data.flat else [4, 8])
    assert np.isfinite(scores).all()


def test_validation_curve_when_tasks_are_given_then_scores_each_value(route):
    # A parameter is varied by its name.
    data = route(line_tasks())
    _, scores = validation_curve(
        tiny(MAMLRegressor),
        data.X,
        data.y,
        param_name="inner_lr",
        param_range=[0.01, 0.1],
        cv=data.cv,
        params=data.params,
        scoring=few_shot_scorer(),
    )
    assert scores.shape == (2, 3) and np.isfinite(scores).all()


@pytest.mark.filterwarnings("ignore::sklearn_meta.exceptions.FewTasksWarning")
def test_nested_cross_validation_when_tasks_are_given_then_scores_each_fold(route):
    # The search inside must get its tasks through the loop outside.
    data = route(line_tasks())
    search = GridSearchCV(
        tiny(MAMLRegressor),
        {"inner_lr": [0.01, 0.1]},
        cv=TaskKFold(2),
        scoring=few_shot_scorer(),
    )
    scores = cross_val_score(
        search,
        data.X,
        data.y,
        cv=data.cv,
        params=data.params,
        scoring=few_shot_scorer(),
    )
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("cls", "make_tasks", "scoring"),
    [
        (ProtoNetClassifier, class_tasks, "neg_log_loss"),
        (MAMLRegressor, line_tasks, "neg_mean_squared_error"),
    ],
)
@pytest.mark.parametrize("output", ["default", "pandas"])
def test_pipeline_when_in_a_search_then_all_routes_work(
    cls, make_tasks, scoring, output, route
):
    # Names of columns may come and go between the steps.
    tasks = make_tasks()
    data = route(tasks)
    model = preprocess_and(data, StandardScaler(), tiny(cls))
    model.set_output(transform=output)
    search = GridSearchCV(
        model,
        {"standardscaler__with_std": [True, False]},
        cv=data.cv,
        scoring=few_shot_scorer(scoring),
    ).fit(data.X, data.y, **data.params)
    X, y = tasks[0]
    assert adapt(search, X[5:], y[5:]).predict(X[:5]).shape == (5,)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_column_transformer_when_frame_has_text_and_gaps_then_all_routes_work(
    output, route
):
    # Real tables have text and missing values.
    tasks = mixed_frame_tasks()
    data = route(tasks)
    columns = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["kind"]),
        (SimpleImputer(), ["a", "b", "c"]),
    )
    model = preprocess_and(data, columns, tiny(MAMLRegressor))
    model.set_output(transform=output)
    scores = cross_val_score(
        model,
        data.X,
        data.y,
        cv=data.cv,
        params=data.params,
        scoring=few_shot_scorer("neg_mean_absolute_error"),
    )
    assert np.isfinite(scores).all()
    X, y = tasks[0]
    model.fit(data.X, data.y, **data.params)
    assert adapt(model, X[5:], y[5:]).predict(X[:5]).shape == (5,)


def test_feature_union_when_in_a_pipeline_then_all_routes_work(route):
    # Features are joined before the last step.
    data = route(line_tasks())
    union = make_union(StandardScaler(), PolynomialFeatures(2, include_bias=False))
    model = preprocess_and(data, union, tiny(ModelBasedMetaRegressor))
    scores = cross_val_score(
        model,
        data.X,
        data.y,
        cv=data.cv,
        params=data.params,
        scoring=few_shot_scorer(),
    )
    assert np.isfinite(scores).all()


def test_transformed_target_when_in_a_search_then_all_routes_work(route):
    # Targets are learned on another scale and scored on their own.
    tasks = line_tasks()
    data = route(tasks)
    target = TransformedTargetRegressor(
        tiny(MAMLRegressor), transformer=StandardScaler()
    )
    model = preprocess_and(data, StandardScaler(), target)
    name = "transformedtargetregressor__regressor__inner_lr"
    search = GridSearchCV(
        model,
        {name: [0.01, 0.1]},
        cv=data.cv,
        scoring=few_shot_scorer("neg_mean_squared_error"),
    ).fit(data.X, data.y, **data.params)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    X, y = tasks[0]
    assert adapt(search, X[5:], y[5:]).predict(X[:5]).shape == (5,)


@pytest.mark.parametrize("flag", [False, True], ids=["routing off", "routing on"])
def test_predict_proba_when_pipeline_is_adapted_to_tasks_then_takes_ids(flag):
    # What the scorers do, for a user: one call for the rows of many tasks.
    X, y, ids = class_tasks().to_flat()
    model = make_meta_pipeline(StandardScaler(), tiny(ProtoNetClassifier))
    adapted = adapt_tasks(model.fit(X, y, tasks=ids), X, y, ids)
    with sklearn.config_context(enable_metadata_routing=flag):
        assert adapted.predict_proba(X, tasks=ids).shape == (240, 2)
        assert adapted.predict(X, tasks=ids).shape == (240,)


@pytest.mark.parametrize(
    ("cls", "make_tasks"), [case[:2] for case in CASES], ids=lambda value: ""
)
def test_search_when_pickled_then_adapts_the_same(cls, make_tasks):
    # What was tuned is saved and served elsewhere.
    tasks = make_tasks()
    search = GridSearchCV(tiny(cls), {}, cv=2, scoring=few_shot_scorer()).fit(tasks)
    X, y = tasks[0]
    loaded = pickle.loads(pickle.dumps(search))
    expected, actual = (adapt(s, X, y).predict(X) for s in (search, loaded))
    np.testing.assert_array_equal(expected, actual)


def test_search_when_cloned_and_shown_then_keeps_its_parts():
    # A notebook shows it, a loop clones it.
    search = GridSearchCV(
        make_meta_pipeline(StandardScaler(), tiny(MAMLRegressor)),
        {"mamlregressor__inner_lr": [0.1]},
        cv=TaskKFold(3),
        scoring=few_shot_scorer("r2"),
    )
    html = estimator_html_repr(clone(search))
    assert "MAMLRegressor" in html and "StandardScaler" in html


@pytest.mark.parametrize("groups", [False, True], ids=["own", "stock"])
def test_flat_rows_when_routing_is_off_then_message_says_what_to_set(groups):
    # The one setting that flat rows need is easily forgotten. A stock splitter gets
    # its groups even so, and the scorer then has no ids.
    X, y, ids = line_tasks().to_flat()
    search = GridSearchCV(
        tiny(MAMLRegressor),
        {},
        cv=GroupKFold(3) if groups else TaskKFold(3),
        scoring=few_shot_scorer(),
        error_score="raise",
    )
    params = {"groups": ids} if groups else {}
    with pytest.raises(ValueError, match="enable_metadata_routing=True"):
        search.fit(X, y, tasks=ids, **params)


def test_own_score_when_routing_is_off_then_says_what_to_set():
    # The own score gets rows of many tasks and no ids: no number may come out.
    X, y, ids = line_tasks().to_flat()
    search = GridSearchCV(
        tiny(MAMLRegressor), {}, cv=GroupKFold(3), error_score="raise"
    )
    with pytest.raises(NotAdaptedError, match="enable_metadata_routing=True"):
        search.fit(X, y, tasks=ids, groups=ids)


def test_stock_pipeline_when_routing_is_off_then_does_not_take_tasks():
    # scikit-learn's own message tells how to name the step.
    X, y, ids = line_tasks().to_flat()
    model = make_pipeline(StandardScaler(), tiny(MAMLRegressor))
    with pytest.raises(ValueError, match="stepname__parameter"):
        model.fit(X, y, tasks=ids)
    assert model.fit(X, y, mamlregressor__tasks=ids)[-1].n_tasks_ == 12


def test_adapt_when_many_threads_serve_many_tasks_then_no_answer_is_wrong():
    # One fitted pipeline serves all threads; answers must not mix.
    tasks = line_tasks()
    model = make_meta_pipeline(StandardScaler(), tiny(MAMLRegressor)).fit(tasks)

    def serve(i):
        X, y = tasks[i]
        return adapt(model, X[:5], y[:5]).predict(X[5:])

    expected = [serve(i) for i in range(12)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(serve, [i % 12 for i in range(240)]))
    wrong = [i for i, a in enumerate(answers) if not np.allclose(a, expected[i % 12])]
    assert wrong == []


IMPORT_CHECK = """
import numpy, sklearn, torch
def state():
    return (sklearn.get_config(), torch.get_default_dtype(), torch.get_num_threads(),
            torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist(),
            torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled())
before = state()
import sklearn_meta, sklearn_meta.metrics, sklearn_meta.model_selection
import sklearn_meta.pipeline, sklearn_meta.datasets
assert state() == before
"""


def test_import_when_done_then_nothing_global_changes():
    # A library that turns on routing or sets threads changes its user's program.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_CHECK],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
