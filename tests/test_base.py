"""What the base class adds: input forms, held-out tasks, scores and devices."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import is_classifier
from small_estimators import (
    ALL_ESTIMATORS,
    TRAINED_ESTIMATORS,
    class_tasks,
    outputs,
    small,
    tasks_for,
)

from sklearn_meta import (
    MAMLClassifier,
    MAMLRegressor,
    ModelBasedMetaClassifier,
    ProtoNetClassifier,
    TaskCollection,
    TaskEnsembleClassifier,
)
from sklearn_meta.exceptions import DeviceWarning, FewTasksWarning
from sklearn_meta.metrics import few_shot_score

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a machine with a GPU"
)
needs_no_gpu = pytest.mark.skipif(
    torch.cuda.is_available(), reason="needs a machine without a GPU"
)


@pytest.fixture(params=ALL_ESTIMATORS, ids=lambda cls: cls.__name__)
def estimator(request):
    """Each public estimator, not fitted."""
    return small(request.param)


@pytest.fixture(params=TRAINED_ESTIMATORS, ids=lambda cls: cls.__name__)
def trained(request):
    """Each public estimator that trains a learner, not fitted."""
    return small(request.param)


@pytest.fixture
def tasks(estimator):
    """Six ragged tasks of its kind."""
    return tasks_for(estimator)


# ---------------------------------------------------------------- forms of input


def test_fit_when_the_forms_of_input_differ_learns_the_same(estimator, tasks):
    """A collection, pairs, flat rows with ids, and rows in another order of tasks."""
    X, y, ids = tasks.to_flat()
    found = [
        outputs(estimator.fit(*form).adapt(X[:5], y[:5]), X)
        for form in (
            (tasks,),
            (list(tasks),),
            ([tuple(task) for task in tasks],),
            (X, y, ids),
        )
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.filterwarnings("ignore:Expected at least 10 classes")
def test_fit_on_one_table_is_adapted_to_all_its_rows(estimator, tasks):
    """So that it is a full scikit-learn estimator."""
    X, y, _ = tasks.to_flat()
    if is_classifier(estimator):
        X, y = np.r_[X, X + 9], np.r_[y, [f"{label}{label}" for label in y]]
    found = outputs(estimator.fit(X, y), X)
    assert estimator.n_tasks_ == 1
    np.testing.assert_array_equal(found, outputs(estimator.adapt(X, y), X))


def test_refit_on_tasks_after_one_table_needs_adapt_again(estimator, tasks):
    """The table's state does not belong to the new weights."""
    X, y = tasks[0]
    if "label_mode" in estimator.get_params():
        estimator.set_params(label_mode="shared")
    estimator.fit(X, y)
    assert hasattr(estimator, "adapted_")
    assert not hasattr(estimator.fit(tasks), "adapted_")


def test_adapt_tasks_when_the_forms_of_input_differ_is_the_same(estimator, tasks):
    """Of support rows as of training rows."""
    estimator.fit(tasks)
    X, y, ids = tasks.to_flat()
    first = outputs(estimator.adapt_tasks(tasks), X, tasks=ids)
    second = outputs(estimator.adapt_tasks(X, y, tasks=ids), X, tasks=ids)
    np.testing.assert_array_equal(first, second)


def test_adapt_tasks_when_there_is_one_task_needs_no_ids(estimator, tasks):
    """With one task there is nothing to choose."""
    estimator.fit(tasks).adapt_tasks(tasks[2:3])
    X = tasks[2].X
    first = outputs(estimator, X)
    np.testing.assert_array_equal(outputs(estimator, X, tasks=["t2"] * len(X)), first)


# ---------------------------------------------------------------- score


def test_score_after_adapt_is_that_of_the_predictions(estimator, tasks):
    """Accuracy or R2, as in scikit-learn."""
    (X, y), (Xq, yq) = tasks[0], tasks[1]
    estimator.fit(tasks).adapt(X, y)
    if is_classifier(estimator):
        expected = (estimator.predict(Xq) == yq).mean()
    else:
        residual = ((estimator.predict(Xq) - yq) ** 2).mean()
        expected = 1 - residual / yq.var()
    assert estimator.score(Xq, yq) == pytest.approx(expected)


