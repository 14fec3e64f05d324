"""Formulas against autograd: the loss of prototypes and its gradient."""

import pytest
import torch
from torch import nn

from sklearn_meta.functional import build_mlp, categorical_nll, masked_task_mean
from sklearn_meta.functional.prototype_loss import prototype_loss
from sklearn_meta.learners import PrototypeLearner

N_TASKS, N_SUPPORT, N_QUERY, N_CLASSES = 4, 9, 7, 3


def draw_episodes(even):
    """Stacked episodes, in which some classes, rows and a task are missing or not."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(N_TASKS, N_SUPPORT, 3, generator=generator, dtype=torch.float64)
    X_query = torch.randn(N_TASKS, N_QUERY, 3, generator=generator, dtype=torch.float64)
    eye = torch.eye(N_CLASSES, dtype=torch.float64)
    Y = eye[torch.arange(N_SUPPORT) % N_CLASSES].repeat(N_TASKS, 1, 1)
    Y_query = eye[torch.arange(N_QUERY) % N_CLASSES].repeat(N_TASKS, 1, 1)
    mask, query_mask = Y.any(-1), Y_query.any(-1)
    if not even:
        mask[0, :4] = False  # some rows
        mask[1, 2::3] = False  # a whole class, which no query row is of
        query_mask[1, 2::3] = False
        query_mask[2, 3:] = False
        query_mask[3] = False  # a task without a query
    return X, Y, mask, X_query, Y_query * query_mask.unsqueeze(-1), query_mask


@pytest.fixture
def learner():
    """A learner in training whose numbers are not at their start."""
    torch.manual_seed(0)
    learner = PrototypeLearner(build_mlp(3, (8,), 6)).double().train()
    with torch.no_grad():
        learner.log_scale.fill_(0.3)
        learner.log_scale_slope.fill_(0.2)
        learner.raw_prior_weight.fill_(-0.5)
    return learner


@pytest.mark.parametrize("even", [True, False])
def test_loss_and_gradient_are_those_of_autograd(learner, even):
    """Every derivative, where classes have as many rows and where they do not."""
    X, Y, mask, X_query, Y_query, query_mask = draw_episodes(even)
    row_loss = categorical_nll(learner(X, Y, mask, X_query), Y_query)
    expected = masked_task_mean(row_loss, query_mask)
    found = learner.training_loss(
        X, Y, mask, X_query, Y_query, query_mask, criterion=categorical_nll
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    parameters = list(learner.parameters())
    # not 1: the loss may be a part of another one
    gradient, other = (
        torch.autograd.grad(3 * loss, parameters) for loss in (found, expected)
    )
    torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-10)


def test_gradient_of_features_is_that_of_finite_differences():
    """An answer that does not come from autograd either."""
    _, Y, _, _, Y_query, _ = draw_episodes(even=False)
    torch.manual_seed(0)
    features = torch.randn(N_TASKS, N_SUPPORT + N_QUERY, 5, dtype=torch.float64)
    numbers = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    weight = Y_query.sum(-1) / 10
    torch.autograd.gradcheck(
        lambda features, numbers: prototype_loss(
            features, Y, Y_query, weight, *numbers.unbind()
        ),
        (features.requires_grad_(), numbers.requires_grad_()),
    )


def test_loss_when_features_are_far_from_zero_is_precise():
    """Distances in float32 must not cancel, wherever the network puts the rows."""
    _, Y, _, _, Y_query, query_mask = draw_episodes(even=True)
    torch.manual_seed(0)
    features = torch.randn(N_TASKS, N_SUPPORT + N_QUERY, 5)
    zeros = torch.zeros(3)
    near, far = (
        prototype_loss(
            features + shift, Y.float(), Y_query.float(), query_mask.float(), *zeros
        )
        for shift in (0.0, 300.0)
    )
    torch.testing.assert_close(far, near, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"distance": "cosine"}, {"n_shared_classes": N_CLASSES}]
)
def test_training_loss_when_there_are_no_formulas_is_that_of_the_logits(options):
    """Other distances, and classes with a prior of their own, go by autograd."""
    torch.manual_seed(0)
    learner = PrototypeLearner(build_mlp(3, (8,), 6), **options).double().train()
    X, Y, mask, X_query, Y_query, query_mask = draw_episodes(even=False)
    expected = categorical_nll(learner(X, Y, mask, X_query), Y_query)
    found = learner.training_loss(
        X, Y, mask, X_query, Y_query, query_mask, criterion=categorical_nll
    )
    torch.testing.assert_close(found, masked_task_mean(expected, query_mask))


def test_training_loss_when_the_criterion_is_another_uses_it(learner):
    """What is differentiated is what was asked for."""
    X, Y, mask, X_query, Y_query, query_mask = draw_episodes(even=True)
    criterion = nn.MSELoss(reduction="none")
    found = learner.training_loss(
        X,
        Y,
        mask,
        X_query,
        Y_query,
        query_mask,
        criterion=lambda logits, Y: criterion(logits, Y).sum(-1),
    )
    expected = criterion(learner(X, Y, mask, X_query), Y_query).sum(-1).mean()
    torch.testing.assert_close(found, expected)
