"""The pooled model that is chosen by its loss on tasks it did not see."""

import numpy as np
import pytest

from sklearn_meta.pooling import fit_pooled, out_of_fold
from sklearn_meta.tasks import TaskRows


def make_rows(rng, target):
    """Return 12 tasks of 20 rows whose target is a function of the features."""
    X = rng.normal(size=(240, 3))
    return TaskRows(X, target(X, rng), np.full(12, 20), list(range(12)))


def line(X, rng):
    return X.sum(1) + 0.1 * rng.normal(size=len(X))


def steps(X, rng):
    return np.sign(X[:, 0] * X[:, 1]) + 0.1 * rng.normal(size=len(X))


@pytest.mark.parametrize(("target", "name"), [(line, "linear"), (steps, "boosting")])
def test_auto_when_one_kind_of_model_fits_then_takes_it(rng, target, name):
    # a user need not know whether effects are additive
    assert fit_pooled("auto", make_rows(rng, target))[0].name == name


@pytest.mark.parametrize(("target", "name"), [(line, "linear"), (steps, "boosting")])
def test_auto_when_target_has_classes_then_goes_by_log_loss(rng, target, name):
    # the same choice, among classifiers
    rows = make_rows(rng, target)
    noise = rng.logistic(scale=0.5, size=len(rows.y))
    rows = rows._replace(y=np.where(rows.y + noise > 0, "yes", "no"))
    pooled, columns = fit_pooled("auto", rows, np.array(["no", "yes"]))
    assert pooled.name == name
    np.testing.assert_allclose(columns.sum(1), 0, atol=1e-12)
    assert np.mean((columns[:, 1] > 0) == (rows.y == "yes")) > 0.75


def test_auto_when_mean_is_best_then_serves_the_mean(rng):
    # what is chosen out of fold is what new tasks get
    rows = make_rows(rng, lambda X, rng: line(X, rng) + 0.6 * steps(X, rng))
    pooled, columns = fit_pooled("auto", rows)
    assert pooled.name == "mean"
    parts = [part.predict(rows.X) for part in pooled.model.estimators_]
    np.testing.assert_allclose(pooled.columns(rows.X)[:, 0], np.mean(parts, 0))
    np.testing.assert_allclose(columns, pooled.out_of_fold_columns(rows))


@pytest.mark.parametrize("target", [line, steps])
def test_auto_columns_are_out_of_fold(rng, target):
    # the number of trees is chosen on the way, which must not change the folds
    rows = make_rows(rng, target)
    pooled, columns = fit_pooled("auto", rows)
    np.testing.assert_allclose(columns[:, 0], out_of_fold(pooled.model, rows))


def test_auto_when_folds_lack_classes_then_has_a_column_for_each(rng):
    # a rare class may be in one task only, and a fold may have one class only
    rows = make_rows(rng, line)
    y = np.zeros(240, int)
    y[:5], y[5:9] = 1, 2
    pooled, columns = fit_pooled("auto", rows._replace(y=y), np.arange(4))
    assert columns.shape == pooled.columns(rows.X).shape == (240, 4)
    assert np.isfinite(columns).all()
