"""Prototypical networks: which embedding, and that it transfers to new classes."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from small_estimators import class_tasks, small

from sklearn_meta import (
    MetaStackingClassifier,
    ProtoNetClassifier,
    TaskCollection,
    few_shot_split,
)
from sklearn_meta.estimators import whitened
from sklearn_meta.exceptions import FewTasksWarning, LargeSupportWarning
from sklearn_meta.metrics import few_shot_score


@pytest.fixture(scope="module")
def digits():
    """Rows of the digits 0 to 5, and of 6 to 9, which are new."""
    X, y = load_digits(return_X_y=True)
    return (X[y < 6], y[y < 6]), (X[y >= 6], y[y >= 6])


def local_tasks(n_tasks):
    """Return tasks, each with three classes that no other task has."""
    tasks = class_tasks(n_tasks)
    return TaskCollection(
        [(X, [f"{label}{i}" for label in y]) for i, (X, y) in enumerate(tasks)]
    )


def accuracy_on_new(model, X, y, n_episodes=10):
    """Return the mean accuracy on new classes, five rows each known."""
    scores = []
    for seed in range(n_episodes):
        Xs, Xq, ys, yq = few_shot_split(X, y, n_shots=5, random_state=seed)
        scores.append(model.adapt(Xs, ys).score(Xq, yq))
    return np.mean(scores)


@pytest.mark.filterwarnings("ignore:Expected at least 10 classes")
@pytest.mark.parametrize(("embedding", "bound"), [("network", 0.5), ("whitened", 0.85)])
def test_new_digits_when_adapted_to_five_rows_are_told_apart(digits, embedding, bound):
    """Chance is a quarter; six known digits are few for a network."""
    (X, y), (X_new, y_new) = digits
    params = {"max_iter": 60, "hidden_layer_sizes": (32, 32), "meta_batch_size": 8}
    model = small(ProtoNetClassifier, embedding=embedding, **params).fit(X, y)
    assert accuracy_on_new(model, X_new, y_new) > bound


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "mahalanobis"])
@pytest.mark.parametrize("mode", ["shared", "task"])
def test_fit_lowers_the_loss_for_every_distance(distance, mode):
    """Every distance must train."""
    model = small(
        ProtoNetClassifier, distance=distance, label_mode=mode, embedding="network"
    )
    loss = model.set_params(max_iter=60, lr=0.01).fit(class_tasks(12)).loss_curve_
    assert np.mean(loss[-10:]) < 0.95 * np.mean(loss[:10])


@pytest.mark.parametrize("distance", ["euclidean", "mahalanobis"])
def test_one_row_per_class_is_enough_for_every_distance(distance):
    """A covariance of one row is the regulariser alone."""
    tasks = class_tasks()
    model = small(ProtoNetClassifier, distance=distance).fit(tasks)
    X, y = tasks[0]
    first = np.unique(y, return_index=True)[1]
    assert np.isfinite(model.adapt(X[first], y[first]).predict_proba(X)).all()


@pytest.mark.parametrize(
    ("params", "tasks", "expected"),
    [
        ({}, local_tasks(6), "whitened"),
        ({}, local_tasks(30), "network"),  # 90 classes
        ({}, class_tasks(), "network"),  # shared labels
        ({"distance": "cosine"}, local_tasks(6), "network"),
        ({"embedding": "network"}, local_tasks(6), "network"),
        ({"embedding": "whitened"}, local_tasks(30), "whitened"),
    ],
)
def test_embedding_when_auto_whitens_few_local_classes(params, tasks, expected):
    """A network learns too little from few classes; `embedding_` tells."""
    model = small(ProtoNetClassifier, max_iter=2, **params).fit(tasks)
    assert model.embedding_ == expected


@pytest.mark.parametrize(
    "params", [{"label_mode": "shared"}, {"distance": "cosine"}], ids=str
)
def test_embedding_when_whitening_cannot_be_raises(params):
    """The closed form is for local labels and Euclidean distances."""
    model = small(ProtoNetClassifier, embedding="whitened", label_mode="task")
    match = "embedding='whitened' .* need labels local .* Use embedding='network'"
    with pytest.raises(ValueError, match=match):
        model.set_params(**params).fit(class_tasks())


def test_discriminant_head_tells_classes_apart_from_one_row():
    """Twenty numbers and two covariances are all it learns."""
    model = small(ProtoNetClassifier, head="discriminant").fit(local_tasks(12))
    assert model.embedding_ == "whitened"
    assert sum(p.numel() for p in model.learner_.parameters()) == 20
    assert few_shot_score(model, local_tasks(12), n_shots=1, random_state=0) > 0.6


@pytest.mark.parametrize("wrong", [{"embedding": "network"}, {"label_mode": "shared"}])
def test_discriminant_head_without_whitened_rows_raises(wrong):
    """A network has no covariances of classes."""
    model = small(ProtoNetClassifier, head="discriminant", **wrong)
    with pytest.raises(ValueError, match="head='discriminant' need labels local"):
        model.fit(class_tasks())


def test_early_stopping_when_whitening_raises():
    """Eight numbers need no tasks held out."""
    model = small(ProtoNetClassifier, embedding="whitened", early_stopping=True)
    with pytest.raises(ValueError, match="Use 'auto' or False"):
        model.fit(local_tasks(6))


@pytest.mark.parametrize(
    ("params", "done"),
    [
        ({}, "got 6: rows are whitened in closed form"),
        ({"hidden_layer_sizes": (8,)}, "got 6: the network will fit these closely"),
        ({"embedding": "network"}, "got 6: the network will fit these closely"),
    ],
)
def test_few_classes_when_no_closed_form_is_asked_for_warn_once(params, done):
    """Whoever learns from so few has to know it, and what was done about it."""
    model = small(ProtoNetClassifier).set_params(**params)
    with pytest.warns(FewTasksWarning, match=done) as caught:
        model.fit(local_tasks(2))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    model.partial_fit(local_tasks(2))  # known by now


@pytest.mark.parametrize(
    "params", [{"embedding": "whitened"}, {"head": "discriminant"}]
)
def test_few_classes_when_the_closed_form_is_asked_for_do_not_warn(params):
    """It was chosen knowingly; so were ten classes, or labels that are shared."""
    small(ProtoNetClassifier).set_params(**params).fit(local_tasks(2))
    small(ProtoNetClassifier).fit(local_tasks(4))
    small(ProtoNetClassifier).fit(class_tasks(5))


def test_few_classes_when_a_mixture_learns_leave_its_members_silent():
    """They are judged on held-out classes, and the user has not chosen them."""
    X, y, _ = local_tasks(2).to_flat()
    members = [("prototypes", small(ProtoNetClassifier, max_iter=2))]
    MetaStackingClassifier(members, random_state=0).fit(X, y)


def test_two_classes_when_whitening_warn():
    """None can be held out, so that confidence cannot be learned."""
    X, y = class_tasks(1, labels=["a", "b"])[0]
    with pytest.warns(FewTasksWarning, match="2 classes are too few to hold some out"):
        small(ProtoNetClassifier).fit(X, y)


def test_large_support_when_whitened_is_thinned_evenly_and_says_so(monkeypatch):
    """The head factors a matrix of all support rows: it must stay small."""
    monkeypatch.setattr(whitened, "MAX_HEAD_ROWS", 12)
    X, y = np.random.default_rng(0).normal(size=(100, 2)), np.repeat(list("aab"), 40)
    model = ProtoNetClassifier(max_iter=4, meta_batch_size=4, random_state=0)
    with pytest.warns(FewTasksWarning, match="too few"):
        model.fit(X, y[:100])
    with pytest.warns(LargeSupportWarning, match=r"the table has 100 rows.*12"):
        model.adapt(X, y[:100])
    assert model.adapted_.states[0]["rows"].shape[1] == 12
