"""Gaussian processes against scikit-learn's, scipy's, and their own gradients."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct

from sklearn_meta.functional import (
    KernelRows,
    condition_on_support,
    inverse_factor,
    kernel_diagonal,
    kernel_matrix,
    log_marginal_likelihood,
)

N_TASKS, N_SUPPORT, N_QUERY = 3, 5, 4
LOG_VARIANCE, NOISE = math.log(0.7), 0.2
SKLEARN_KERNEL = DotProduct(0.5) + ConstantKernel(0.7) * RBF(1.0)


@pytest.fixture
def rows():
    """Rows of a few tasks, the support first."""
    generator = torch.Generator().manual_seed(0)
    shape = (N_TASKS, N_SUPPORT + N_QUERY, 2)
    draws = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return KernelRows(*draws)


@pytest.fixture
def mask():
    """Supports of 5, 3 and 1 rows."""
    return torch.arange(N_SUPPORT) < torch.tensor([5, 3, 1])[:, None]


def targets(seed=1):
    """Targets and noise of the support rows."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, N_TASKS, N_SUPPORT)
    y, noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return y, noise.exp()


def log_variance(requires_grad=False):
    """The variance of the smooth part."""
    return torch.tensor(LOG_VARIANCE, dtype=torch.float64, requires_grad=requires_grad)


def as_columns(rows):
    """Rows as scikit-learn's kernel reads them: columns, and a level of 0.5."""
    level = torch.full_like(rows.linear[..., :1], 0.5)
    return KernelRows(torch.cat([rows.linear, level], -1), rows.linear)


def fresh(tensors):
    """Copies that gradients can be taken of."""
    return [t.detach().clone().requires_grad_() for t in tensors]


def test_kernel_equals_that_of_scikit_learn(rows):
    # The same sum of kernels, from an independent implementation.
    rows = as_columns(rows)
    found = kernel_matrix(rows, rows.split(N_SUPPORT)[0], log_variance())
    for values, X in zip(found.numpy(), rows.coordinates.numpy(), strict=True):
        expected = SKLEARN_KERNEL(X, X[:N_SUPPORT])
        np.testing.assert_allclose(values, expected, rtol=1e-12)


def test_kernel_diagonal_is_that_of_the_kernel(rows):
    # Two ways to the same numbers; a drift would make variances negative.
    kernel = kernel_matrix(rows, rows, log_variance())
    expected = kernel.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(kernel_diagonal(rows, log_variance()), expected)


def test_posterior_equals_that_of_scikit_learn(rows, mask):
    # Equations 2.25 and 2.26, task by task, without padding.
    rows, (y, noise) = as_columns(rows), targets()
    found = condition_on_support(rows, log_variance(), noise, y, mask)
    for i, n in enumerate(mask.sum(1)):
        X, alpha = rows.coordinates[i].numpy(), noise[i, :n].numpy()
        gp = GaussianProcessRegressor(SKLEARN_KERNEL, alpha=alpha, optimizer=None)
        gp.fit(X[:n], y[i, :n].numpy())
        mean, std = gp.predict(X[N_SUPPORT:], return_std=True)
        np.testing.assert_allclose(found[0][i], mean, rtol=1e-9)
        np.testing.assert_allclose(found[1][i], std**2, rtol=1e-9)


def test_marginal_likelihood_equals_the_normal_density(rows, mask):
    # scipy's density of the real rows alone.
    support = rows.split(N_SUPPORT)[0]
    kernel, (y, noise) = kernel_matrix(support, support, log_variance()), targets()
    found = log_marginal_likelihood(kernel, noise, y, mask)
    for i, n in enumerate(mask.sum(1)):
        covariance = kernel[i, :n, :n] + torch.diag(noise[i, :n])
        expected = multivariate_normal(cov=covariance.numpy()).logpdf(y[i, :n])
        # scipy inverts by eigenvalues
        assert found[i].item() == pytest.approx(expected, rel=1e-6)


