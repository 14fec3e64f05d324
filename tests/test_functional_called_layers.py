"""A class of the user's own is known as a stack of layers, if it is one for sure."""

import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sklearn_meta.functional import stackable_layers, stacked_forward, vmap_forward
from sklearn_meta.functional.called_layers import called_layers
from sklearn_meta.learners import GradientLearner


class Network(nn.Module):
    """Two linear layers, and what `between` does."""

    def __init__(self, between=torch.tanh):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.norm, self.drop = nn.LayerNorm(4), nn.Dropout(0.3)
        self.between = between

    def forward(self, X):
        return self.last(self.drop(self.norm(self.between(self.first(X)))))


class Changed(Network):
    """The same with another way through."""

    def __init__(self, way):
        super().__init__()
        self.way, self.count = way, 0

    def forward(self, X):
        return self.way(self, X)


def plain(net, X):
    """Return what `Network` returns."""
    return Network.forward(net, X)


def counting(net, X):
    """Do the same, and remember that it was done."""
    net.count += 1
    return plain(net, X)


def throwing_dice(net, X):
    """Leave a layer out, at times."""
    X = net.first(X)
    return plain(net, X) if random.random() < 0 else net.last(net.drop(net.norm(X)))


def in_place(X):
    """Put rows through an activation without a look at what it returns."""
    F.relu(X, inplace=True)
    return X


FUNCTIONS = {
    "nothing returned": in_place,
    "relu": F.relu,
    "torch.relu": torch.relu,
    "relu in place": lambda X: F.relu(X, inplace=True),
    "method": lambda X: X.relu().tanh().sigmoid(),
    "gelu": F.gelu,
    "gelu by tanh": lambda X: F.gelu(X, approximate="tanh"),
    "silu": F.silu,
    "elu": lambda X: F.elu(X, 0.5),
    "leaky_relu": lambda X: F.leaky_relu(X, negative_slope=0.2),
    "softplus": F.softplus,
    "layer": nn.Sequential(nn.Tanh(), nn.Identity(), nn.GELU()),
    "no activation": lambda X: X,
}
UNKNOWN = {
    "residual": lambda net, X: plain(net, X) + net.last(net.first(X)),
    "shape": lambda net, X: plain(net, X) if X.shape[1] == 3 else X,
    "numbers": lambda net, X: plain(net, X) if X.sum() > 0 else X,
    "batch": lambda net, X: plain(net, X - X.mean(0)),
    "two outputs": lambda net, X: (plain(net, X), X),
    "weight twice": lambda net, X: plain(net, F.linear(plain(net, X), torch.eye(3, 2))),
    "weight unused": lambda net, X: (
        net.last(net.drop(net.norm(net.first(X).relu())))
        if net.training
        else net.last(net.first(X))
    ),
    "layer unused": lambda net, X: net.last(net.first(X)),
    "other bias": lambda net, X: net.last(F.linear(X, net.first.weight)),
    "other rows": lambda net, X: plain(net, torch.zeros(2, 3)),
    "always drops": lambda net, X: F.dropout(plain(net, X), 0.3),
    "mode": lambda net, X: plain(net, X) if net.training else plain(net, X).tanh(),
    "counts": counting,
    "throws dice": throwing_dice,
    "fails": lambda net, X: net.nothing(X),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_called_layers_of_a_class_compute_what_it_does(name):
    """In both modes; dropout is off, which would draw other numbers."""
    network = Network(FUNCTIONS[name]).double().eval()
    layers = called_layers(network)
    shapes = {n: p.shape for n, p in network.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    draw = {"generator": generator, "dtype": torch.float64}
    params = {n: torch.randn(5, *shape, **draw) for n, shape in shapes.items()}
    X = torch.randn(5, 6, 3, **draw)
    found = stacked_forward(layers, params, X)
    torch.testing.assert_close(found, vmap_forward(network, params, X))


def test_called_layers_keep_the_dropout_that_follows_the_mode():
    """A layer made anew would go on dropping after `eval`."""
    network = Network()
    layers = dict(called_layers(network))
    assert layers["drop"] is network.drop
    assert network.training


def test_plain_way_through_is_known():
    """The unknown ones below differ from it in one thing."""
    assert called_layers(Changed(plain)) is not None


@pytest.mark.parametrize("name", UNKNOWN)
def test_called_layers_of_anything_else_is_none(name):
    """A wrong guess would compute another function."""
    assert called_layers(Changed(UNKNOWN[name])) is None


def test_stackable_layers_when_a_part_has_a_hook_is_none():
    """A hook may change what a layer returns."""
    network = Network()
    assert stackable_layers(network) is not None
    network.first.register_forward_hook(lambda layer, rows, out: out + 1)
    assert stackable_layers(network) is None


def test_learner_of_a_class_of_layers_adapts_as_vmap_does():
    """Formulas serve a class as they serve a sequence."""

    class Perceptron(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, X):
            return self.last(F.relu(self.first(X)))

    torch.manual_seed(0)
    learner = GradientLearner(Perceptron(), inner_steps=3).double()
    X, Y = torch.randn(4, 6, 3).double(), torch.randn(4, 6, 1).double()
    mask = torch.ones(4, 6, dtype=torch.bool)
    found = []
    for engine in ("recursion", "vmap"):
        assert learner.engine != "vmap"
        learner.engine = engine
        found.append(learner(X, Y, mask, X).mean)
    torch.testing.assert_close(*found)
