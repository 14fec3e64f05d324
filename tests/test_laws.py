"""The laws of the design, held by every estimator and its variants.

The numbers in the section titles are those of the laws: vectorised equals the task
loop (1), the loss (3), rows are independent (4), labels (5), nothing is written (8),
long inner loops (9), held-out tasks (11).
"""

import copy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import is_regressor
from small_estimators import (
    all_small,
    class_tasks,
    holds_classes_out,
    name_of,
    outputs,
    small,
    tasks_for,
    trained_on_episodes,
)

from sklearn_meta import (
    MAMLClassifier,
    MAMLRegressor,
    ModelBasedMetaClassifier,
    ProtoNetClassifier,
    TaskCollection,
)
from sklearn_meta.exceptions import DivergenceWarning

# the drawn targets are wilder than those trained on; section 9 is about that
pytestmark = pytest.mark.filterwarnings(
    "ignore:The inner loop diverged:sklearn_meta.exceptions.DivergenceWarning"
)

# adapting runs in float64; another batch shape changes the last digits of a product
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}

each_classifier = pytest.mark.parametrize(
    "estimator_class", [MAMLClassifier, ModelBasedMetaClassifier, ProtoNetClassifier]
)
any_data = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module", params=all_small(), ids=name_of)
def fitted(request):
    """Each estimator and variant, trained for a few steps; not to be adapted."""
    return request.param.fit(tasks_for(request.param))


@pytest.fixture(scope="module", params=trained_on_episodes(), ids=name_of)
def trained(request):
    """Those of them that train a learner on episodes."""
    return request.param.fit(tasks_for(request.param))


@pytest.fixture
def model(fitted):
    """A copy of it that a test may adapt."""
    return copy.copy(fitted)


def tables(model, sizes, seed):
    """Return tasks with given numbers of rows, and queries."""
    rng = np.random.default_rng(seed)
    tasks = []
    for size in sizes:
        X = 2 * rng.normal(size=(size, 2))
        y = 3 * rng.normal(size=size)
        if hasattr(model, "classes_"):
            # two classes at least, whatever the labels mean
            y = np.r_[["a", "b"], rng.choice(["a", "b", "c"], size - 2)]
        tasks.append((X, y))
    return TaskCollection(tasks), rng.normal(size=(5, 2))


def by_label(model, proba):
    """Return probabilities in the columns a, b, c (regression: as they are)."""
    if not hasattr(model, "classes_"):
        return proba
    table = np.zeros((len(proba), 3))
    table[:, np.searchsorted(["a", "b", "c"], model.classes_)] = proba
    return table


# ---------------------------------------------------------------- 1: tasks and rows


@any_data
@given(
    sizes=st.lists(st.integers(2, 9), min_size=1, max_size=5), seed=st.integers(0, 99)
)
def test_adapt_tasks_when_ragged_equals_one_by_one(fitted, sizes, seed):
    """Padding and neighbours in the stack must not matter."""
    tasks, X = tables(fitted, sizes, seed)
    many = copy.copy(fitted).adapt_tasks(tasks)
    for name, (Xs, ys) in enumerate(tasks):
        one = copy.copy(fitted).adapt(Xs, ys)
        found = by_label(many, outputs(many, X, tasks=[name] * len(X)))
        np.testing.assert_allclose(found, by_label(one, outputs(one, X)), **TOLERANCE)


@any_data
@given(order=st.permutations(range(4)), seed=st.integers(0, 99))
def test_order_of_tasks_does_not_matter(fitted, order, seed):
    """A task is adapted to by itself."""
    tasks, X = tables(fitted, [3, 7, 2, 4], seed)
    ids = np.repeat(range(4), 5)
    straight = copy.copy(fitted).adapt_tasks(tasks)
    shuffled = copy.copy(fitted).adapt_tasks(TaskCollection(tasks)[np.array(order)])
    rows = np.tile(X, (4, 1))
    np.testing.assert_allclose(
        outputs(straight, rows, tasks=ids),
        outputs(shuffled, rows, tasks=ids),
        **TOLERANCE,
    )


@any_data
@given(order=st.permutations(range(8)), seed=st.integers(0, 99))
def test_order_of_support_rows_does_not_matter(fitted, order, seed):
    """A support is a set."""
    tasks, X = tables(fitted, [8], seed)
    Xs, ys = tasks[0]
    straight = copy.copy(fitted).adapt(Xs, ys)
    shuffled = copy.copy(fitted).adapt(Xs[order], ys[order])
    np.testing.assert_allclose(outputs(straight, X), outputs(shuffled, X), **TOLERANCE)


