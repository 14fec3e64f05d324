"""What only MAML++ must do."""

import math

import pytest
import torch
from gradient_episodes import (
    assert_finite_differences,
    classifier,
    make_episode,
    query_loss,
    regressor,
    targets,
)

from sklearn_meta.functional import masked_task_mean, squared_error_with_noise
from sklearn_meta.learners import MultiStepLearner
from sklearn_meta.learners.multi_step import step_weights


@pytest.fixture
def episode():
    return make_episode()


def _training_loss(learner, episode, progress):
    X, mask, Q = episode
    return learner.training_loss(
        X,
        targets(X) * mask[..., None],
        mask,
        Q,
        targets(Q),
        mask,
        criterion=squared_error_with_noise,
        progress=progress,
    )


def _with_different_rates(learner):
    """Give every step and layer a rate of its own."""
    with torch.no_grad():
        for i, log_rate in enumerate(learner.log_rates):
            log_rate += 0.01 * (i + torch.arange(len(log_rate)))
    return learner


@pytest.mark.parametrize("build", [regressor, classifier])
def test_meta_gradient_equals_finite_differences(episode, build):
    # Law 2, by the rates of every step and layer too.
    learner = _with_different_rates(build(MultiStepLearner, inner_steps=3))
    assert_finite_differences(learner, lambda: query_loss(learner, episode))


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.15, 1.0])
def test_training_loss_is_the_weighted_mean_of_the_losses_after_each_step(
    episode, progress
):
    # Antoniou et al., equation 4; each loss from a learner that stops there.
    X, mask, Q = episode
    learner = _with_different_rates(regressor(MultiStepLearner, inner_steps=3))
    expected = 0.0
    for steps, weight in enumerate(step_weights(3, progress), start=1):
        served = learner.eval()
        served.adapt_steps = steps
        prediction = served(X, targets(X), mask, Q)
        rows = squared_error_with_noise(prediction, targets(Q))
        expected += weight * masked_task_mean(rows, mask)
    loss = _training_loss(learner.train(), episode, progress)
    torch.testing.assert_close(loss, expected)


def test_step_weights_are_equal_at_first_and_all_on_the_last_in_the_end():
    # The schedule of the authors' code, with a least weight until 15 %.
    assert step_weights(5, 0.0) == pytest.approx([0.2] * 5)
    assert step_weights(5, 0.149) == pytest.approx([0.006] * 4 + [0.976])
    assert step_weights(5, 0.15) == [0.0] * 4 + [1.0]
    for progress in (0.0, 0.07, 0.2):
        assert sum(step_weights(3, progress)) == pytest.approx(1)


def test_adapt_with_more_steps_than_trained_goes_on_with_the_last_rates(episode):
    # There are no others; the guard watches as always.
    X, mask, _ = episode
    learner = regressor(MultiStepLearner, inner_steps=2).eval()
    with torch.no_grad():
        for log_rate in learner.log_rates:
            log_rate[1] = -torch.inf
    states = []
    for steps in (1, 2, 7):
        learner.adapt_steps = steps
        states.append(learner.adapt(X, targets(X), mask)["network.0.weight"])
    assert torch.equal(states[1], states[2]) and torch.equal(states[0], states[1])


def test_rates_when_learned_move_in_proportion_and_stay_positive():
    # In units of their own, rates of 0.01 changed sign within ten outer steps.
    for inner_lr in (1e-3, 0.1):
        learner = regressor(MultiStepLearner, inner_steps=2, inner_lr=inner_lr)
        assert all((rate == inner_lr).all() for rate in learner.rates)
        with torch.no_grad():
            for log_rate in learner.log_rates:
                log_rate -= 1e-3 * 20  # twenty outer steps of Adam
        expected = torch.full((2,), inner_lr * math.exp(-0.2), dtype=torch.float64)
        for rate in learner.rates:
            torch.testing.assert_close(rate.double(), expected)


def test_engine_is_one_by_autograd():
    # The recursion has one rate for all steps; the attribute says so.
    assert regressor(MultiStepLearner).engine == "stacked"
    assert regressor(MultiStepLearner, wrap=True).engine == "vmap"


def test_learner_without_inner_steps_is_rejected():
    # It would have no rates to learn.
    with pytest.raises(ValueError, match="inner_steps of at least 1 for MAML.* got 0"):
        regressor(MultiStepLearner, inner_steps=0)
