"""Mixtures of meta-estimators: what is fitted, how it is weighed, what comes out."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from small_estimators import class_tasks, regression_tasks, small

from sklearn_meta import (
    MAMLClassifier,
    MAMLRegressor,
    MetaStackingClassifier,
    MetaStackingRegressor,
    ModelBasedMetaRegressor,
    PooledRegressor,
    ProtoNetClassifier,
    TaskCollection,
)
from sklearn_meta.exceptions import FewTasksWarning

X_NEW = np.random.default_rng(9).normal(size=(6, 2))


def pooled(estimator, correction="shift"):
    return PooledRegressor(estimator, correction=correction)


def stack(**params):
    """Return a cheap mixture of one good and one poor member."""
    members = [
        ("good", pooled(Ridge())),
        ("poor", pooled(DummyRegressor(), correction="none")),
    ]
    settings = {"n_shots": (1, 4), "random_state": 0} | params
    return MetaStackingRegressor(settings.pop("estimators", members), **settings)


def few_shot(tasks, i=-1, n_shots=4):
    X, y = tasks[i]
    return X[:n_shots], y[:n_shots]


def test_stacking_when_a_member_is_poor_then_it_weighs_little():
    # the point of weighing
    model = stack().fit(regression_tasks(12))
    assert (model.weights_[:, 0] > 0.99).all()
    assert (model.held_out_scores_[:, 0] > model.held_out_scores_[:, 1]).all()


def test_stacking_when_fitted_then_each_member_has_a_model_per_fold():
    # the models of the folds are averaged, none is refitted
    model = stack(n_folds=4).fit(regression_tasks(8))
    assert [len(models) for models in model.estimators_] == [4, 4]
    assert sorted(m.n_tasks_ for m in model.estimators_[0]) == [6, 6, 6, 6]


def test_stacking_when_more_folds_than_tasks_are_asked_for_then_error_names_both():
    # a splitter of scikit-learn raises too
    with pytest.raises(ValueError, match="got n_folds=50 and 8 tasks. Lower"):
        stack(n_folds=50).fit(regression_tasks(8))


@pytest.mark.filterwarnings("ignore::sklearn_meta.exceptions.FewTasksWarning")
def test_stacking_when_tasks_are_fewer_than_the_default_folds_then_one_fold_each():
    # nobody asked for more
    model = stack().fit(regression_tasks(2))
    assert [len(models) for models in model.estimators_] == [2, 2]


def test_stacking_when_there_is_one_member_then_its_folds_count_by_precision():
    # weights alike leave the choice to how sure the model of each fold is
    model = stack(estimators=[("only", pooled(Ridge()))]).fit(regression_tasks(6))
    tasks = regression_tasks(6)
    model.adapt(*few_shot(tasks))
    models = [m.adapt(*few_shot(tasks)) for m in model.estimators_[0]]
    means, stds = np.stack([m.predict(X_NEW, return_std=True) for m in models], 1)
    expected = np.average(means, axis=0, weights=stds**-2)
    np.testing.assert_allclose(model.predict(X_NEW), expected)


def test_stacking_when_quantiles_are_asked_then_those_of_the_mixture():
    # the median of a mixture is not its mean; its distribution function tells
    model = stack().fit(regression_tasks(8)).adapt(*few_shot(regression_tasks(8)))
    X, codes = model._check_query(X_NEW, None)
    means, stds, weights = model._gaussians(X, codes)
    found = model.predict_quantiles(X_NEW, [0.05, 0.7])
    level = (
        weights[..., None] * norm.cdf(found, means[..., None], stds[..., None])
    ).sum(0)
    np.testing.assert_allclose(level, [[0.05, 0.7]] * 6, atol=1e-9)


def test_stacking_when_density_is_asked_then_the_derivative_of_its_quantiles():
    # the tails of a mixture are not those of a Gaussian with its moments
    model = stack().fit(regression_tasks(8)).adapt(*few_shot(regression_tasks(8)))
    levels = np.array([0.2, 0.2 + 1e-5])
    low, high = model.predict_quantiles(X_NEW, levels).T
    density = np.exp(model.log_density(X_NEW, (low + high) / 2))
    np.testing.assert_allclose(density, 1e-5 / (high - low), rtol=1e-4)


def test_stacking_when_members_share_a_pooled_model_then_it_is_fitted_once():
    # boosting on all rows is the dear part, and the folds must not see each other
    members = [
        ("a", small(ModelBasedMetaRegressor, pooled_estimator="auto")),
        ("b", small(MAMLRegressor, pooled_estimator="auto")),
        ("c", small(MAMLRegressor)),
    ]
    model = stack(estimators=members).fit(regression_tasks(6))
    assert len(model.shared_.pooled) == 1
    assert model.shared_.source == [0, 0, -1]
    assert model.estimators_[0][0].pooled_ is model.estimators_[1][2].pooled_


@pytest.mark.parametrize("as_is", [True, False], ids=["one object", "equal ones"])
def test_stacking_when_pooled_models_are_alike_then_one_is_fitted(as_is):
    # a seed that one member has and another has not must not tell them apart
    forest = RandomForestRegressor(3)
    members = [
        ("shift", pooled(forest if as_is else clone(forest))),
        ("none", pooled(forest, correction="none")),
        ("other", pooled(RandomForestRegressor(4))),
    ]
    model = stack(estimators=members).fit(regression_tasks(6))
    assert model.shared_.source == [0, 0, 1]


def test_stacking_when_a_pooled_model_has_no_bytes_then_it_is_like_itself_alone():
    # a lambda cannot be compared; nothing is shared that might differ
    square = FunctionTransformer(lambda X: X**2)
    first, second = (make_pipeline(square, Ridge()) for _ in range(2))
    members = [("a", pooled(first)), ("b", pooled(second)), ("c", pooled(first))]
    model = stack(estimators=members).fit(regression_tasks(6))
    assert model.shared_.source == [0, 1, 0]


def test_stacking_when_members_are_equal_then_their_seeds_differ():
    # one network twice would bring nothing
    network = small(MAMLRegressor).set_params(random_state=None)
    members = [("first", network), ("second", clone(network))]
    model = stack(estimators=members).fit(regression_tasks(6))
    first, second = (models[0].random_state for models in model.estimators_)
    assert first != second


def test_stacking_when_a_member_is_taken_out_then_it_predicts_by_itself():
    # what users look at must be whole
    tasks = regression_tasks(6)
    model = stack(estimators=[("a", small(MAMLRegressor, pooled_estimator=Ridge()))])
    member = model.fit(tasks).estimators_[0][0]
    assert member.adapt(*few_shot(tasks)).predict(X_NEW).shape == (6,)


def test_stacking_when_many_tasks_then_as_one_by_one():
    # the vectorised path must not mix tasks, whose shots differ
    tasks = regression_tasks(6)
    model = stack().fit(tasks)
    supports = TaskCollection(
        [few_shot(tasks, 0, 2), few_shot(tasks, 1, 5)], names=[0, 1]
    )
    model.adapt_tasks(supports)
    together = model.predict(X_NEW, tasks=[0, 1, 0, 1, 0, 1])
    for i, (X, y) in enumerate(supports):
        alone = model.adapt(X, y).predict(X_NEW)[i::2]
        np.testing.assert_allclose(together[i::2], alone)


def test_stacking_when_copied_then_adapting_does_not_reach_the_original():
    # members are adapted as copies, so that threads can share a fitted mixture
    import copy

    tasks = regression_tasks(6)
    model = stack().fit(tasks).adapt(*few_shot(tasks, 0))
    before = model.predict(X_NEW)
    copy.copy(model).adapt(*few_shot(tasks, 1))
    np.testing.assert_array_equal(model.predict(X_NEW), before)


@pytest.mark.parametrize(
    ("params", "n_processes"),
    [({}, 2), ({"preset": "fast"}, 1), ({"preset": "fast", "estimators": []}, 2)],
)
def test_stacking_when_preset_is_fast_then_no_processes_are_started(
    params, n_processes
):
    # they would take longer to start than its members take; the user's own may not
    assert MetaStackingRegressor(**params, n_jobs=2)._n_processes() == n_processes


def test_stacking_when_fitted_in_processes_then_the_same():
    # n_jobs changes the time only
    tasks = regression_tasks(6)
    members = [("a", small(MAMLRegressor))]
    alone, many = (
        stack(estimators=members, n_jobs=n).fit(tasks).adapt(*few_shot(tasks))
        for n in (None, 2)
    )
    np.testing.assert_allclose(alone.predict(X_NEW), many.predict(X_NEW))


def test_stacking_when_one_table_then_rows_are_held_out():
    # it is a full scikit-learn regressor too
    X = np.random.default_rng(0).normal(size=(40, 2))
    model = stack().fit(X, X.sum(1))
    assert model.shots_.tolist() == [26]
    assert model.weights_[0, 0] > 0.99
    assert model.score(X, X.sum(1)) > 0.9


def test_stacking_when_labels_are_shared_then_probabilities_of_all_classes():
    # folds of tasks, all labels in all folds
    tasks = class_tasks(8)
    members = [("maml", small(MAMLClassifier)), ("proto", small(ProtoNetClassifier))]
    model = MetaStackingClassifier(members, random_state=0).fit(tasks)
    assert model.label_mode_ == "shared"
    proba = model.adapt(*tasks[0]).predict_proba(X_NEW)
    np.testing.assert_allclose(proba.sum(1), 1)
    assert proba.shape == (6, 3)


def test_stacking_when_labels_are_local_then_new_classes_get_probabilities():
    # classes are held out to weigh, then all are learned from
    X = (
        np.random.default_rng(0).normal(size=(80, 2))
        + 4 * np.repeat(np.arange(8), 10)[:, None]
    )
    members = [("proto", small(ProtoNetClassifier)), ("maml", small(MAMLClassifier))]
    table = TaskCollection([(X, np.repeat(list("abcdefgh"), 10))])
    model = MetaStackingClassifier(members, n_shots=(1, 3), random_state=0).fit(table)
    assert model.label_mode_ == "task"
    assert [len(models) for models in model.estimators_] == [1, 1]
    model.adapt(X[:20], np.repeat(["new", "other"], 10))
    assert model.classes_.tolist() == ["new", "other"]
    np.testing.assert_allclose(model.predict_proba(X_NEW).sum(1), 1)


def test_stacking_when_too_little_to_hold_out_then_a_warning_and_equal_weights():
    # nothing is decided silently
    X, y = np.random.default_rng(0).normal(size=(4, 2)), np.array([0, 0, 1, 1])
    members = [("a", small(MAMLClassifier)), ("b", small(MAMLClassifier))]
    with pytest.warns(FewTasksWarning, match="weigh alike"):
        model = MetaStackingClassifier(members, random_state=0).fit(X, y)
    np.testing.assert_array_equal(model.weights_, [[0.5, 0.5]])


def test_stacking_when_a_member_is_no_meta_estimator_then_error_names_it():
    # a stock regressor has no `adapt`
    with pytest.raises(TypeError, match="'ridge', a Ridge.*PooledRegressor"):
        stack(estimators=[("ridge", Ridge())]).fit(regression_tasks())
    with pytest.raises(TypeError, match="got 'inner', a MetaStackingRegressor"):
        stack(estimators=[("inner", stack())]).fit(regression_tasks())


def test_stacking_when_names_are_given_twice_then_error():
    # parameters of members are found by name
    with pytest.raises(ValueError, match="unique"):
        stack(estimators=[("a", pooled(Ridge()))] * 2).fit(regression_tasks())


def test_stacking_when_cloned_then_parameters_of_members_are_reached():
    # as in scikit-learn's own stacking
    model = clone(stack().set_params(good__correction="none"))
    assert model.get_params()["good__correction"] == "none"
    assert dict(model.estimators)["good"].correction == "none"


@pytest.mark.parametrize("preset", ["fast", "default", "thorough"])
def test_stacking_when_preset_is_named_then_members_nest(preset):
    # a larger preset adds members and drops none
    names = [
        name for name, _ in MetaStackingRegressor(preset=preset)._default_members()
    ]
    fast = [name for name, _ in MetaStackingRegressor(preset="fast")._default_members()]
    assert names[: len(fast)] == fast
    assert len(set(names)) == len(names)
