"""The solution of the support, in C and in torch."""

import pytest
import torch

from sklearn_meta.functional import KernelRows, inverse_factor, kernel_matrix
from sklearn_meta.functional.compiled_library import load_library
from sklearn_meta.functional.support import solve_support

needs_library = pytest.mark.skipif(
    load_library() is None, reason="the package was built without a compiler"
)
N_TASKS, N_SUPPORT = 4, 5


def problem(own_variances=False):
    """Rows, variance, noise, residuals and mask of ragged tasks, one of them empty."""
    torch.manual_seed(0)
    linear, place = torch.randn(2, N_TASKS, N_SUPPORT, 3, dtype=torch.float64)
    noise, residual = torch.rand(2, N_TASKS, N_SUPPORT, dtype=torch.float64) + 0.1
    mask = torch.rand(N_TASKS, N_SUPPORT) < 0.6
    mask[0], mask[1] = True, False
    shape = (N_TASKS, 1, 1) if own_variances else ()
    variance = torch.randn(shape, dtype=torch.float64)
    return KernelRows(linear, place), variance, noise, residual * mask, mask


@pytest.mark.parametrize("own_variances", [True, False])
@pytest.mark.parametrize("in_c", [pytest.param(True, marks=needs_library), False])
def test_solve_support_gives_factor_and_values_of_the_kernel(own_variances, in_c):
    # In C where no graph is built; by the functions of the kernel elsewhere.
    rows, variance, noise, residual, mask = problem(own_variances)
    factor = inverse_factor(kernel_matrix(rows, rows, variance), noise, mask)
    with torch.set_grad_enabled(not in_c):
        found = solve_support(rows, variance, noise, residual, mask)
    expected = factor, (factor @ residual.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@needs_library
def test_solve_support_when_padding_holds_anything_is_the_same():
    # The mask alone tells which rows there are.
    rows, variance, noise, residual, mask = problem()
    odd = [
        torch.where(mask.view(*mask.shape, *[1] * (part.ndim - 2)), part, torch.nan)
        for part in (*rows, noise, residual)
    ]
    with torch.no_grad():
        expected = solve_support(rows, variance, noise, residual, mask)
        found = solve_support(KernelRows(*odd[:2]), variance, *odd[2:], mask)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@needs_library
def test_solve_support_when_a_covariance_has_no_factor_is_nan():
    # Users are told of it where the task is known.
    rows, variance, noise, residual, _ = problem()
    whole = torch.ones(N_TASKS, N_SUPPORT, dtype=torch.bool)
    with torch.no_grad():
        factor, _ = solve_support(rows, variance, -1e3 * noise, residual, whole)
    assert factor.isnan().flatten(1).any(1).all()
