"""A network of the user's own: as a class, a callable or an instance."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from small_estimators import (
    TRAINED_ESTIMATORS,
    class_tasks,
    outputs,
    regression_tasks,
    small,
    tasks_for,
)
from torch import nn

from sklearn_meta import (
    MAMLClassifier,
    MAMLRegressor,
    ModelBasedMetaClassifier,
    ModelBasedMetaRegressor,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    TaskCollection,
)


class Perceptron(nn.Sequential):
    """A network that wants to know both widths."""

    def __init__(self, n_features, n_outputs=6, width=5):
        super().__init__(
            nn.Linear(n_features, width), nn.Tanh(), nn.Linear(width, n_outputs)
        )


class DigitNet(nn.Module):
    """A small conv net on rows of 64 pixels."""

    def __init__(self, n_outputs=8):
        super().__init__()
        self.features = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.GroupNorm(2, 4),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(64, n_outputs)

    def forward(self, rows):
        return self.head(self.features(rows))


class NormalisedNet(nn.Sequential):
    """A network that mixes the rows of a batch."""

    def __init__(self, n_features, n_outputs=1):
        super().__init__(nn.BatchNorm1d(n_features), nn.Linear(n_features, n_outputs))


def make_perceptron(n_features, n_outputs=6, **params):
    """Build the same network, by a function that takes any argument."""
    return Perceptron(n_features, n_outputs, **params)


def make_layers(n_features):
    """Forget to put the layers together."""
    return {"only": nn.Linear(n_features, 1)}


def digit_tasks(estimator):
    """Return tasks of two digits each, or of telling how bright an image is."""
    X, y = load_digits(return_X_y=True)
    tasks = []
    for first in range(0, 10, 2):
        rows = np.flatnonzero((y == first) | (y == first + 1))[:24]
        target = y[rows] if hasattr(estimator, "n_ways") else X[rows].mean(1)
        tasks.append((X[rows], target))
    return TaskCollection(tasks)


each_estimator = pytest.mark.parametrize("estimator_class", TRAINED_ESTIMATORS)


@each_estimator
@pytest.mark.parametrize("module", [Perceptron, make_perceptron], ids=["class", "call"])
def test_module_when_class_or_callable_is_built_and_used(estimator_class, module):
    """It gets the widths that it asks for, and its own parameters."""
    model = small(estimator_class, module=module, module__width=3)
    tasks = tasks_for(model)
    model = clone(model).fit(tasks).adapt(*tasks[0])
    built = [m for m in model.learner_.modules() if isinstance(m, Perceptron)]
    assert len(built) == 1
    assert built[0][0].weight.shape == (3, 2)
    assert np.isfinite(outputs(model, tasks[1].X)).all()


@each_estimator
def test_module_when_an_instance_is_copied(estimator_class):
    """The caller's object must not be trained, and all fits start from it."""
    n_outputs = {MAMLClassifier: 3, MAMLRegressor: 1}.get(estimator_class, 6)
    module = Perceptron(2, n_outputs)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = small(estimator_class, module=module)
    tasks = tasks_for(model)
    curves = [model.fit(tasks).loss_curve_ for _ in range(2)]
    assert curves[0] == curves[1]
    for name, value in module.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])


@each_estimator
def test_module_weights_when_built_in_fit_come_from_random_state(estimator_class):
    """The user's class draws from torch's global generator."""
    model = small(estimator_class, module=Perceptron)
    tasks = tasks_for(model)
    first = model.fit(tasks).loss_curve_
    torch.manual_seed(99)
    assert clone(model).fit(tasks).loss_curve_ == first


@each_estimator
def test_module_when_a_conv_net_learns_digits(estimator_class):
    """Images flattened to rows go through any family, and through a file."""
    model = small(estimator_class, module=DigitNet, max_iter=30, lr=0.01)
    tasks = digit_tasks(model)
    X, y = tasks[4]
    model.fit(tasks).adapt(X[:12], y[:12])
    loss = model.loss_curve_
    assert np.mean(loss[-6:]) < np.mean(loss[:6])
    table = outputs(model, X[12:])
    alone = np.vstack([outputs(model, X[i : i + 1]) for i in range(12, 24)])
    np.testing.assert_allclose(table, alone, rtol=1e-9, atol=1e-9)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(outputs(loaded, X[12:]), table)


@each_estimator
def test_module_when_it_mixes_rows_is_rejected(estimator_class):
    """A prediction would depend on the other queries."""
    model = small(estimator_class, module=NormalisedNet)
    with pytest.raises(ValueError, match="BatchNorm1d .* Use nn.LayerNorm"):
        model.fit(tasks_for(model))


@each_estimator
def test_module_when_it_returns_no_network_raises(estimator_class):
    """A dict of layers is not a network."""
    model = small(estimator_class, module=make_layers)
    with pytest.raises(TypeError, match="return an nn.Module, got dict"):
        model.fit(tasks_for(model))


class RecurrentNet(nn.Module):
    """A network of a kind for which torch has no batching rule."""

    def __init__(self, n_outputs=4):
        super().__init__()
        self.cell, self.out = nn.GRU(1, 3, batch_first=True), nn.Linear(3, n_outputs)

    def forward(self, rows):
        return self.out(self.cell(rows.unsqueeze(-1))[0][:, -1])