def test_ids_when_rows_are_interleaved_find_their_task(model):
    """Flat rows come in any order, and so do the ids of queries."""
    tasks, X = tables(model, [4, 6, 3], 0)
    X_flat, y_flat, ids = tasks.to_flat()
    mixed = np.random.default_rng(0).permutation(len(ids))
    straight = copy.copy(model).adapt_tasks(tasks)
    model.adapt_tasks(X_flat[mixed], y_flat[mixed], ids[mixed])
    asked = [2, 0, 1, 2, 0]
    np.testing.assert_allclose(
        outputs(model, X, tasks=asked),
        outputs(straight, X, tasks=asked),
        **TOLERANCE,
    )


def test_zero_inner_steps_change_nothing():
    """Every support then leads to the same predictions."""
    model = small(MAMLRegressor, adapt_steps=0)
    tasks = tasks_for(model)
    model.fit(tasks)
    first = model.adapt(*tasks[0]).predict(tasks[2].X)
    np.testing.assert_array_equal(model.adapt(*tasks[1]).predict(tasks[2].X), first)


# ---------------------------------------------------------------- 3: the loss


def test_loss_when_one_task_is_large_weighs_tasks_alike(trained):
    """Mean over each task's own queries, then over tasks."""
    loop, device = trained._outer_loop(), torch.device("cpu")
    loop = getattr(loop, "then", loop)
    rows = trained._check_rows(tasks_for(trained), None, None, reset=False)
    rows = rows._replace(X=trained._prepare(rows.X))
    sampler = trained._sampler(rows, device)
    drawn = sampler.sample(4, torch.Generator().manual_seed(0))
    learner = copy.deepcopy(trained.learner_).float()
    net = loop._build_net(learner, _Stream(sampler), None).initialize()
    together = net.loss_of(sampler.gather(drawn), 0.0)
    one_by_one = [
        net.loss_of(sampler.gather(drawn.select(slice(i, i + 1))), 0.0)
        for i in range(4)
    ]
    torch.testing.assert_close(together, torch.stack(one_by_one).mean())


class _Stream:
    """As much of a stream of episodes as building a net needs."""

    def __init__(self, sampler):
        self.sampler, self.n_chunks = sampler, 1


# ---------------------------------------------------------------- 4: rows


