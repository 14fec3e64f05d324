"""Prototypes and distances agree with numpy, scipy and NearestCentroid."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestCentroid

from sklearn_meta.functional import (
    class_counts,
    class_means,
    cosine_similarity,
    covariance_factors,
    mahalanobis,
    squared_euclidean,
)


def _support(seed=0, n_tasks=3, n_support=12, n_features=4, n_classes=3):
    """Features, labels that hold every class, and their one-hot form, float64."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_tasks, n_support, n_features))
    labels = np.tile(np.arange(n_support) % n_classes, (n_tasks, 1))
    Y = np.eye(n_classes)[labels]
    return torch.from_numpy(features), labels, torch.from_numpy(Y)


@given(st.integers(0, 999), st.integers(6, 15), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_class_means_of_any_support_equal_nearest_centroid(seed, n_support, d):
    # scikit-learn's own prototypes, one task at a time.
    features, labels, Y = _support(seed, n_support=n_support, n_features=d)
    means = class_means(features, Y)
    for i in range(len(features)):
        expected = NearestCentroid().fit(features[i], labels[i]).centroids_
        np.testing.assert_allclose(means[i], expected, rtol=1e-10, atol=1e-12)


def test_class_means_with_prior_count_it_as_rows():
    # A pseudo-count of w must equal w further rows at the prior.
    features, _, Y = _support()
    prior = torch.full((1, 4), 5.0, dtype=torch.float64)
    shrunk = class_means(features, Y, prior, 2.0)
    extra = prior.expand(3, 6, 4)
    rows = torch.eye(3, dtype=torch.float64).repeat(2, 1).expand(3, 6, 3)
    joined = class_means(torch.cat([features, extra], 1), torch.cat([Y, rows], 1))
    torch.testing.assert_close(shrunk, joined, rtol=1e-12, atol=1e-12)


def test_class_means_of_absent_class_are_zero_or_prior():
    # An absent class must not give NaN, which would spread through the softmax.
    features, _, Y = _support()
    Y = Y * torch.tensor([1.0, 1.0, 0.0])
    assert class_counts(Y)[:, 2].tolist() == [0, 0, 0]
    assert class_means(features, Y)[:, 2].abs().max() == 0
    prior = torch.ones(3, 4, dtype=torch.float64)
    shrunk = class_means(features, Y, prior, 0.5)
    torch.testing.assert_close(shrunk[:, 2], torch.ones(3, 4, dtype=torch.float64))


@given(st.integers(0, 999), st.floats(-1e3, 1e3))
@settings(max_examples=20, deadline=None)
def test_squared_euclidean_anywhere_equals_scipy(seed, offset):
    # Law 6: squared; and products far from the origin must not cancel.
    rng = np.random.default_rng(seed)
    queries, points = rng.normal(size=(7, 4)) + offset, rng.normal(size=(3, 4)) + offset
    ours = squared_euclidean(torch.tensor(queries)[None], torch.tensor(points)[None])
    expected = cdist(queries, points, "sqeuclidean")
    np.testing.assert_allclose(ours[0], expected, rtol=1e-9, atol=1e-9)


def test_squared_euclidean_far_from_origin_in_float32_keeps_digits():
    # Without centring, 1e4 squared leaves float32 no digit for a distance of 1.
    points = torch.tensor([[[1e4, 1e4], [1e4 + 1, 1e4]]])
    ours = squared_euclidean(points, points)
    assert ours.tolist() == [[[0.0, 1.0], [1.0, 0.0]]]


def test_squared_euclidean_gradient_equals_finite_differences():
    # The origin is detached; the distance does not depend on it.
    features, _, Y = _support(n_tasks=1, n_support=5)
    inputs = features.requires_grad_(), class_means(features, Y).detach()
    inputs[1].requires_grad_()
    assert torch.autograd.gradcheck(squared_euclidean, inputs)


def test_cosine_similarity_equals_scipy_and_is_zero_for_zero_rows():
    # A zero vector has no direction; it must not give NaN.
    features, _, Y = _support()
    means = class_means(features, Y)
    expected = 1 - cdist(features[0], means[0], "cosine")
    np.testing.assert_allclose(cosine_similarity(features, means)[0], expected)
    zero = torch.zeros_like(features).requires_grad_()
    similarity = cosine_similarity(zero, means)
    assert similarity.abs().max() == 0
    assert torch.autograd.grad(similarity.sum(), zero)[0].isfinite().all()


def test_mahalanobis_equals_written_out_simple_cnaps():
    # The paper's formula by numpy, one class at a time.
    features, labels, Y = _support(n_support=11)
    means = class_means(features, Y)
    factors = covariance_factors(features, Y, means, epsilon=0.3)
    distances = mahalanobis(features, means, factors)
    x = features[0].numpy()
    for c in range(3):
        rows = x[labels[0] == c]
        trust = len(rows) / (len(rows) + 1)
        covariance = trust * np.cov(rows.T) + (1 - trust) * np.cov(x.T)
        covariance += 0.3 * np.eye(4)
        expected = cdist(
            x, rows.mean(0)[None], "mahalanobis", VI=np.linalg.inv(covariance)
        )
        np.testing.assert_allclose(distances[0, :, c], expected[:, 0] ** 2, rtol=1e-9)


@pytest.mark.parametrize("n_support", [1, 2, 3])
def test_mahalanobis_with_one_row_classes_is_finite_with_gradient(n_support):
    # Law 6: n - 1 = 0 must not divide; absent classes come along.
    features, _, Y = _support(n_support=n_support)
    features.requires_grad_()
    means = class_means(features, Y)
    factors = covariance_factors(features, Y, means)
    loss = mahalanobis(features, means, factors).sum()
    assert torch.autograd.grad(loss, features)[0].isfinite().all()


def test_covariance_factors_ignore_padding():
    # Padding rows belong to no class, whatever features they got.
    features, _, Y = _support()
    means = class_means(features, Y)
    junk = torch.cat([features, torch.full((3, 2, 4), 50.0, dtype=torch.float64)], 1)
    padded = torch.cat([Y, torch.zeros(3, 2, 3, dtype=torch.float64)], 1)
    torch.testing.assert_close(class_means(junk, padded), means)
    torch.testing.assert_close(
        covariance_factors(junk, padded, means), covariance_factors(features, Y, means)
    )
