"""Losses of a Gaussian process in C, their gradients, and where they give up."""

import pytest
import torch

from sklearn_meta.functional.compiled_library import load_library
from sklearn_meta.functional.compiled_process import (
    MOST_SUPPORT_ROWS,
    Features,
    Levels,
    Limits,
    Scales,
    has_process,
    marginal_loss,
    process_loss,
)

pytestmark = pytest.mark.skipif(
    load_library() is None, reason="the package was built without a compiler"
)
N_TASKS, N_SUPPORT, N_ROWS = 3, 4, 9
LIMITS = Limits(0.3, 0.5, 1e-6)


def draw(*shape):
    """Return numbers in float64 that get a gradient."""
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


@pytest.fixture
def problem():
    """Rows, targets and mask of ragged tasks, then features and scales."""
    torch.manual_seed(0)
    mask = torch.rand(N_TASKS, N_ROWS) < 0.7
    mask[0, :N_SUPPORT] = False  # no support
    mask[1, N_SUPPORT:] = False  # no query
    n = int(mask.sum())
    features = draw(n, 2), draw(n, 3), draw(n), draw(n)
    rows = draw(n, 2).detach(), draw(n).detach(), mask
    return rows, features, (draw(), draw(2), draw(2), draw())


def loss(rows, features, scales, levels=()):
    """Return the loss, with a noise that is positive."""
    *others, log_noise = features
    known = Features(*others, 0.1 + log_noise.exp()), Scales(*scales), LIMITS
    return process_loss(*rows, N_SUPPORT, *known, Levels(*levels))


@pytest.mark.parametrize("n_levels", [None, 1, 3, 8])
def test_process_loss_has_the_derivatives_of_finite_differences(n_levels, problem):
    """An answer that shares no line with the formulas."""
    rows, features, scales = problem
    levels = () if n_levels is None else (draw(n_levels), draw(n_levels))

    def of_inputs(*inputs):
        return loss(rows, inputs[:4], inputs[4:8], inputs[8:])

    assert torch.autograd.gradcheck(of_inputs, (*features, *scales, *levels))


def test_process_loss_of_levels_that_are_equal_is_that_of_one(problem):
    """How likely they are does not matter then."""
    zero = torch.zeros(3, dtype=torch.float64)
    one, same = loss(*problem), loss(*problem, (zero, draw(3)))
    torch.testing.assert_close(same, one, rtol=1e-12, atol=0)
    likely = torch.tensor([0.0, 300.0], dtype=torch.float64)
    other = torch.tensor([5.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(loss(*problem, (other, likely)), one)


def test_process_loss_when_a_covariance_has_no_factor_is_nan(problem):
    """The outer loop looks at the loss, and goes back to sound weights."""
    rows, (*others, _), scales = problem
    features = Features(*others, torch.full_like(rows[1], -1e3))
    found = process_loss(*rows, N_SUPPORT, features, Scales(*scales), LIMITS)
    assert found.isnan()


def test_process_loss_in_single_precision_is_near(problem):
    """Training is in float32."""
    rows, features, scales = problem
    expected = loss(rows, features, scales)
    single = [
        [part.float() if part.is_floating_point() else part for part in group]
        for group in problem
    ]
    torch.testing.assert_close(loss(*single).double(), expected, rtol=1e-4, atol=1e-4)


def test_marginal_loss_has_the_derivatives_of_finite_differences(problem):
    """An answer that shares no line with the formulas."""
    rows, features, scales = problem

    def of_inputs(*inputs):
        *others, log_noise = inputs[:4]
        known = Features(*others, 0.1 + log_noise.exp())
        return marginal_loss(*rows, known, Scales(*inputs[4:]), LIMITS)

    assert torch.autograd.gradcheck(of_inputs, (*features, *scales))


def test_marginal_loss_by_the_chain_rule_is_that_of_one_row_after_another(problem):
    """A density is that of the first rows times that of the last row given them."""
    (X, Y, _), (*others, log_noise), scales = problem
    n, known = len(X), (Scales(*scales), LIMITS)
    features = Features(*others, log_noise.exp())
    mask = torch.ones(1, n, dtype=torch.bool)

    def density(n):
        own = [part[:n] for part in features]
        return n * marginal_loss(X[:n], Y[:n], mask[:, :n], Features(*own), *known)

    last = process_loss(X, Y, mask, n - 1, features, *known)
    torch.testing.assert_close(density(n) - density(n - 1), last)


def test_has_process_when_the_support_is_large_is_false():
    """Factors of large matrices are computed by LAPACK."""
    assert has_process(torch.zeros(1, MOST_SUPPORT_ROWS, 1))
    assert not has_process(torch.zeros(1, MOST_SUPPORT_ROWS + 1, 1))
    assert not has_process(torch.zeros(1, 1, 1, dtype=torch.float16))
