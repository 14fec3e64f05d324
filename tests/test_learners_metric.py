"""What only the prototype learner must do."""

import pytest
import torch
from torch import nn

from sklearn_meta.functional import (
    build_mlp,
    class_means,
    covariance_factors,
    mahalanobis,
    squared_euclidean,
)
from sklearn_meta.learners import PrototypeLearner

N_SUPPORT, N_CLASSES, N_FEATURES = 6, 3, 4


@pytest.fixture
def episode():
    generator = torch.Generator().manual_seed(0)
    shape = (2, N_SUPPORT, N_FEATURES)
    X, Q = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    labels = torch.arange(N_SUPPORT) % N_CLASSES
    Y = torch.eye(N_CLASSES, dtype=torch.float64)[labels].expand(2, -1, -1)
    return X, Y, torch.ones(2, N_SUPPORT, dtype=torch.bool), Q


def _learner(**options):
    """Prototypes in the raw columns, without shrinkage unless asked for."""
    learner = PrototypeLearner(
        nn.Identity(), embedding_size=N_FEATURES, **options
    ).double()
    with torch.no_grad():
        learner.raw_prior_weight.fill_(-100)
    return learner


def test_euclidean_logits_equal_scaled_squared_distances(episode):
    # Law 6: squared, over the width of the embedding.
    X, Y, mask, Q = episode
    expected = -squared_euclidean(Q, class_means(X, Y)) / N_FEATURES
    torch.testing.assert_close(_learner()(X, Y, mask, Q), expected)


def test_mahalanobis_logits_equal_regularised_distances(episode):
    # Law 6, with one-row classes too.
    X, Y, mask, Q = (t[:, :4] for t in episode)
    means = class_means(X, Y)
    factors = covariance_factors(X, Y, means, epsilon=0.2)
    expected = -mahalanobis(Q, means, factors) / N_FEATURES
    learner = _learner(distance="mahalanobis", epsilon=0.2)
    torch.testing.assert_close(learner(X, Y, mask, Q), expected)


def test_cosine_logits_start_near_ten_times_cosine(episode):
    # A scale of 1 would keep the loss far above zero however good the embedding.
    X, Y, mask, _ = episode
    learner = _learner(distance="cosine")
    logits = learner(X, Y, mask, class_means(X, Y))
    torch.testing.assert_close(
        logits.diagonal(dim1=1, dim2=2),
        torch.full((2, 3), 10.0).double(),
        rtol=1e-6,
        atol=0,
    )


@pytest.mark.parametrize("width", [2, 64, 1024])
def test_logits_of_any_width_start_near_one_in_size(width):
    # Distances grow with the width and would saturate the softmax.
    generator = torch.Generator().manual_seed(0)
    X, Q = torch.randn(2, 50, 3, width, generator=generator)
    Y, mask = torch.eye(3).expand(50, 3, 3), torch.ones(50, 3, dtype=torch.bool)
    logits = PrototypeLearner(nn.Identity())(X, Y, mask, Q)
    assert 1 < logits.abs().mean() < 3


def test_scale_depends_on_shots_of_the_class(episode):
    # A prototype of many rows deserves more trust than one of a single row.
    X, Y, mask, _ = episode
    learner = _learner()
    with torch.no_grad():
        learner.log_scale_slope.fill_(0.5)
    scale = learner.adapt(X[:, :4], Y[:, :4], mask[:, :4])["scale"]
    root = 2.0**0.5
    expected = torch.tensor([[root, 1, 1], [root, 1, 1]], dtype=torch.float64)
    torch.testing.assert_close(scale, expected)


def test_prototypes_with_heavy_prior_go_to_support_centre(episode):
    # Local classes share only where their support lies.
    X, Y, mask, _ = episode
    learner = _learner()
    with torch.no_grad():
        learner.raw_prior_weight.fill_(1e9)
    prototypes = learner.adapt(X, Y, mask)["prototypes"]
    centre = X.mean(1, keepdim=True).expand_as(prototypes)
    torch.testing.assert_close(prototypes, centre, rtol=1e-6, atol=1e-6)


def test_shared_class_without_support_sits_at_its_learned_prototype(episode):
    # The learned prior is all that is known of a class that the support lacks.
    X, Y, mask, _ = episode
    learner = PrototypeLearner(nn.Identity(), n_shared_classes=3, embedding_size=4)
    learner = learner.double()
    with torch.no_grad():
        learner.shared_prototypes.normal_()
    seen = Y * torch.tensor([1.0, 1.0, 0.0])
    prototypes = learner.adapt(X, seen, mask)["prototypes"]
    expected = learner.shared_prototypes[2].expand(2, -1)
    torch.testing.assert_close(prototypes[:, 2], expected)


def test_shared_prototypes_take_their_width_from_the_network():
    # Nobody should have to say what the last layer already says.
    learner = PrototypeLearner(build_mlp(4, (8,), 7), n_shared_classes=3)
    assert learner.shared_prototypes.shape == (3, 7)


def test_learner_with_wrong_option_says_what_to_do():
    # Programming errors are reported where they are made.
    with pytest.raises(ValueError, match="distance must be one of .* got 'manhattan'"):
        PrototypeLearner(nn.Identity(), distance="manhattan")
    with pytest.raises(ValueError, match="Identity.*Pass embedding_size"):
        PrototypeLearner(nn.Identity(), n_shared_classes=3)
