"""Formulas of perceptrons equal autograd."""

import weakref

import pytest
import torch
from torch import nn

from sklearn_meta.functional import (
    ACTIVATIONS,
    build_mlp,
    perceptron_chain,
    run_perceptron,
    squared_error_loss,
    stackable_layers,
    stacked_forward,
)
from sklearn_meta.functional.perceptron import (
    add_hessian_product,
    forward_pass,
    gradient_of,
    record,
)

N_TASKS, N_ROWS = 3, 5


@pytest.fixture(params=ACTIVATIONS)
def layers(request):
    torch.manual_seed(0)
    return stackable_layers(build_mlp(2, (4, 3), 2, request.param).double())


@pytest.fixture
def X():
    return torch.randn(N_TASKS, N_ROWS, 2, dtype=torch.float64)


@pytest.fixture
def loss(X):
    mask = torch.ones(N_TASKS, N_ROWS, dtype=torch.bool)
    mask[1, 3:] = False
    return squared_error_loss(X.sin(), mask)


def _random(layers):
    """Numbers in the shapes of the parameters of every task."""
    return {
        f"{name}.{kind}": torch.randn(N_TASKS, *p.shape, dtype=p.dtype)
        for name, layer in layers
        for kind, p in layer.named_parameters()
    }


def _total_loss(layers, X, loss):
    return lambda params: loss.per_task(stacked_forward(layers, params, X)).sum()


def _assert_all_close(ours, theirs):
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=1e-10)


def test_gradient_of_tape_equals_autograd(layers, X, loss):
    # The inner loop descends along it.
    params = _random(layers)
    tape = record(forward_pass(perceptron_chain(layers), params, X), loss)
    expected = torch.func.grad(_total_loss(layers, X, loss))(params)
    _assert_all_close(gradient_of(tape.layers), expected)


def test_add_hessian_product_equals_autograd(layers, X, loss):
    # The R-operator, for every activation, with a row gradient.
    params, base, direction = (_random(layers) for _ in range(3))
    tape = record(forward_pass(perceptron_chain(layers), params, X), loss)

    def slope(params, X):
        gradient = torch.func.grad(_total_loss(layers, X, loss))(params)
        return sum((gradient[name] * direction[name]).sum() for name in params)

    product, of_rows = torch.func.grad(slope, argnums=(0, 1))(params, X)
    ours, row_change = add_hessian_product(
        base, tape, loss, direction, -0.3, with_rows=True
    )
    _assert_all_close(ours, {name: base[name] - 0.3 * product[name] for name in base})
    torch.testing.assert_close(row_change, of_rows, rtol=1e-10, atol=1e-10)


def test_run_perceptron_when_differentiated_then_gradcheck_holds(layers, X):
    # The query rows' part of the outer gradient.
    chain = perceptron_chain(layers)
    params = _random(layers)
    inputs = [X.requires_grad_(), *(p.requires_grad_() for p in params.values())]

    def run(X, *values):
        return run_perceptron(chain, dict(zip(params, values, strict=True)), X)

    assert torch.autograd.gradcheck(run, inputs)


def test_run_perceptron_when_its_outputs_go_then_its_memory_goes():
    # A tape that held the outputs would be a cycle, freed by chance only.
    layers = stackable_layers(build_mlp(2, (4,), 1))
    params = dict(nn.Sequential(*(m for _, m in layers)).named_parameters())
    params = {name: p.expand(1, *p.shape) for name, p in params.items()}
    outputs = run_perceptron(perceptron_chain(layers), params, torch.zeros(1, 2, 2))
    trace = weakref.ref(outputs.grad_fn)
    del outputs
    assert trace() is None


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(2, 2, bias=False)),
        nn.Sequential(nn.ReLU(), nn.Linear(2, 2)),
        nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Tanh()),
        nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 1)),
        nn.Sequential(),
    ],
)
def test_perceptron_chain_of_another_network_is_none(network):
    # Whatever the formulas do not cover goes by autograd.
    assert perceptron_chain(stackable_layers(network)) is None
