"""Laplace's approximation, against dense algebra and independent solvers."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct

from sklearn_meta.functional import (
    LaplacePosterior,
    laplace_logits,
    laplace_posterior,
    softmax_coefficients,
)

ALL = {2: torch.ones(1, 2, dtype=torch.bool), 3: torch.ones(1, 3, dtype=torch.bool)}


@pytest.fixture
def problem():
    """Kernel (1, 8, 8), prior logits and one-hot labels (1, 8, 3) of one task."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    offset = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    labels = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1, 2, 0, 1]]
    return (rows @ rows.T)[None], offset[None], labels[None]


def _solve(kernel, offset, Y, n_iter=20):
    mask = torch.ones(Y.shape[:2], dtype=torch.bool)
    return laplace_posterior(kernel, offset, Y, mask, n_iter)


def _gap(kernel, offset, Y, a):
    """What is zero where the posterior is largest."""
    return (Y - torch.softmax(offset + kernel @ a, -1) - a).abs().max().item()


def test_laplace_posterior_matches_a_general_optimizer(problem):
    # the definition: the function with the largest posterior density
    kernel, offset, Y = (part[0].numpy() for part in problem)

    def objective(a):
        a = a.reshape(Y.shape)
        f = kernel @ a
        log_p = offset + f - np.logaddexp.reduce(offset + f, axis=1, keepdims=True)
        return -(Y * log_p).sum() + 0.5 * np.sum(a * f)

    best = minimize(objective, np.zeros(Y.size), method="BFGS")
    found = kernel @ _solve(*problem).coefficients[0].numpy()
    np.testing.assert_allclose(found, kernel @ best.x.reshape(Y.shape), atol=2e-4)


def test_laplace_posterior_precision_is_the_trace_of_the_dense_inverse(problem):
    # the structured inverse saves a factor of n_classes^2 and must not change it
    kernel, offset, _ = problem
    posterior = _solve(*problem)
    p = torch.softmax(offset + kernel @ posterior.coefficients, -1)[0]
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    W = torch.block_diag(*curvature)
    K = torch.kron(kernel[0], torch.eye(3, dtype=torch.float64))
    dense = W @ torch.linalg.inv(torch.eye(24, dtype=torch.float64) + K @ W)
    blocks = dense.reshape(8, 3, 8, 3)
    trace = torch.einsum("icjc->ij", blocks)
    torch.testing.assert_close(posterior.precision[0], trace, rtol=0, atol=1e-10)


def test_laplace_of_two_classes_is_the_binary_process_of_scikit_learn():
    # two logits with kernel K have a difference with kernel 2 K
    if not hasattr(GaussianProcessClassifier, "latent_mean_and_variance"):
        pytest.skip("this scikit-learn does not tell the latent function")
    X = np.random.RandomState(0).normal(size=(12, 3))
    y = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int)
    process = GaussianProcessClassifier(
        ConstantKernel(2) * DotProduct(), optimizer=None
    )
    mean, variance = process.fit(X[:8], y[:8]).latent_mean_and_variance(X[8:])
    kernel = torch.as_tensor(X @ X.T + 1)[None]
    Y = torch.eye(2, dtype=torch.float64)[y[:8]][None]
    posterior = _solve(kernel[:, :8, :8], torch.zeros_like(Y), Y)
    zero = torch.zeros(1, 4, 2)

    def logits(kappa):
        args = (kernel[:, 8:, :8], kernel[:, 8:, 8:].diagonal(dim1=1, dim2=2), zero)
        found = laplace_logits(posterior, *args, ALL[2], torch.tensor(kappa))
        return (found[0, :, 1] - found[0, :, 0]).numpy()

    np.testing.assert_allclose(logits(0.0), mean, rtol=1e-4)
    np.testing.assert_allclose((mean / logits(1.0)) ** 2 - 1, variance, rtol=1e-4)


def test_laplace_gradient_equals_finite_differences(problem):
    # the last step differentiates the mode as if the iterations had converged
    kernel, offset, Y = problem

    def logits(log_scale, strength, log_kappa):
        K = kernel * log_scale.exp()
        posterior = _solve(K[:, :6, :6], offset[:, :6] * strength, Y[:, :6], 8)
        diagonal = K[:, 6:, 6:].diagonal(dim1=1, dim2=2)
        prior = offset[:, 6:] * strength
        kappa = log_kappa.exp()
        return laplace_logits(posterior, K[:, 6:, :6], diagonal, prior, ALL[3], kappa)

    point = [torch.tensor(v, dtype=torch.float64) for v in (-0.5, 0.7, -1.0)]
    assert torch.autograd.gradcheck(logits, [p.requires_grad_() for p in point])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 10.0])
def test_laplace_posterior_after_the_default_steps_is_the_mode(problem, scale):
    # training pays for each step: two and the last one must do
    kernel, offset, Y = problem
    mask = torch.ones(1, 8, dtype=torch.bool)
    found = laplace_posterior(kernel * scale, offset, Y, mask).coefficients
    assert _gap(kernel * scale, offset, Y, found) < 1e-6


@pytest.mark.parametrize("scale", [1e4, 1e8, 1e16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_laplace_posterior_of_huge_kernels_is_finite(problem, scale, dtype):
    # unscaled features reach such kernels, and one NaN would end a fit
    kernel, offset, Y = (part.to(dtype) for part in problem)
    kernel = (kernel * scale).requires_grad_()
    posterior = _solve(kernel, offset, Y, n_iter=3)
    assert posterior.coefficients.dtype == dtype
    (posterior.coefficients.sum() + posterior.precision.sum()).backward()
    for part in (*posterior, kernel.grad):
        assert part.isfinite().all()


def test_laplace_posterior_with_padding_and_an_absent_class_is_that_of_the_rest(
    problem,
):
    # rows of padding and classes that are ruled out carry no information
    kernel, offset, Y = problem
    expected = _solve(kernel[:, :6, :6], offset[:, :6], Y[:, :6])
    mask = torch.arange(8)[None] < 6
    never = torch.full_like(offset[..., :1], torch.finfo(offset.dtype).min)
    wider = torch.cat([offset, never], -1), torch.cat([Y, 0 * Y[..., :1]], -1)
    found = laplace_posterior(kernel, wider[0], wider[1] * mask[..., None], mask, 20)
    torch.testing.assert_close(found.coefficients[:, :6, :3], expected.coefficients)
    torch.testing.assert_close(found.precision[:, :6, :6], expected.precision)
    assert not found.coefficients[:, 6:].any() and not found.precision[:, 6:].any()


def test_laplace_logits_far_from_the_support_are_drawn_together():
    # where the support says little, the mode is surer than it may be
    posterior = LaplacePosterior(torch.zeros(1, 1, 2), torch.zeros(1, 1, 1))
    offset, far = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[3.0]])
    found = laplace_logits(
        posterior, torch.zeros(1, 1, 1), far, offset, ALL[2], torch.tensor(0.5)
    )
    np.testing.assert_allclose(found[0, 0].tolist(), [1.0, 0.0], rtol=1e-6)


def test_softmax_coefficients_with_an_offset_go_to_the_same_mode(problem):
    # the cheap steps lead where Newton's method ends
    kernel, offset, Y = problem
    mask = torch.ones(1, 8, dtype=torch.bool)
    found = softmax_coefficients(kernel, Y, mask, n_iter=3000, offset=offset)
    torch.testing.assert_close(found, _solve(*problem).coefficients, rtol=0, atol=1e-5)