def test_score_of_tasks_is_the_few_shot_score(estimator, tasks):
    """The mean over tasks, with the middle of n_shots."""
    estimator.set_params(n_shots=(1, 3)).fit(tasks)
    stratify = getattr(estimator, "label_mode_", "") == "task"
    expected = few_shot_score(
        estimator, tasks, n_shots=2, stratify=stratify, random_state=0
    )
    X, y, ids = tasks.to_flat()
    assert estimator.score(tasks) == pytest.approx(expected)
    assert estimator.score(X, y, tasks=ids) == pytest.approx(expected)


def test_score_of_tasks_leaves_the_adaptation(estimator, tasks):
    """Scoring is a question, not a change."""
    estimator.fit(tasks).adapt(*tasks[0])
    before = outputs(estimator, tasks[1].X)
    estimator.score(tasks)
    np.testing.assert_array_equal(outputs(estimator, tasks[1].X), before)


# ---------------------------------------------------------------- held-out tasks


@pytest.mark.parametrize(
    ("fraction", "n_held_out"), [(0.2, 2), (0.01, 1), (0.34, 4), (0.99, 11)]
)
def test_held_out_number_follows_the_fraction_and_leaves_a_task(fraction, n_held_out):
    """At least one on each side."""
    model = small(MAMLRegressor, early_stopping=True, validation_fraction=fraction)
    rows = model._check_rows(tasks_for(model, 12), None, None, reset=True, min_rows=2)
    parts = model._hold_out(rows, None, np.random.RandomState(0))
    train, validation = parts.split()
    assert len(validation.sizes) == n_held_out
    assert len(train.sizes) == 12 - n_held_out
    assert set(train.names).isdisjoint(validation.names)


def test_held_out_units_of_one_table_are_classes():
    """New classes are what a model of local labels is asked for."""
    X, y, _ = class_tasks(2, labels=list("abcdefghijklmno")).to_flat()
    model = small(ModelBasedMetaClassifier, label_mode="task", validation_fraction=0.3)
    model.fit(X, y)
    assert model.validation_scores_ is not None
    rows = model._check_rows(X, y, None, reset=False)
    parts = model._hold_out(rows, None, np.random.RandomState(0))
    train, held_out = set(parts.train.y), set(parts.validation.y)
    assert train.isdisjoint(held_out)
    assert len(held_out) == 4 and train | held_out == set(y)


def test_early_stopping_when_false_learns_from_all_tasks(trained):
    """Nothing is held out unless it is wanted."""
    tasks = tasks_for(trained, 12)
    trained.set_params(early_stopping=False).fit(tasks)
    assert trained.validation_scores_ is None


def test_class_with_one_row_is_left_out_with_a_warning():
    """It cannot be on both sides of an episode."""
    tasks = [(np.r_[X, X[:1]], np.r_[y, ["rare"]]) for X, y in class_tasks()]
    model = small(ModelBasedMetaClassifier, label_mode="task")
    match = "6 classes with a single row .* first 'rare' of task 't0'"
    with pytest.warns(FewTasksWarning, match=match):
        model.fit(TaskCollection(tasks, names=[f"t{i}" for i in range(6)]))


# ---------------------------------------------------------------- devices


@needs_no_gpu
def test_fit_when_the_device_is_missing_says_what_to_do(trained):
    """Before any training."""
    tasks = tasks_for(trained)
    with pytest.raises(ValueError, match="'cuda' is not available .* device='auto'"):
        trained.set_params(device="cuda").fit(tasks)


@needs_no_gpu
def test_pickle_when_its_device_is_missing_loads_on_the_cpu(trained):
    """Trained on a GPU, served on a laptop."""
    tasks = tasks_for(trained)
    trained.fit(tasks).adapt(*tasks[0])
    expected = outputs(trained, tasks[1].X)
    stored = pickle.dumps(copy.copy(trained).set_params(device="cuda"))
    with pytest.warns(DeviceWarning, match="'cuda' is not available .* on the CPU"):
        loaded = pickle.loads(stored)
    assert loaded.device_ == torch.device("cpu")
    np.testing.assert_array_equal(outputs(loaded, tasks[1].X), expected)


