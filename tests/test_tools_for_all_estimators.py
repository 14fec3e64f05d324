"""Every public estimator in the tools of scikit-learn: on one task, and by id column.

`test_tool_table.py` tries every tool on every route with one estimator; here every
estimator goes through the two routes on which it is to be an ordinary one.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_estimators import ALL_ESTIMATORS, class_tasks, regression_tasks, small

from sklearn_meta import AdaptedClassifier, AdaptedRegressor, adapt
from sklearn_meta.model_selection import FewShotSplit
from sklearn_meta.persistence import load_model, save_model
from sklearn_meta.pipeline import make_meta_pipeline
from sklearn_meta.task_column import TaskColumnClassifier, TaskColumnRegressor

# an inner loop of a few steps that were hardly trained may make things worse
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_meta.exceptions.DivergenceWarning"
)
LABELS = ("no", "yes")


def tasks_of(model, n_tasks=6, seed=0):
    """Return tasks, with labels that tools which number them do not know."""
    if is_classifier(model):
        return class_tasks(n_tasks, labels=LABELS, seed=seed)
    return regression_tasks(n_tasks, seed=seed)


@pytest.fixture(scope="module", params=ALL_ESTIMATORS, ids=lambda cls: cls.__name__)
def fitted(request):
    """Each estimator, fitted once for all tools: they do not change it."""
    model = small(request.param)
    return model.fit(tasks_of(model))


@pytest.fixture
def task(fitted):
    """Return the rows of a new task."""
    return tasks_of(fitted, 3, seed=7)[2]


def ordinary(model, **params):
    """Wrap a fitted model for one task."""
    cls = AdaptedClassifier if is_classifier(model) else AdaptedRegressor
    return cls(model, **params)


def stack(model):
    own = [("model", numbered(model)), ("own", own_of(model))]
    cls = StackingClassifier if is_classifier(model) else StackingRegressor
    return cls(own, cv=2)


def vote(model):
    own = [("model", numbered(model)), ("own", own_of(model))]
    return (
        VotingClassifier(own, voting="soft")
        if is_classifier(model)
        else VotingRegressor(own)
    )


def numbered(model):
    """Wrap a model for tools that number labels."""
    return ordinary(model, **({"codes": LABELS} if is_classifier(model) else {}))


def own_of(model):
    return LogisticRegression() if is_classifier(model) else Ridge()


COMPOSITES = {
    "pipeline": lambda model: make_pipeline(StandardScaler(), ordinary(model)),
    "stacking": stack,
    "voting": vote,
    "calibration": lambda model: CalibratedClassifierCV(ordinary(model), cv=2),
    "threshold": lambda model: TunedThresholdClassifierCV(ordinary(model), cv=2),
    "target": lambda model: TransformedTargetRegressor(
        ordinary(model), transformer=StandardScaler()
    ),
    "frozen": lambda model: FrozenEstimator(ordinary(model)),
}
OF_CLASSES, OF_NUMBERS = {"calibration", "threshold"}, {"target"}


@pytest.mark.parametrize("name", COMPOSITES)
def test_composite_of_one_task_when_fitted_then_predicts(fitted, task, name):
    # `fit` means adapt, so it is an ordinary estimator
    if name in (OF_NUMBERS if is_classifier(fitted) else OF_CLASSES):
        pytest.skip("for the other kind of target")
    model, (X, y) = COMPOSITES[name](fitted), task
    if name == "frozen":
        model.estimator.fit(X, y)
    predicted = clone(model).fit(X, y).predict(X)
    kept = np.isin(predicted, y) if is_classifier(fitted) else np.isfinite(predicted)
    assert kept.all()
    # the function adapts a copy, whatever is inside
    np.testing.assert_array_equal(adapt(model, X, y).predict(X), predicted)


def test_tools_of_one_task_when_they_score_then_find_numbers(fitted, task):
    # cross-validation, search, curves and inspection of one new task
    model, (X, y) = ordinary(fitted), task
    scoring = "neg_log_loss" if is_classifier(fitted) else "neg_mean_absolute_error"
    settings = {"cv": 2, "scoring": scoring, "error_score": "raise"}
    grid = {"meta_estimator__n_shots": [1, 2]}
    model.fit(X, y)
    found = [
        cross_val_score(model, X, y, **settings),
        GridSearchCV(model, grid, **settings).fit(X, y).best_score_,
        learning_curve(model, X, y, train_sizes=[1.0], **settings)[2],
        permutation_importance(model, X, y, n_repeats=1).importances,
        partial_dependence(model, X, [0], grid_resolution=3)["average"],
    ]
    assert all(np.isfinite(values).all() for values in found)


def test_cross_val_predict_of_one_task_then_is_adapt_on_each_fold(fitted, task):
    # the probabilities of tools that number labels are in the order of the labels
    X, y = task
    folds = list(StratifiedKFold(2).split(X, y if is_classifier(fitted) else 0 * y))
    proba = is_classifier(fitted)
    method = "predict_proba" if proba else "predict"
    said = cross_val_predict(numbered(fitted), X, y, cv=folds, method=method)
    for train, test in folds:
        expected = getattr(adapt(fitted, X[train], y[train]), method)(X[test])
        np.testing.assert_allclose(said[test], expected)


def test_id_column_when_tools_use_it_then_work(fitted):
    # support rows of test tasks are in the training fold
    cls = TaskColumnClassifier if is_classifier(fitted) else TaskColumnRegressor
    X, y, ids = tasks_of(fitted).to_flat()
    rows = pd.DataFrame(X, columns=["u", "v"]).assign(site=ids)
    model = cls(make_meta_pipeline(StandardScaler(), clone(fitted)), task_column="site")
    few = FewShotSplit(2, n_shots=2, task_column="site", random_state=0)
    scoring = "neg_log_loss" if is_classifier(fitted) else "r2"
    scores = cross_val_score(
        model, rows, y, cv=few, scoring=scoring, error_score="raise"
    )
    assert np.isfinite(scores).all()
    by_rows = list(StratifiedKFold(2, shuffle=True, random_state=0).split(X, ids))
    assert cross_val_predict(model, rows, y, cv=by_rows).shape == y.shape


@pytest.mark.parametrize("route", ["one task", "id column", "pipeline"])
def test_files_of_wrapped_models_then_predict_to_the_last_bit(
    fitted, task, route, tmp_path
):
    # what is served is often a wrapper
    X, y = task
    if route == "one task":
        codes = np.searchsorted(LABELS, y) if is_classifier(fitted) else y
        model = numbered(fitted).fit(X, codes)
    elif route == "pipeline":
        model = make_meta_pipeline(StandardScaler(), clone(fitted))
        model.fit(tasks_of(fitted)).adapt(X, y)
    else:
        cls = TaskColumnClassifier if is_classifier(fitted) else TaskColumnRegressor
        X, y, ids = tasks_of(fitted).to_flat()
        X = np.column_stack([X, np.unique(ids, return_inverse=True)[1]])
        model = cls(clone(fitted)).fit(X, y)
    expected = model.predict(X)
    pickled = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(pickled.predict(X), expected)
    save_model(model, tmp_path / "model.meta")
    loaded = load_model(tmp_path / "model.meta")
    np.testing.assert_array_equal(loaded.predict(X), expected)
