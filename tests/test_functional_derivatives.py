"""Derivatives written by hand equal those of autograd."""

import pickle

import pytest
import torch
from torch import nn

from sklearn_meta.functional import (
    ACTIVATIONS,
    categorical_nll,
    cross_entropy_loss,
    mask_absent,
    mean_per_task,
    squared_error,
    squared_error_loss,
)
from sklearn_meta.functional.derivatives import activation_of


def _derivative(function, z):
    return torch.func.vmap(torch.func.grad(function))(z)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_when_compared_with_autograd_then_both_derivatives_agree(name):
    # Every activation that an estimator offers must have its formulas right.
    layer = ACTIVATIONS[name]()
    activation = activation_of(layer)
    z = torch.linspace(-3, 3, 20, dtype=torch.float64)  # without 0: ReLU has a kink
    value = activation.value(z)
    torch.testing.assert_close(value, layer(z))
    slope = (
        torch.ones_like(z) if activation.slope is None else activation.slope(z, value)
    )
    bend = (
        torch.zeros_like(z)
        if activation.curvature is None
        else activation.curvature(z, value)
    )
    first = _derivative(layer, z)
    second = _derivative(torch.func.grad(layer), z)
    torch.testing.assert_close(slope, first, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(bend, second, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_when_pickled_then_it_comes_back(name):
    # A learner keeps its activations, and a fitted estimator must be storable.
    activation = activation_of(ACTIVATIONS[name]())
    assert pickle.loads(pickle.dumps(activation)) == activation


@pytest.mark.parametrize(
    "layer", [nn.Dropout(), nn.LayerNorm(2), nn.GELU("tanh"), nn.ELU(0.5)]
)
def test_activation_of_unknown_function_is_none(layer):
    # A formula that is almost right is worse than none.
    assert activation_of(layer) is None


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)


@pytest.fixture
def mask():
    return torch.tensor([[True] * 4, [True, True, False, False]])


def _assert_derivatives(loss, expected, outputs):
    """Check value, gradient, and the change of the gradient along a direction."""
    gradient, total = torch.func.grad_and_value(lambda o: expected(o).sum())(outputs)
    torch.testing.assert_close(loss.per_task(outputs).sum(), total)
    mean = loss.mean(outputs)
    torch.testing.assert_close(loss.weight * (mean - loss.Y), gradient)
    direction = outputs.roll(1, -1)
    gradient_at = torch.func.grad(lambda o: expected(o).sum())
    change = torch.func.grad(lambda o: (gradient_at(o) * direction).sum())(outputs)
    torch.testing.assert_close(loss.weight * loss.mean_change(mean, direction), change)


def test_squared_error_loss_when_compared_with_autograd_then_derivatives_agree(
    outputs, mask
):
    # Padding has no weight, and each task has its own mean.
    outputs, Y = outputs[..., :1], outputs[..., 1:2]
    _assert_derivatives(
        squared_error_loss(Y, mask),
        lambda o: mean_per_task(squared_error(o.squeeze(-1), Y), mask),
        outputs,
    )


@pytest.mark.parametrize("absent", [False, True])
def test_cross_entropy_loss_when_compared_with_autograd_then_derivatives_agree(
    outputs, mask, absent
):
    # A class that a task lacks has neither probability nor derivative.
    labels = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0]])
    Y = torch.eye(3, dtype=torch.float64)[labels]
    present = torch.tensor([[True, True, not absent]] * 2)
    _assert_derivatives(
        cross_entropy_loss(Y, mask, present),
        lambda o: mean_per_task(categorical_nll(mask_absent(o, present), Y), mask),
        outputs,
    )


def test_cross_entropy_loss_when_counted_from_an_offset_then_derivatives_agree(
    outputs, mask
):
    # The network learns what another model's logits lack.
    Y = torch.eye(3, dtype=torch.float64)[torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0]])]
    offset = torch.linspace(-2, 2, 24, dtype=torch.float64).reshape(2, 4, 3)
    _assert_derivatives(
        cross_entropy_loss(Y, mask, offset=offset),
        lambda o: mean_per_task(categorical_nll(o + offset, Y), mask),
        outputs,
    )
