"""Local and shared labels, uneven supports and varying ways, in every classifier."""

import copy

import numpy as np
import pytest
from sklearn.base import is_classifier
from small_estimators import ALL_ESTIMATORS, small

from sklearn_meta import MAMLClassifier, MetaStackingClassifier, TaskCollection
from sklearn_meta.exceptions import LabelModeWarning

# the drawn supports are small, and training is short
pytestmark = pytest.mark.filterwarnings(
    "ignore:The inner loop diverged:sklearn_meta.exceptions.DivergenceWarning"
)

CLASSIFIERS = [cls for cls in ALL_ESTIMATORS if is_classifier(cls())]
# a kept or a pooled model knows the labels that it was fitted on, and no others
KNOWS_LOCAL = [cls for cls in CLASSIFIERS if hasattr(cls(), "label_mode")]
WAYS = (5, 2, 3, 4, 2, 5, 3, 2)


def uneven_tasks(ways=WAYS, *, local, seed=0):
    """Return tasks of 2 to 10 rows a class and as many classes as are asked for."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i, n_ways in enumerate(ways):
        sizes = [2 + (i + 4 * j) % 9 for j in range(n_ways)]
        position = rng.permutation(np.repeat(np.arange(n_ways), sizes))
        names = np.array([f"{c}{i}" if local else c for c in "abcdefg"])
        X = 4 * rng.normal(size=(n_ways, 3))[position]
        tasks.append((X + rng.normal(size=X.shape), names[position]))
    return TaskCollection(tasks)


def fit(cls, *, local):
    """Return a classifier that has learned from uneven tasks."""
    params = {"label_mode": "task" if local else "shared"}
    if cls not in KNOWS_LOCAL or cls is MetaStackingClassifier:
        params = {}  # its own choice has to be the right one
    return small(cls, **params).fit(uneven_tasks(local=local))


@pytest.fixture(scope="module", params=KNOWS_LOCAL)
def local(request):
    """Each classifier that takes labels of a task's own; not to be adapted."""
    return fit(request.param, local=True)


@pytest.fixture(scope="module", params=CLASSIFIERS)
def shared(request):
    """Each classifier, with labels that mean the same in every task."""
    return fit(request.param, local=False)


def assert_probabilities(proba, shape):
    """They are finite, not negative, and sum to one."""
    assert proba.shape == shape
    assert np.isfinite(proba).all() and (proba >= 0).all()
    np.testing.assert_allclose(proba.sum(1), 1)


def test_every_classifier_is_among_those_tested():
    # A new one must not go by.
    assert len(CLASSIFIERS) == 8 and len(KNOWS_LOCAL) == 6


@pytest.mark.parametrize("ways", [2, 3, 7])
def test_local_labels_when_new_and_of_another_number_are_those_of_the_support(
    local, ways
):
    # Learned from two to five classes a task, it serves two to seven, all new.
    X, y = uneven_tasks([ways], local=True, seed=1)[0]
    model = copy.copy(local).adapt(X, y)
    assert model.label_mode_ == "task"
    assert model.classes_.tolist() == sorted(set(y))
    assert_probabilities(model.predict_proba(X), (len(X), ways))


def test_local_labels_when_tasks_of_many_ways_are_adapted_at_once_keep_apart(local):
    # One stack holds two, seven and three classes; padding must not answer.
    tasks = uneven_tasks([2, 7, 3], local=True, seed=2)
    X, y, ids = tasks.to_flat()
    many = copy.copy(local).adapt_tasks(tasks)
    assert len(many.classes_) == 12
    proba = many.predict_proba(X, tasks=ids)
    assert_probabilities(proba, (len(X), 12))
    # the last letter of a label is its task's
    foreign = np.array([[c[-1] != label[-1] for c in many.classes_] for label in y])
    assert foreign.any() and (proba[foreign] == 0).all()
    log_proba = many.predict_log_proba(X, tasks=ids)
    np.testing.assert_allclose(np.exp(log_proba), proba)
    assert (log_proba[foreign] == -np.inf).all()


def test_shared_labels_when_a_class_is_missing_keep_its_probability(shared):
    # Its meaning is known from other tasks.
    X, y = uneven_tasks([5], local=False, seed=3)[0]
    few = np.isin(y, ["a", "d"])
    model = copy.copy(shared).adapt(X[few], y[few])
    assert model.label_mode_ == "shared"
    assert model.classes_.tolist() == list("abcde")
    proba = model.predict_proba(X)
    assert_probabilities(proba, (len(X), 5))
    assert (proba > 0).all()


def test_shared_labels_when_tasks_have_other_classes_share_their_columns(shared):
    # Ways vary, columns do not.
    tasks = uneven_tasks([2, 5, 3], local=False, seed=4)
    X, _, ids = tasks.to_flat()
    proba = copy.copy(shared).adapt_tasks(tasks).predict_proba(X, tasks=ids)
    assert_probabilities(proba, (len(X), 5))


def uneven_support(labels, seed=5):
    """Return a row of one class and twelve of another, far apart, and both centres."""
    rng = np.random.default_rng(seed)
    y = np.array(labels)[np.repeat([0, 1], [1, 12])]
    centres = np.array([[6.0, -6.0, 6.0], [-6.0, 6.0, -6.0]])
    X = centres[np.repeat([0, 1], [1, 12])] + 0.1 * rng.normal(size=(13, 3))
    return X, y, centres


def test_uneven_support_of_local_labels_leaves_the_rare_class_its_place(local):
    # Twelve rows against one: the rare class is likelier at its own row.
    X, y, centres = uneven_support(["u", "v"])
    proba = copy.copy(local).adapt(X, y).predict_proba(centres)
    assert_probabilities(proba, (2, 2))
    assert proba[0, 0] > proba[1, 0]


def test_uneven_support_of_shared_labels_leaves_the_rare_class_its_place(shared):
    # The prior of the frequent class must not own the whole space.
    X, y, centres = uneven_support(["b", "c"])
    proba = copy.copy(shared).adapt(X, y).predict_proba(centres)
    assert_probabilities(proba, (2, 5))
    assert (proba[:, 1] > 0).all()


def hospitals(label_mode, labels=("abc", "bcd", "cda")):
    """Fit on tasks of some labels each, and return the model."""
    rng = np.random.default_rng(0)
    tasks = [
        (rng.normal(size=(12, 2)), np.repeat(list(own), 12 // len(own)))
        for own in labels
    ]
    return small(MAMLClassifier, label_mode=label_mode).fit(tasks)


def test_auto_labels_when_tasks_overlap_and_none_has_all_warns():
    # Diagnoses of which each hospital sees some: accuracy is lost without a word else.
    match = r"has all 4 of them, yet 4 are seen in more than one task: 'c' in 3 of 3"
    with pytest.warns(LabelModeWarning, match=match) as caught:
        model = hospitals("auto")
    assert len(caught) == 1
    assert model.label_mode_ == "task"


@pytest.mark.parametrize("label_mode", ["shared", "task"])
def test_given_label_mode_when_tasks_overlap_does_not_warn(label_mode):
    # Who has said what labels mean need not be asked.
    tasks = ("abc", "bcd", "cda") * 2
    assert hospitals(label_mode, tasks).label_mode_ == label_mode


@pytest.mark.parametrize("labels", [("ab", "cd"), ("abc", "ab") * 3], ids=str)
def test_auto_labels_when_they_are_plainly_local_or_shared_do_not_warn(labels):
    # The usual collections need no word of the user.
    local = labels[1] == "cd"
    assert hospitals("auto", labels).label_mode_ == ("task" if local else "shared")
