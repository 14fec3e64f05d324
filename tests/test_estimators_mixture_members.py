"""Members that do not suit a mixture: named before anything is fitted."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from small_estimators import class_tasks, regression_tasks, small, tasks_for

from sklearn_meta import (
    DeepKernelClassifier,
    MAMLClassifier,
    MetaStackingClassifier,
    MetaStackingRegressor,
    PooledClassifier,
    PooledRegressor,
    ProtoNetClassifier,
    TaskCollection,
    TaskEnsembleClassifier,
)

NEED_SHARED = [
    small(PooledClassifier),
    small(TaskEnsembleClassifier),
    small(DeepKernelClassifier, pooled_estimator=LogisticRegression()),
    small(MAMLClassifier, pooled_estimator=LogisticRegression()),
]
each_of_shared = pytest.mark.parametrize(
    "member", NEED_SHARED, ids=lambda member: type(member).__name__
)


def local_tasks():
    """Return tasks with labels of their own, as texts."""
    tasks = [(X, [f"{i}-{c}" for c in y]) for i, (X, y) in enumerate(class_tasks())]
    return TaskCollection(tasks)


def message_of(estimator, tasks, error=ValueError):
    """Return what an estimator says of tasks that it cannot learn from."""
    with pytest.raises(error) as caught:
        estimator.fit(tasks)
    return str(caught.value)


@each_of_shared
def test_mixture_when_labels_are_local_and_a_member_needs_shared_ones_names_it(member):
    # It failed in a linear solver, in a broadcast, or not before `predict`.
    mixture = MetaStackingClassifier([("m", member)], label_mode="task")
    match = "^Member 'm': .* needs labels that mean the same in every task, got labels"
    with pytest.raises(ValueError, match=match):
        mixture.fit(class_tasks())


@each_of_shared
def test_mixture_when_labels_are_found_to_be_local_names_the_member(member):
    # "auto" finds it out, and texts are no numbers to go wrong with.
    mixture = MetaStackingClassifier([("m", member)])
    with pytest.raises(ValueError, match=r"Member 'm': .* \(label_mode_='task'\)"):
        mixture.fit(local_tasks())


def test_mixture_when_labels_are_local_says_what_alone_is_said():
    # One check for both.
    pooled = {"pooled_estimator": LogisticRegression(), "label_mode": "task"}
    member, tasks = small(MAMLClassifier, **pooled), class_tasks()
    mixture = MetaStackingClassifier([("m", member)], label_mode="task")
    assert message_of(mixture, tasks) == f"Member 'm': {message_of(member, tasks)}"


def test_mixture_when_no_label_is_shared_says_what_alone_is_said():
    # A pooled model has no label that two tasks know.
    member, tasks = small(PooledClassifier), local_tasks()
    mixture = MetaStackingClassifier([("m", member)], label_mode="shared")
    assert message_of(mixture, tasks) == f"Member 'm': {message_of(member, tasks)}"


@pytest.mark.parametrize(
    ("mixture_class", "member", "expected"),
    [
        (MetaStackingClassifier, PooledRegressor(Ridge()), "classifiers"),
        (MetaStackingRegressor, small(ProtoNetClassifier), "regressors"),
    ],
)
def test_mixture_when_a_member_predicts_another_kind_names_it(
    mixture_class, member, expected
):
    # It was fitted, and failed where it was asked.
    mixture = mixture_class([("m", member)])
    match = f"Expected meta-{expected} .* got 'm', a {type(member).__name__}"
    with pytest.raises(TypeError, match=match):
        mixture.fit(tasks_for(mixture))


@pytest.mark.parametrize(
    "member",
    [
        PooledClassifier(Ridge()),
        PooledClassifier(n_shots=(3, 2)),
        ProtoNetClassifier(max_iter=0),
    ],
)
def test_mixture_when_a_parameter_of_a_member_is_bad_says_what_alone_is_said(member):
    # A member is not fitted by its own `fit`, which would check it.
    mixture, tasks = MetaStackingClassifier([("m", member)]), class_tasks()
    assert message_of(mixture, tasks) == f"Member 'm': {message_of(member, tasks)}"


def test_mixture_when_a_member_is_dropped_is_that_of_the_others():
    # As in the stacking of scikit-learn.
    members = [("a", PooledRegressor(Ridge())), ("b", PooledRegressor(Ridge(9.0)))]
    tasks = regression_tasks()
    X, y = tasks[0]
    mixture = MetaStackingRegressor(members, random_state=0).set_params(b="drop")
    one = MetaStackingRegressor(members[:1], random_state=0)
    said, expected = (
        model.fit(tasks).adapt(X, y).predict(X) for model in (clone(mixture), one)
    )
    np.testing.assert_array_equal(said, expected)
    assert clone(mixture).fit(tasks).names_ == ["a"]
    assert mixture.get_params()["b"] == "drop"


def test_mixture_when_all_members_are_dropped_says_so():
    # There is nothing left to mix.
    mixture = MetaStackingRegressor([("a", "drop")])
    with pytest.raises(ValueError, match="All members are dropped: expected at least"):
        mixture.fit(regression_tasks())