@needs_gpu
def test_fit_on_the_gpu_agrees_with_the_cpu(trained):
    """The same episodes and the same start, to the precision of float32 training."""
    tasks = tasks_for(trained)
    curves, found = [], []
    for device in ("cpu", "cuda"):
        trained.set_params(device=device).fit(tasks).adapt(*tasks[0])
        assert trained.device_.type == device
        curves.append(trained.loss_curve_)
        found.append(outputs(trained, tasks[1].X))
    np.testing.assert_allclose(curves[1][:3], curves[0][:3], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[1], found[0], rtol=0.05, atol=0.02)


@needs_gpu
def test_predictions_on_the_gpu_agree_with_the_cpu_on_the_same_weights(trained):
    """Adapting and predicting run in float64 on both."""
    tasks = tasks_for(trained)
    trained.set_params(device="cuda").fit(tasks)
    on_gpu = outputs(trained.adapt(*tasks[0]), tasks[1].X)
    on_cpu = pickle.loads(pickle.dumps(copy.copy(trained).set_params(device="cpu")))
    assert on_cpu.device_.type == "cpu"
    found = outputs(on_cpu.adapt(*tasks[0]), tasks[1].X)
    np.testing.assert_allclose(found, on_gpu, rtol=1e-6, atol=1e-8)


@needs_gpu
def test_results_on_the_gpu_are_numpy_on_the_cpu(trained):
    """Whatever the device, scikit-learn gets arrays."""
    tasks = tasks_for(trained)
    trained.set_params(device="cuda").fit(tasks).adapt_tasks(tasks)
    X, _, ids = tasks.to_flat()
    assert type(outputs(trained, X, tasks=ids)) is np.ndarray
    assert type(trained.predict(X, tasks=ids)) is np.ndarray
    assert {type(loss) for loss in trained.loss_curve_} == {float}


@needs_gpu
def test_pickle_from_the_gpu_holds_nothing_of_it(trained):
    """Or it would not load where there is none."""
    tasks = tasks_for(trained)
    trained.set_params(device="cuda").fit(tasks).adapt(*tasks[0])
    state = trained.__getstate__()
    assert "device_" not in state
    assert {p.device.type for p in state["learner_"].parameters()} == {"cpu"}
    stored = pickle.dumps(trained)
    assert b"cuda:0" not in stored
    loaded = pickle.loads(stored)
    assert loaded.device_.type == "cuda"
    np.testing.assert_allclose(
        outputs(loaded, tasks[1].X), outputs(trained, tasks[1].X)
    )


@needs_gpu
def test_partial_fit_on_the_gpu_when_loaded_goes_on(trained):
    """The optimizer's state follows the weights."""
    tasks = tasks_for(trained)
    trained.set_params(device="cuda").fit(tasks)
    loaded = pickle.loads(pickle.dumps(trained)).partial_fit(tasks)
    assert np.isfinite(loaded.loss_curve_).all()


def test_device_when_an_object_is_taken_as_it_is(trained):
    """torch's own word for it."""
    tasks = tasks_for(trained)
    trained.set_params(device=torch.device("cpu")).fit(tasks)
    assert trained.device_ == torch.device("cpu")


def test_protonet_when_verbose_is_off_prints_nothing(capsys):
    """A library is quiet unless asked."""
    small(ProtoNetClassifier).fit(class_tasks())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("cls", [MAMLClassifier, TaskEnsembleClassifier])
def test_n_shots_when_a_numpy_integer_means_what_the_integer_means(cls):
    """A grid over np.arange hands numpy integers to the estimator."""
    tasks = class_tasks()
    plain, grid = (small(cls, n_shots=n).fit(tasks) for n in (2, np.int64(2)))
    sizes = [model._support_range() for model in (plain, grid)]
    assert sizes == [(6, 6), (6, 6)]