def test_prediction_of_a_row_when_alone_is_the_same(model):
    """No batch statistics, no leak between queries."""
    tasks, X = tables(model, [6], 1)
    model.adapt(*tasks[0])
    together = outputs(model, X)
    alone = np.vstack([outputs(model, X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_allclose(together, alone, **TOLERANCE)


def test_prediction_of_a_row_when_tasks_are_asked_together_is_the_same(model):
    """Neither does a neighbour of another task leak."""
    tasks, X = tables(model, [6, 3, 4], 1)
    model.adapt_tasks(tasks)
    ids = [0, 1, 1, 2, 2]
    together = outputs(model, X, tasks=ids)
    alone = [outputs(model, X[[i]], tasks=ids[i : i + 1]) for i in range(5)]
    np.testing.assert_allclose(together, np.vstack(alone), **TOLERANCE)


# ---------------------------------------------------------------- 5: labels

LABELS = {
    "str": ["no", "maybe", "yes"],
    "int": [7, -3, 100],
    "bool": [False, True],
    "object": np.array(["x", "yy", "z"], dtype=object),
}


@each_classifier
@pytest.mark.parametrize("mode", ["shared", "task"])
@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_type_come_back_as_they_were(estimator_class, mode, kind):
    """Labels are names; nobody numbers them for us."""
    tasks = class_tasks(labels=LABELS[kind])
    model = small(estimator_class, label_mode=mode).fit(tasks)
    X, y = tasks[0]
    predicted = model.adapt(X, y).predict(X)
    assert predicted.dtype == np.asarray(y).dtype
    assert set(predicted) <= set(y)
    np.testing.assert_array_equal(model.classes_, np.unique(LABELS[kind]))


@each_classifier
def test_shared_labels_when_a_class_lacks_support_keep_its_probability(
    estimator_class,
):
    """The class has one meaning in all tasks, so it may still come."""
    tasks = class_tasks()
    model = small(estimator_class, label_mode="shared").fit(tasks)
    X, y = tasks[0]
    proba = model.adapt(X[y != "b"], y[y != "b"]).predict_proba(X)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert (proba[:, 1] > 0).all()


@each_classifier
def test_shared_labels_when_the_support_has_one_class_still_predict(estimator_class):
    """One labelled row is a support too."""
    tasks = class_tasks()
    model = small(estimator_class, label_mode="shared").fit(tasks)
    proba = model.adapt(tasks[0].X[:1], tasks[0].y[:1]).predict_proba(tasks[1].X)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(1), 1)


@each_classifier
@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_task_labels_when_ways_differ_from_training_follow_the_support(
    estimator_class, n_classes
):
    """Trained on three classes at most, it serves two and seven, all new."""
    model = small(estimator_class, label_mode="task", n_ways=3).fit(class_tasks())
    labels = [f"new {i}" for i in range(n_classes)]
    X, y = class_tasks(1, labels=labels, seed=5)[0]
    proba = model.adapt(X, y).predict_proba(X)
    assert model.classes_.tolist() == labels
    assert proba.shape == (len(X), n_classes)
    np.testing.assert_allclose(proba.sum(1), 1)


@each_classifier
def test_task_labels_when_renamed_rename_the_prediction(estimator_class):
    """A label is a name: its place in the alphabet carries nothing."""
    model = small(estimator_class, label_mode="task").fit(class_tasks())
    X, y = class_tasks(1, seed=3)[0]
    proba = model.adapt(X, y).predict_proba(X)
    renamed = np.array(["c", "a", "b"])[np.searchsorted(["a", "b", "c"], y)]
    again = model.adapt(X, renamed).predict_proba(X)
    np.testing.assert_allclose(again[:, [2, 0, 1]], proba, **TOLERANCE)


@each_classifier
def test_task_labels_when_many_tasks_are_adapted_keep_apart(estimator_class):
    """A class of another task has probability 0; task_classes_ says whose is whose."""
    model = small(estimator_class, label_mode="task").fit(class_tasks())
    first = class_tasks(1, labels=["a", "z"])[0]
    second = class_tasks(1, labels=["b", "c", "d"])[0]
    model.adapt_tasks(TaskCollection([first, second], names=["p", "q"]))
    proba = model.predict_proba(first.X, tasks=["p"] * len(first))
    assert model.classes_.tolist() == ["a", "b", "c", "d", "z"]
    assert (proba[:, 1:4] == 0).all()
    classes = {name: own.tolist() for name, own in model.task_classes_.items()}
    assert classes == {"p": ["a", "z"], "q": ["b", "c", "d"]}


@each_classifier
def test_label_mode_when_auto_takes_what_the_data_shows(estimator_class, capsys):
    """Some task has all labels: shared. Each has its own: local. It says which."""
    same = class_tasks()
    own = TaskCollection(
        [(X, [f"{label}{i}" for label in y]) for i, (X, y) in enumerate(same)]
    )
    model = small(estimator_class, verbose=1)
    assert model.fit(same).label_mode_ == "shared"
    assert "'shared'" in capsys.readouterr().out
    assert model.fit(own).label_mode_ == "task"
    assert "'task'" in capsys.readouterr().out


@each_classifier
def test_predict_takes_the_most_probable_class(estimator_class):
    """The two must tell the same story."""
    tasks = class_tasks()
    for mode in ("shared", "task"):
        model = small(estimator_class, label_mode=mode).fit(tasks).adapt(*tasks[0])
        best = model.predict_proba(tasks[1].X).argmax(1)
        np.testing.assert_array_equal(model.predict(tasks[1].X), model.classes_[best])


# ---------------------------------------------------------------- 8: nothing is written


def test_adapt_leaves_arrays_alone(model):
    """They are the caller's."""
    tasks, X = tables(model, [6], 2)
    Xs, ys = (np.asarray(part) for part in tasks[0])
    given_arrays = Xs.copy(), ys.copy(), X.copy()
    model.adapt(Xs, ys).predict(X)
    for now, was in zip((Xs, ys, X), given_arrays, strict=True):
        np.testing.assert_array_equal(now, was)


def test_adapt_leaves_weights_alone(trained):
    """What was learned across tasks is the same for the next task."""
    tasks, X = tables(trained, [6], 2)
    weights = {k: v.clone() for k, v in trained.learner_.state_dict().items()}
    copy.copy(trained).adapt(*tasks[0]).predict(X)
    for name, now in trained.learner_.state_dict().items():
        assert torch.equal(now, weights[name])


def test_adapt_when_arrays_are_read_only_works(model):
    """joblib hands out memory maps."""
    tasks, X = tables(model, [6], 2)
    Xs, ys = (np.asarray(part) for part in tasks[0])
    for array in (Xs, ys, X):
        array.setflags(write=False)
    assert np.isfinite(outputs(model.adapt(Xs, ys), X)).all()


def test_adapt_when_repeated_forgets_the_first_task(model):
    """Adapting replaces; it does not add up."""
    tasks, X = tables(model, [6, 4], 2)
    once = outputs(copy.copy(model).adapt(*tasks[1]), X)
    again = outputs(model.adapt(*tasks[0]).adapt(*tasks[1]), X)
    np.testing.assert_array_equal(again, once)


# ---------------------------------------------------------------- 9: hard supports


@any_data
@given(exponent=st.integers(3, 100), seed=st.integers(0, 99))
def test_predictions_when_support_values_are_huge_are_finite(fitted, exponent, seed):
    """A wrong unit in one cell must not answer NaN."""
    tasks, X = tables(fitted, [5], seed)
    Xs, ys = tasks[0]
    model = copy.copy(fitted).adapt(Xs * 10.0**exponent, ys)
    assert np.isfinite(outputs(model, X)).all()
    assert np.isfinite(outputs(model, X * 10.0**exponent)).all()


@pytest.mark.parametrize("exponent", [3, 30, 100])
@pytest.mark.parametrize(
    "estimator", [e for e in all_small() if is_regressor(e)], ids=name_of
)
def test_predictions_when_support_targets_are_huge_are_finite(estimator, exponent):
    """The same for the target."""
    tasks = tasks_for(estimator)
    (Xs, ys), (X, _) = tasks[0], tasks[1]
    model = estimator.fit(tasks).adapt(Xs, ys * 10.0**exponent)
    assert np.isfinite(outputs(model, X)).all()


@pytest.mark.parametrize("estimator_class", [MAMLClassifier, MAMLRegressor])
def test_adapt_when_steps_are_many_and_large_warns_and_stays_finite(estimator_class):
    """More steps than trained may diverge; the best one is kept."""
    model = small(estimator_class, standardize=False)
    tasks = tasks_for(model)
    model.fit(tasks).set_params(adapt_steps=200)
    model.learner_.inner_lr = 1e3
    with pytest.warns(DivergenceWarning, match="Lower inner_lr or adapt_steps"):
        model.adapt_tasks(tasks)
    X, _, ids = tasks.to_flat()
    assert np.isfinite(outputs(model, X, tasks=ids)).all()


@pytest.mark.parametrize("estimator_class", [MAMLClassifier, MAMLRegressor])
def test_adapt_when_steps_are_many_lowers_the_support_loss(estimator_class):
    """The number of steps is free after training, and does what it says."""
    model = small(estimator_class)
    tasks = tasks_for(model)
    X, y = tasks.to_flat()[0], tasks[0].y
    model.fit(tasks)
    scores = [
        model.set_params(adapt_steps=steps).adapt(*tasks[0]).score(tasks[0].X, y)
        for steps in (0, 100)
    ]
    assert scores[1] > scores[0]
    assert np.isfinite(outputs(model, X)).all()


@pytest.mark.parametrize("estimator", all_small(), ids=name_of)
def test_fit_when_a_feature_or_target_is_constant_stays_finite(estimator):
    """Nothing may be divided by a spread of zero."""
    tasks = [(np.c_[X[:, 0], np.ones(len(X))], y) for X, y in tasks_for(estimator)]
    if is_regressor(estimator):
        tasks = [(X, np.full(len(X), 2.0)) for X, _ in tasks]
    X, y = tasks[0]
    assert np.isfinite(outputs(estimator.fit(tasks).adapt(X, y), X)).all()


# ---------------------------------------------------------------- 11: held-out tasks


@pytest.mark.parametrize(
    "estimator",
    # whitening holds classes out in folds of its own, see test_whitening.py
    [e for e in trained_on_episodes() if not holds_classes_out(e)],
    ids=name_of,
)
def test_held_out_tasks_are_not_learned_from(estimator, monkeypatch):
    """Rows of the two samplers must have no task in common."""
    tasks = TaskCollection(
        [(np.full_like(X, i), y) for i, (X, y) in enumerate(tasks_for(estimator, 10))]
    )
    samplers = []

    def spy(parts, device):
        samplers[:] = type(estimator)._samplers(estimator, parts, device)
        return tuple(samplers)

    estimator.set_params(early_stopping=True, validation_fraction=0.3)
    monkeypatch.setattr(estimator, "_samplers", spy)
    estimator.fit(tasks)
    train, held_out = map(_first_numbers, samplers)
    assert len(held_out) == 3
    assert train.isdisjoint(held_out)
    assert len(train | held_out) == 10


def _first_numbers(sampler):
    """Return what the first column holds in the rows of many episodes."""
    rows = sampler.sample(60, torch.Generator().manual_seed(0))
    episodes = sampler.gather(rows)
    return set(episodes.X_support[episodes.support_mask][:, 0].tolist())
