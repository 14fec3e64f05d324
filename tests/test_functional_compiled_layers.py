"""Hidden layers with activations from C give what torch gives."""

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from torch import nn

from sklearn_meta.functional.compiled_layers import has_layers, run_layers
from sklearn_meta.functional.compiled_library import load_library

pytestmark = pytest.mark.skipif(
    load_library() is None, reason="the package was built without a compiler"
)
ACTIVATIONS = (nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.GELU(), nn.ELU())


def layers(dtype=torch.float64):
    """Return weights and biases of two layers of three perceptrons."""
    torch.manual_seed(0)
    shapes = (3, 2, 5), (3, 5, 4), (3, 1, 5), (3, 1, 4)
    parts = [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]
    return parts[:2], parts[2:]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("shape", [(6, 2), (3, 6, 2)])
def test_run_layers_has_the_values_and_derivatives_of_torch(activation, shape):
    """The slopes are kept from the way forwards."""
    weights, biases = layers()
    rows = torch.randn(shape, dtype=torch.float64).requires_grad_()
    expected = rows
    for weight, bias in zip(weights, biases, strict=True):
        expected = activation(expected @ weight + bias)
    found = run_layers(rows, weights, biases, activation)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    inputs, weight = (rows, *weights, *biases), torch.randn_like(found)
    ours = torch.autograd.grad((found * weight).sum(), inputs)
    theirs = torch.autograd.grad((expected * weight).sum(), inputs)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-10, atol=1e-10)


def test_run_layers_has_the_derivatives_of_finite_differences():
    """An answer that shares no line with the formulas."""
    weights, biases = layers()
    rows = torch.randn(3, 2, dtype=torch.float64)

    def run(*parts):
        return run_layers(rows, parts[:2], parts[2:], nn.GELU())

    assert torch.autograd.gradcheck(run, (*weights, *biases))


def test_gelu_in_single_precision_is_that_of_torch():
    """Its share of the normal distribution is a series there."""
    z = torch.linspace(-12, 12, 4001).view(1, -1, 1).requires_grad_()
    one = torch.ones(1, 1, 1)
    found = run_layers(z, [one], [0 * one], nn.GELU())
    exact = z.detach().double().requires_grad_()
    expected = nn.functional.gelu(exact)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)
    (slope,) = torch.autograd.grad(found.sum(), z)
    (known,) = torch.autograd.grad(expected.sum(), exact)
    torch.testing.assert_close(slope.double(), known, rtol=0, atol=1e-6)


def test_gelu_in_double_precision_is_exact_to_rounding():
    """Its share of the normal distribution is a longer series there."""
    z = torch.linspace(-40, 40, 16001, dtype=torch.float64).view(1, -1, 1)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    found = run_layers(z, [one], [0 * one], nn.GELU()).ravel()
    expected = z.ravel().numpy() * ndtr(z.ravel().numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_run_layers_without_a_graph_gives_the_same():
    """Where nothing is to be differentiated, no slopes are kept."""
    weights, biases = layers()
    rows = torch.randn(7, 2, dtype=torch.float64)
    expected = run_layers(rows, weights, biases, nn.GELU())
    with torch.no_grad():
        found = run_layers(rows, weights, biases, nn.GELU())
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


def test_has_layers_when_an_activation_is_not_known_is_false():
    """A GELU by tanh has other derivatives."""
    rows = torch.zeros(1, 1)
    assert has_layers(nn.GELU(), rows)
    assert not has_layers(nn.GELU(approximate="tanh"), rows)
    assert not has_layers(nn.GELU(), rows.half())
