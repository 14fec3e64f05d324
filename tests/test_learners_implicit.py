"""What only a learner with implicit gradients must do."""

import pytest
import torch
from gradient_episodes import (
    N_FEATURES,
    N_TASKS,
    assert_finite_differences,
    classifier,
    gradient_of,
    make_episode,
    query_loss,
    regressor,
    targets,
)
from torch import nn

from sklearn_meta.functional import masked_task_mean, squared_error
from sklearn_meta.learners import GradientLearner, ImplicitLearner


@pytest.fixture
def episode():
    return make_episode()


def _ridge_solutions(weight, X, mask, proximity):
    """Minima of the mean squared error plus the pull, by the normal equations."""
    S, y = X * mask[..., None], targets(X) * mask[..., None]
    n = mask.sum(1)[:, None, None]
    left = 2 * S.mT @ S / n + proximity * torch.eye(N_FEATURES, dtype=S.dtype)
    return torch.linalg.solve(left, 2 * S.mT @ y / n + proximity * weight.mT)


def test_meta_gradient_of_ridge_regression_equals_the_exact_one(episode):
    # A quadratic problem, solved: Rajeswaran et al., equation 6, to 1e-8.
    X, mask, Q = episode
    linear = nn.Linear(N_FEATURES, 1, bias=False)
    options = {"proximity": 0.5, "inner_steps": 500, "inner_lr": 0.2}
    learner = regressor(ImplicitLearner, network=nn.Sequential(linear), **options)
    solutions = _ridge_solutions(linear.weight, X, mask, 0.5)
    exact = masked_task_mean(squared_error((Q @ solutions)[..., 0], targets(Q)), mask)
    expected = torch.autograd.grad(exact, linear.weight)[0]
    found = torch.autograd.grad(query_loss(learner, episode), linear.weight)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("build", [regressor, classifier])
def test_meta_gradient_at_a_minimum_equals_finite_differences(episode, build):
    # Of a network, whose Hessian changes; many steps of conjugate gradients.
    options = {"proximity": 2.0, "inner_steps": 100, "inner_lr": 0.2, "cg_steps": 60}
    learner = build(ImplicitLearner, **options)
    assert_finite_differences(learner, lambda: query_loss(learner, episode))


@pytest.mark.parametrize("inner_optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("build", [regressor, classifier])
def test_meta_gradient_of_every_path_equals_the_next(episode, build, inner_optimizer):
    # Three engines, one answer; formulas serve every optimizer.
    options = {"inner_steps": 3, "cg_steps": 3, "inner_optimizer": inner_optimizer}
    learners = [build(ImplicitLearner, **options) for _ in range(2)]
    learners.append(build(ImplicitLearner, wrap=True, **options))
    assert (learners[0].engine, learners[2].engine) == ("recursion", "vmap")
    learners[1].engine = "stacked"
    gradients = [gradient_of(m, query_loss(m, episode)) for m in learners]
    for other in gradients[1:]:
        torch.testing.assert_close(gradients[0], other, rtol=1e-10, atol=1e-10)


def test_adapt_with_no_steps_is_the_start_with_its_own_gradient(episode):
    # Law 1; there is no minimum to differentiate at.
    implicit, plain = (
        regressor(family, inner_steps=0)
        for family in (ImplicitLearner, GradientLearner)
    )
    found, expected = (
        gradient_of(m, query_loss(m, episode)) for m in (implicit, plain)
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_adapt_with_a_stronger_pull_stays_nearer(episode):
    # The pull is what makes the start matter after many steps.
    X, mask, _ = episode
    distances = []
    for proximity in (0.1, 1.0, 10.0):
        learner = regressor(ImplicitLearner, proximity=proximity, inner_steps=50)
        state = learner.eval().adapt(X, targets(X), mask)
        start = dict(learner.named_parameters())
        moved = [(state[n] - p).square().sum() for n, p in start.items() if n in state]
        distances.append(sum(moved).item())
    assert distances[0] > 2 * distances[1] > 4 * distances[2]


@pytest.mark.parametrize("wrap", [False, True])
def test_adapt_with_huge_pull_takes_steps_back_until_they_lead_down(episode, wrap):
    # Rate times strength above two: the pull alone would make the steps diverge.
    X, mask, Q = episode
    learner = regressor(ImplicitLearner, proximity=1e6, inner_steps=30, wrap=wrap)
    state = learner.eval().adapt(X, targets(X), mask)
    assert state["diverged"].tolist() == [False] * N_TASKS
    learner.adapt_steps = 3
    assert learner.adapt(X, targets(X), mask)["diverged"].tolist() == [True] * N_TASKS
    assert learner.query(state, Q).mean.isfinite().all()


def test_training_at_a_rate_that_diverges_keeps_a_finite_gradient(episode):
    # The outer gradient cannot see that steps diverge: they must not.
    learner = regressor(ImplicitLearner, inner_lr=50.0, inner_steps=20).train()
    assert gradient_of(learner, query_loss(learner, episode)).isfinite().all()
