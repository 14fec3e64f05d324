"""Softmax regression on kernels, against independent solvers."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.gaussian_process.kernels import RBF

from sklearn_meta.functional import softmax_coefficients, squared_exponential


@pytest.fixture
def problem():
    """A kernel (8, 8) and one-hot labels (8, 3) of one task."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    labels = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1, 2, 0, 1]]
    return rows @ rows.T, labels


def _objective(a, kernel, Y):
    """Minus log-likelihood plus half the squared norm of the function."""
    a = a.reshape(Y.shape)
    f = kernel @ a
    log_p = f - np.logaddexp.reduce(f, axis=1, keepdims=True)
    return -(Y * log_p).sum() + 0.5 * np.sum(a * f)


def _solve(kernel, Y, n_iter=8):
    mask = torch.ones(1, len(Y), dtype=torch.bool)
    return softmax_coefficients(kernel[None], Y[None], mask, n_iter=n_iter)[0]


def test_softmax_coefficients_run_long_match_a_general_optimizer(problem):
    # the bound only sets the path: its fixed point is the regularised optimum
    kernel, Y = problem
    found = kernel @ _solve(kernel, Y, n_iter=2000)
    start = np.zeros(Y.numel())
    best = minimize(_objective, start, (kernel.numpy(), Y.numpy()), method="BFGS")
    expected = kernel.numpy() @ best.x.reshape(Y.shape)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


def test_softmax_coefficients_every_step_lowers_the_objective(problem):
    # Böhning's bound promises monotone steps without a step size
    kernel, Y = problem
    values = [
        _objective(_solve(kernel, Y, n).numpy().ravel(), kernel.numpy(), Y.numpy())
        for n in range(10)
    ]
    assert np.all(np.diff(values) < 0)


def test_softmax_coefficients_with_padding_are_those_without(problem):
    # garbage in padding rows must not reach the solution
    kernel, Y = problem
    padded = torch.full((1, 10, 10), torch.nan, dtype=torch.float64)
    padded[0, :8, :8] = kernel
    Y_padded = torch.zeros(1, 10, 3, dtype=torch.float64)
    Y_padded[0, :8] = Y
    mask = torch.arange(10)[None] < 8
    found = softmax_coefficients(padded, Y_padded, mask)[0]
    torch.testing.assert_close(found[:8], _solve(kernel, Y), rtol=0, atol=1e-12)
    assert not found[8:].any()


def test_squared_exponential_equals_the_kernel_of_scikit_learn(rng):
    # an independent implementation; ours divides by the number of features
    a, b = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    found = squared_exponential(
        torch.as_tensor(a)[None],
        torch.as_tensor(b)[None],
        torch.tensor(0.7, dtype=torch.float64),
    )
    np.testing.assert_allclose(found[0], RBF(0.7 * np.sqrt(3))(a, b), rtol=1e-12)