def test_kernel_gradient_equals_finite_differences(rows):
    # It is written out by hand.
    a, b = fresh(rows), fresh(part.flip(1)[:, :N_SUPPORT] for part in rows)

    def kernel(*parts):
        return kernel_matrix(KernelRows(*parts[:2]), KernelRows(*parts[2:4]), parts[4])

    assert torch.autograd.gradcheck(kernel, (*a, *b, log_variance(True)))


def test_posterior_gradient_equals_finite_differences(rows, mask):
    # It is written out by hand, for rows, variance, noise and targets.
    def posterior(linear, coordinates, variance, noise, y):
        rows = KernelRows(linear, coordinates)
        return condition_on_support(rows, variance, noise.exp(), y, mask)

    inputs = (*fresh(rows), log_variance(True), *fresh(targets()))
    assert torch.autograd.gradcheck(posterior, inputs)


def test_marginal_likelihood_gradient_equals_finite_differences(rows, mask):
    # The trace formula, equation 5.9.
    def density(linear, coordinates, variance, noise, y):
        support = KernelRows(linear, coordinates).split(N_SUPPORT)[0]
        kernel = kernel_matrix(support, support, variance)
        return log_marginal_likelihood(kernel, noise.exp(), y, mask)

    inputs = (*fresh(rows), log_variance(True), *fresh(targets()))
    assert torch.autograd.gradcheck(density, inputs)


def test_posterior_without_support_is_the_prior(rows, mask):
    # A mask of no rows, and no rows at all.
    y, noise = targets()
    query = rows.split(N_SUPPORT)[1]
    for n in (N_SUPPORT, 0):
        none = KernelRows(*(part[:, N_SUPPORT - n :] for part in rows))
        mean, variance = condition_on_support(
            none, log_variance(), noise[:, :n], y[:, :n], mask[:, :n] & False
        )
        assert (mean == 0).all()
        torch.testing.assert_close(variance, kernel_diagonal(query, log_variance()))


def test_posterior_on_repeated_rows_equals_one_of_less_noise(rows):
    # n equal rows carry what one row with an n-th of the noise does.
    mask = torch.ones(N_TASKS, N_SUPPORT, dtype=torch.bool)
    y, noise = torch.ones(2, N_TASKS, N_SUPPORT, dtype=torch.float64)
    repeated = KernelRows(
        *(torch.cat([p[:, :1].expand(-1, 5, -1), p[:, 5:]], 1) for p in rows)
    )
    single = KernelRows(*(part[:, 4:] for part in repeated))
    many = condition_on_support(repeated, log_variance(), NOISE * noise, y, mask)
    one = condition_on_support(
        single, log_variance(), NOISE / 5 * noise[:, :1], y[:, :1], mask[:, :1]
    )
    torch.testing.assert_close(many, one)


def test_posterior_far_from_the_origin_keeps_float32_digits(rows):
    # |a|^2 + |b|^2 - 2ab of years or identifiers would be all rounding.
    y, noise = (t.float() for t in targets())
    mask = torch.ones_like(y, dtype=torch.bool)
    near = KernelRows(rows.linear.float(), rows.coordinates.float())
    far = near._replace(coordinates=near.coordinates + 2000)
    zero = log_variance().float()
    torch.testing.assert_close(
        condition_on_support(far, zero, noise, y, mask),
        condition_on_support(near, zero, noise, y, mask),
        rtol=5e-3,
        atol=5e-3,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_factor_of_huge_kernel_is_finite(dtype):
    # The noise is lost beside the products: rounding decides what is definite.
    kernel = torch.full((1, 4, 4), 1e12, dtype=dtype)
    noise = torch.full((1, 4), 1e-4, dtype=dtype)
    assert inverse_factor(kernel, noise, noise > 0).isfinite().all()


def test_factor_of_kernel_that_is_not_finite_is_nan_for_that_task_alone():
    # Training looks at its loss as a whole; an error would lose the sound weights.
    kernel = torch.eye(2).repeat(2, 1, 1)
    kernel[0] = math.nan
    noise = torch.ones(2, 2)
    factor = inverse_factor(kernel, noise, noise > 0)
    assert factor[0].isnan().any() and factor[1].isfinite().all()
