"""Neural processes: that they read the support, in every architecture."""

import numpy as np
import pytest
from small_estimators import class_tasks, small, tasks_for

from sklearn_meta import (
    ModelBasedMetaClassifier,
    ModelBasedMetaRegressor,
    TaskCollection,
)
from sklearn_meta.estimators import process
from sklearn_meta.exceptions import LargeSupportWarning

ARCHITECTURES = ["cnp", "attentive", "transformer"]


def levels(n_tasks, seed=0):
    """Return tasks whose target is one number of the task's own, with little noise."""
    rng = np.random.default_rng(seed)
    return TaskCollection(
        [
            (rng.normal(size=(8, 2)), rng.normal() + 0.05 * rng.normal(size=8))
            for _ in range(n_tasks)
        ]
    )


def trained(cls, tasks, architecture, **params):
    """Return an estimator with a budget that lets it learn a simple rule."""
    params = {"max_iter": 150, "lr": 0.01, "hidden_size": 16, "n_heads": 2} | params
    return small(cls, architecture=architecture, **params).fit(tasks)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_regressor_reads_the_level_of_a_task_from_its_support(architecture):
    """On tasks not seen in training, far better than their common mean."""
    model = trained(ModelBasedMetaRegressor, levels(60), architecture)
    new, errors, spread = levels(20, seed=1), [], []
    for X, y in new:
        errors.append((model.adapt(X[:4], y[:4]).predict(X[4:]) - y[4:]) ** 2)
        spread.append(y[4:])
    assert np.mean(errors) < 0.2 * np.var(np.concatenate(spread))


def test_regressor_when_features_are_new_is_less_sure():
    """The standard deviation depends on the row and on the support."""
    model = trained(ModelBasedMetaRegressor, levels(60), "attentive")
    X, y = levels(1, seed=2)[0]
    _, one = model.adapt(X[:1], y[:1]).predict(X[4:], return_std=True)
    _, four = model.adapt(X[:4], y[:4]).predict(X[4:], return_std=True)
    assert len(np.unique(one)) == 4
    assert four.mean() < one.mean()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("mode", ["shared", "task"])
def test_classifier_learns_to_compare_rows_with_the_support(architecture, mode):
    """Centres are drawn anew in each task: only the support tells them."""
    params = {"label_mode": mode, "max_iter": 400, "meta_batch_size": 16}
    model = trained(ModelBasedMetaClassifier, class_tasks(60), architecture, **params)
    scores = []
    for X, y in class_tasks(40, seed=1):
        half = np.arange(len(y)) % 2 == 0
        scores.append(model.adapt(X[half], y[half]).score(X[~half], y[~half]))
    assert np.mean(scores) > 0.5  # chance is a third


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architecture_is_the_one_asked_for(architecture):
    """Its name is kept where it can be seen."""
    tasks = levels(6)
    model = small(ModelBasedMetaRegressor, architecture=architecture).fit(tasks)
    assert model.learner_.architecture == architecture


def test_architectures_differ_in_what_they_learn():
    """Three names for one network would go unnoticed."""
    tasks = levels(6)
    curves = {
        tuple(small(ModelBasedMetaRegressor, architecture=a).fit(tasks).loss_curve_)
        for a in ARCHITECTURES
    }
    assert len(curves) == 3


def test_target_when_scaled_scales_the_prediction():
    """Any unit of the target gives the same model (law 7)."""
    tasks = levels(12)
    X, y = tasks[0]
    plain = small(ModelBasedMetaRegressor).fit(tasks)
    mean, std = plain.adapt(X, y).predict(X, return_std=True)
    other = [(X, 1000 * y - 7) for X, y in tasks]
    scaled = small(ModelBasedMetaRegressor).fit(other)
    mean_of_scaled, std_of_scaled = scaled.adapt(X, 1000 * y - 7).predict(
        X, return_std=True
    )
    np.testing.assert_allclose(mean_of_scaled, 1000 * mean - 7, rtol=1e-3)
    np.testing.assert_allclose(std_of_scaled, 1000 * std, rtol=1e-3)


@pytest.mark.parametrize("cls", [ModelBasedMetaRegressor, ModelBasedMetaClassifier])
def test_attention_when_the_support_is_large_takes_a_part_of_it(cls, monkeypatch):
    """Its time grows with the square of the rows: a million would take hours."""
    monkeypatch.setattr(process, "MAX_ATTENDED_ROWS", 6)
    model = small(cls, architecture="attentive")
    tasks = tasks_for(model)
    X, y = tasks[0]
    with pytest.warns(LargeSupportWarning, match=f"'t0' has {len(X)} rows.* uses 6 of"):
        model.fit(tasks).adapt_tasks(tasks[:1])
    assert len(model.predict(X, tasks=["t0"] * len(X))) == len(X)
    model.adapt(X[:6], y[:6])  # as many as it can take: no warning


def test_means_take_in_a_support_of_any_size(monkeypatch):
    """Their time grows with the rows, and their memory does not."""
    monkeypatch.setattr(process, "MAX_ATTENDED_ROWS", 6)
    model = small(ModelBasedMetaRegressor, architecture="cnp")
    tasks = tasks_for(model)
    all_rows = model.fit(tasks).adapt(*tasks[0]).predict(tasks[1].X)
    assert (
        model.adapt(tasks[0].X[:6], tasks[0].y[:6]).predict(tasks[1].X) != all_rows
    ).all()
