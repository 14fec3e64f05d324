"""Pooled predictions are out of fold, an offset and a feature."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor

from sklearn_meta import MAMLRegressor, ModelBasedMetaRegressor
from sklearn_meta.pooling import out_of_fold
from sklearn_meta.tasks import TaskRows

SMALL = {"max_iter": 4, "meta_batch_size": 4, "random_state": 0}
REGRESSORS = [
    MAMLRegressor((8,), inner_steps=1, **SMALL),
    ModelBasedMetaRegressor(hidden_size=8, **SMALL),
]


@pytest.fixture
def rows(rng):
    """12 tasks of 6 rows, each task with its own level."""
    y = np.repeat(rng.normal(size=12), 6) + 0.01 * rng.normal(size=72)
    return TaskRows(rng.normal(size=(72, 2)), y, np.full(12, 6), list("abcdefghijkl"))


def test_out_of_fold_never_uses_the_task_of_a_row(rows):
    # a nearest neighbour would copy the target if its own task were seen
    X = rows.X + 100 * rows.codes[:, None]
    found = out_of_fold(KNeighborsRegressor(1), rows._replace(X=X))
    assert np.abs(found - rows.y).min() > 0
    for task in range(12):
        own = rows.y[rows.codes == task]
        assert not np.isin(found[rows.codes == task], own).any()


def test_out_of_fold_of_one_table_splits_its_rows(rows):
    # a plain table has no tasks to split by
    found = out_of_fold(
        DummyRegressor(), rows._replace(sizes=np.array([72]), names=None)
    )
    assert len(np.unique(found)) == 4


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
    assert model.pooled_.n_features_in_ == model.n_features_in_ == 2
    assert np.isfinite(model.predict(rows.X, return_std=True)).all()


def test_pooled_estimator_after_plain_fit_adapts_to_out_of_fold_residuals(rng):
    # in-fold residuals of a nearest neighbour are zero and would look like no noise
    X, y = rng.normal(size=(40, 2)), rng.normal(size=40)
    model = ModelBasedMetaRegressor(
        hidden_size=8, pooled_estimator=KNeighborsRegressor(1), **SMALL
    )
    assert model.fit(X, y).target_scale_.scale > 0.5
