"""Pooled predictions are out of fold, an offset and a feature."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsRegressor

from sklearn_meta import (
    MAMLClassifier,
    MAMLRegressor,
    ModelBasedMetaClassifier,
    ModelBasedMetaRegressor,
    ProtoNetClassifier,
)
from sklearn_meta.pooling import fit_pooled
from sklearn_meta.tasks import TaskRows

SMALL = {"max_iter": 4, "meta_batch_size": 4, "random_state": 0}
REGRESSORS = [
    MAMLRegressor((8,), inner_steps=1, **SMALL),
    ModelBasedMetaRegressor(hidden_size=8, **SMALL),
]
CLASSIFIERS = [
    MAMLClassifier((8,), inner_steps=0, **SMALL),
    ProtoNetClassifier((8,), **SMALL),
    ModelBasedMetaClassifier(hidden_size=8, **SMALL),
]


@pytest.fixture
def rows(rng):
    """12 tasks of 6 rows, each task with its own level."""
    y = np.repeat(rng.normal(size=12), 6) + 0.01 * rng.normal(size=72)
    return TaskRows(rng.normal(size=(72, 2)), y, np.full(12, 6), list("abcdefghijkl"))


@pytest.mark.parametrize("model", REGRESSORS, ids=lambda m: type(m).__name__)
def test_pooled_estimator_when_exact_leaves_nothing_to_learn(model, rng):
    # the learner's target is the residual: with a perfect pooled model it is zero
    X, tasks = rng.normal(size=(60, 2)), np.repeat(np.arange(10), 6)
    y = X @ [1.0, -2.0] + 3.0
    model = clone(model).set_params(pooled_estimator=LinearRegression())
    model.fit(X, y, tasks=tasks).adapt(X[:3], y[:3])
    np.testing.assert_allclose(model.predict(X), y, atol=1e-6)


@pytest.mark.parametrize("model", REGRESSORS, ids=lambda m: type(m).__name__)
def test_pooled_estimator_is_cloned_and_gets_the_features_alone(model, rows):
    # the user's object stays unfitted; new rows have the columns of fit
    pooled = LinearRegression()
    model = clone(model).set_params(pooled_estimator=pooled)
    model.fit(rows.X, rows.y, tasks=rows.codes).adapt(rows.X[:3], rows.y[:3])
    assert not hasattr(pooled, "coef_")
    assert model.pooled_.model.n_features_in_ == model.n_features_in_ == 2
    assert np.isfinite(model.predict(rows.X, return_std=True)).all()


def test_pooled_estimator_after_plain_fit_adapts_to_out_of_fold_residuals(rng):
    # in-fold residuals of a nearest neighbour are zero and would look like no noise
    X, y = rng.normal(size=(40, 2)), rng.normal(size=40)
    model = ModelBasedMetaRegressor(
        hidden_size=8, pooled_estimator=KNeighborsRegressor(1), **SMALL
    )
    assert model.fit(X, y).target_scale_.scale > 0.5


def class_rows(rng):
    """Return 12 tasks of 8 rows; the features tell the class, the task does not."""
    X = rng.normal(size=(96, 2))
    y = np.where(X[:, 0] + 0.5 * rng.normal(size=96) > 0, "b", "a")
    return X, y, np.repeat(np.arange(12), 8)


@pytest.mark.parametrize("model", CLASSIFIERS, ids=lambda m: type(m).__name__)
def test_pooled_classifier_is_where_logits_start(model, rng):
    # a learner whose own logits are nothing must say what the pooled model says
    X, y, tasks = class_rows(rng)
    model = clone(model).set_params(pooled_estimator=LogisticRegression())
    model.fit(X, y, tasks=tasks)
    with_offset = log_odds(model.adapt(X[:4], y[:4]), X)
    columns = model.pooled_.columns(X)
    assert model.learner_.n_offsets == 2
    model.learner_.n_offsets = 0
    without = log_odds(model, X)
    np.testing.assert_allclose(
        with_offset - without, columns[:, 1] - columns[:, 0], atol=1e-9
    )


def log_odds(model, X):
    """Return the log odds of the second class."""
    proba = model.predict_proba(X)
    return np.log(proba[:, 1] / proba[:, 0])


def test_pooled_classifier_when_sure_keeps_its_log_odds(rng):
    # features are cut at 6 standard deviations; an offset that is cut would mislead
    X = np.r_[rng.normal(size=(400, 1)), [[1e3], [-1e3]]]
    y = (X[:, 0] > 0).astype(int)
    model = MAMLClassifier(
        (8,), label_mode="shared", pooled_estimator=LogisticRegression(C=1e6), **SMALL
    )
    model.fit(X, y, tasks=np.arange(402) % 20)
    scaled = model._scale(model._prepare(X))
    np.testing.assert_allclose(scaled[:, -2:], model.pooled_.columns(X))


@pytest.mark.parametrize("model", CLASSIFIERS, ids=lambda m: type(m).__name__)
def test_pooled_classifier_when_labels_are_local_is_refused(model, rng):
    # one model of all rows cannot know the classes of a new task
    X, y, tasks = class_rows(rng)
    model = clone(model).set_params(label_mode="task", pooled_estimator="auto")
    with pytest.raises(ValueError, match="pooled_estimator needs labels that mean"):
        model.fit(X, y, tasks=tasks)


def test_pooled_model_when_fit_goes_on_stays_the_first_one(rng):
    # the learner counts from it: another one would move what was learned
    X, y, tasks = class_rows(rng)
    model = clone(CLASSIFIERS[0]).set_params(pooled_estimator=LogisticRegression())
    first = model.fit(X, y, tasks=tasks).pooled_
    assert model.partial_fit(X[:48], y[:48], tasks=tasks[:48]).pooled_ is first


@pytest.mark.parametrize("model", REGRESSORS, ids=lambda m: type(m).__name__)
def test_learn_prepared_with_its_own_columns_equals_fit(model, rows):
    # a mixture fits the pooled model once, for all of its members
    model = clone(model).set_params(pooled_estimator=LinearRegression())
    X, y, tasks = rows.X, rows.y, rows.codes
    fitted = clone(model).fit(X, y, tasks=tasks)
    pooled, columns = fit_pooled(LinearRegression(), rows, random_state=0)
    model._learn_prepared(rows.with_columns(columns), pooled=pooled)
    expected = fitted.adapt(X[:5], y[:5]).predict(X)
    np.testing.assert_array_equal(model.adapt(X[:5], y[:5]).predict(X), expected)


def test_learn_prepared_with_validation_stops_by_those_tasks(rows):
    # a mixture holds its own tasks out, with early_stopping off too
    train, held = rows.select(np.arange(12) < 8), rows.select(np.arange(12) >= 8)
    model = clone(REGRESSORS[0]).set_params(early_stopping=False)
    model._learn_prepared(train, held, pooled=None)
    first = model.validation_scores_
    model._learn_prepared(train, held._replace(y=held.y + 5), pooled=None)
    assert len(first) and model.n_tasks_ == 8
    assert first[0] > model.validation_scores_[0]