@pytest.mark.parametrize("variant", ["maml", "reptile", "imaml"])
@pytest.mark.parametrize("estimator_class", [MAMLClassifier, MAMLRegressor])
def test_module_when_it_is_recurrent_says_what_takes_it(estimator_class, variant):
    """The error of torch names an operator, and no way out."""
    model = small(estimator_class, module=RecurrentNet, variant=variant)
    match = "vmap .* aten::gru.* RidgeHeadRegressor, .* or write the cell with"
    with pytest.raises(ValueError, match=match):
        model.fit(tasks_for(model))


def test_module_when_it_is_recurrent_serves_heads_in_closed_form():
    """What the error promises."""
    for estimator_class in (RidgeHeadRegressor, RidgeHeadClassifier):
        model = small(estimator_class, module=RecurrentNet)
        tasks = tasks_for(model)
        assert np.isfinite(outputs(model.fit(tasks).adapt(*tasks[0]), tasks[0].X)).all()


class NeedsOutputs(Perceptron):
    """A network that cannot be built without its number of outputs."""

    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)


@pytest.mark.parametrize("estimator_class", [MAMLClassifier, ProtoNetClassifier])
def test_module_when_an_argument_is_lacking_says_which_are_given(estimator_class):
    """An embedding may be of any width, so none is asked for."""
    settings = {"module": NeedsOutputs, "label_mode": "task"}
    model = small(estimator_class, **settings)
    match = "called with n_features, without n_outputs since .*; Needs.*: missing a"
    with pytest.raises(TypeError, match=match):
        model.fit(class_tasks())
    tasks = class_tasks(4)
    model.set_params(module__n_outputs=3).fit(tasks).adapt(*tasks[0])


def test_module_when_its_forward_fails_says_how_it_was_tried():
    """The error is the network's own."""
    model = small(MAMLRegressor, module=lambda: nn.Linear(7, 1))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        model.fit(regression_tasks())
    assert "tried on 2 rows of 2 features" in caught.value.__notes__[0]


@each_estimator
def test_module_params_when_module_is_an_instance_raise(estimator_class):
    """They would be ignored in silence."""
    model = small(estimator_class, module=Perceptron(2), module__width=3)
    with pytest.raises(TypeError, match="class or a callable, got an instance"):
        model.fit(tasks_for(model))


@pytest.mark.parametrize(
    ("estimator_class", "tasks", "wanted"),
    [
        (MAMLRegressor, regression_tasks, r"\(2, 1\)"),
        (MAMLClassifier, class_tasks, r"\(2, 3\)"),
    ],
)
def test_module_when_its_output_has_the_wrong_width_says_which(
    estimator_class, tasks, wanted
):
    """Before training, and with both shapes."""
    model = small(estimator_class, module=Perceptron(2, 4))
    with pytest.raises(ValueError, match=rf"to shape {wanted}, got \(2, 4\)"):
        model.fit(tasks())


def test_module_when_it_flattens_rows_to_one_number_raises():
    """An output without a second dimension broadcasts in silence."""

    class Flat(nn.Linear):
        def forward(self, rows):
            return super().forward(rows)[:, 0]

    with pytest.raises(ValueError, match=r"got \(2,\)"):
        small(MAMLRegressor, module=Flat(2, 1)).fit(regression_tasks())


@pytest.mark.parametrize("estimator_class", [MAMLClassifier, MAMLRegressor])
@pytest.mark.parametrize("variant", ["maml", "fomaml", "anil", "metasgd"])
def test_module_when_not_sequential_trains_in_every_variant(estimator_class, variant):
    """torch.func runs what cannot be stacked."""
    model = small(estimator_class, module=DigitNet, variant=variant, max_iter=3)
    tasks = digit_tasks(model)
    X, y = tasks[0]
    model.fit(tasks).adapt(X, y)
    assert np.isfinite(outputs(model, X)).all()


@pytest.mark.parametrize("estimator_class", TRAINED_ESTIMATORS)
def test_hidden_layers_when_none_still_train(estimator_class):
    """A linear model is the smallest network."""
    model = small(estimator_class)
    if "hidden_layer_sizes" not in model.get_params():
        model = small(estimator_class, n_layers=1, hidden_size=2)
    else:
        model.set_params(hidden_layer_sizes=())
    tasks = tasks_for(model)
    assert np.isfinite(outputs(model.fit(tasks).adapt(*tasks[0]), tasks[1].X)).all()


@pytest.mark.parametrize(
    "estimator_class", [ProtoNetClassifier, ModelBasedMetaClassifier]
)
def test_embedding_of_any_width_is_accepted(estimator_class):
    """Its width is the user's choice."""
    for width in (1, 4):
        model = small(estimator_class, module=Perceptron, module__n_outputs=width)
        tasks = class_tasks()
        assert model.fit(tasks).adapt(*tasks[0]).predict(tasks[0].X).shape == (12,)


def test_regressor_when_its_process_reads_an_embedding_predicts_both_moments():
    """The encoder replaces the rows, not the output."""
    tasks = regression_tasks()
    model = small(ModelBasedMetaRegressor, module=Perceptron).fit(tasks)
    mean, std = model.adapt(*tasks[0]).predict(tasks[1].X, return_std=True)
    assert mean.shape == std.shape == (len(tasks[1]),)
    assert (std > 0).all()
