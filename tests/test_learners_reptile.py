"""What only Reptile must do."""

import copy

import pytest
import torch
from gradient_episodes import (
    N_TASKS,
    classes,
    classifier,
    gradient_of,
    make_episode,
    regressor,
    targets,
)

from sklearn_meta.functional import (
    categorical_nll,
    masked_task_mean,
    squared_error_with_noise,
)
from sklearn_meta.learners import ReptileLearner

RATE = 0.1


@pytest.fixture
def episode():
    """Support and query of ragged tasks, targets included."""
    X, mask, Q = make_episode()
    return X, targets(X) * mask[..., None], mask, Q, targets(Q), mask


def _loss(learner, episode, seed=0):
    torch.manual_seed(seed)  # of the order of the rows
    return learner.training_loss(*episode, criterion=squared_error_with_noise)


def _network_gradient(learner, loss):
    """Gradient by the network's parameters, in their shapes."""
    return torch.autograd.grad(loss, list(learner.network.parameters()))


def _ends_of_task_loop(learner, episode, **options):
    """Where an optimizer of torch takes each task by itself, on all its rows."""
    X, Y, mask, Q, Y_query, _ = episode
    ends = []
    for i in range(N_TASKS):
        network = copy.deepcopy(learner.network)
        optimizer = torch.optim.SGD(network.parameters(), lr=RATE, **options)
        rows = torch.cat([X[i][mask[i]], Q[i][mask[i]]])
        wanted = torch.cat([Y[i][mask[i]], Y_query[i][mask[i]]])
        for _ in range(learner.inner_steps):
            optimizer.zero_grad()
            (network(rows) - wanted).square().mean().backward()
            optimizer.step()
        ends.append([p.detach() for p in network.parameters()])
    return [torch.stack(values) for values in zip(*ends, strict=True)]


@pytest.mark.parametrize(
    ("name", "options"), [("sgd", {}), ("momentum", {"momentum": 0.9})]
)
def test_gradient_is_the_way_back_from_where_a_loop_over_tasks_ends(
    episode, name, options
):
    # Algorithm 2 of the paper, against torch's optimizers; batches hold all rows.
    learner = regressor(
        ReptileLearner,
        inner_lr=RATE,
        inner_steps=4,
        inner_batch_size=50,
        inner_optimizer=name,
    )
    ends = _ends_of_task_loop(learner, episode, **options)
    found = _network_gradient(learner, _loss(learner, episode))
    for p, gradient, end in zip(learner.network.parameters(), found, ends, strict=True):
        torch.testing.assert_close(gradient, (p.detach() - end.mean(0)) / RATE)


def test_loss_is_that_of_the_query_after_adapting_to_the_support(episode):
    # So that loss curves of all variants mean the same, and the noise is honest.
    X, Y, mask, Q, Y_query, query_mask = episode
    learner = regressor(ReptileLearner)
    rows = squared_error_with_noise(learner(X, Y, mask, Q), Y_query)
    expected = masked_task_mean(rows, query_mask)
    loss = _loss(learner, episode)
    torch.testing.assert_close(loss, expected)
    noise = [learner.noise_intercept, learner.noise_slope]
    for ours, theirs in zip(
        torch.autograd.grad(loss, noise),
        torch.autograd.grad(expected, noise),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_batches_take_every_row_of_a_task_in_turn_and_no_padding(episode):
    # On the loss sum (w - y)^2 / 2n two batches of half the rows see all targets.
    learner = regressor(ReptileLearner, inner_batch_size=2, inner_steps=5)
    X, Y, mask, *query = episode
    junk = torch.where(mask[..., None], X, 1e6), torch.where(mask[..., None], Y, 1e6)
    expected = _network_gradient(learner, _loss(learner, episode))
    found = _network_gradient(learner, _loss(learner, (*junk, mask, *query)))
    other = _network_gradient(learner, _loss(learner, episode, seed=1))
    for ours, theirs, reordered in zip(found, expected, other, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert not torch.allclose(theirs, reordered)


def test_task_without_rows_does_not_count(episode):
    # It ends where it starts; with a weight it would hold the others back.
    learner = regressor(ReptileLearner, inner_batch_size=50)
    X, Y, mask, Q, Y_query, query_mask = episode
    masks = mask.clone(), query_mask.clone()
    for part in masks:
        part[2] = False
    found = _loss(learner, (X, Y, masks[0], Q, Y_query, masks[1]))
    expected = _loss(learner, tuple(part[:2] for part in episode))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        gradient_of(learner, found), gradient_of(learner, expected)
    )


@pytest.mark.parametrize("inner_optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("build", [regressor, classifier])
def test_gradient_of_every_path_equals_the_next(episode, build, inner_optimizer):
    # Three engines, one answer, for the same order of rows.
    options = {"inner_batch_size": 3, "inner_optimizer": inner_optimizer}
    learners = [build(ReptileLearner, **options) for _ in range(2)]
    learners.append(build(ReptileLearner, wrap=True, **options))
    assert (learners[0].engine, learners[2].engine) == ("recursion", "vmap")
    learners[1].engine = "stacked"
    X, Y, mask, Q, Y_query, query_mask = episode
    criterion = squared_error_with_noise
    if build is classifier:
        Y, Y_query, criterion = classes() * mask[..., None], classes(), categorical_nll
    gradients = []
    for learner in learners:
        torch.manual_seed(0)
        loss = learner.training_loss(
            X, Y, mask, Q, Y_query, query_mask, criterion=criterion
        )
        gradients.append(gradient_of(learner, loss))
    for other in gradients[1:]:
        torch.testing.assert_close(gradients[0], other, rtol=1e-10, atol=1e-10)


def test_task_whose_steps_diverge_has_no_say(episode):
    # It would end the training of all others, or pull the start to where it went.
    X, Y, mask, Q, Y_query, query_mask = episode
    wild = X.clone(), Q.clone()
    for part in wild:
        part[2] *= 1e4  # its curvature is beyond two over the rate
    learner = regressor(ReptileLearner, inner_batch_size=50, inner_lr=0.02)
    losses = [
        _loss(learner, (X, Y, mask, Q, Y_query, query_mask)),
        _loss(learner, (wild[0], Y, mask, wild[1], Y_query, query_mask)),
    ]
    calm, rough = (_network_gradient(learner, loss) for loss in losses)
    assert losses[1].isfinite()
    for one, other in zip(calm, rough, strict=True):
        assert other.isfinite().all() and other.norm() <= 3 * one.norm()


def test_learner_without_inner_steps_is_rejected():
    # The start would never move.
    with pytest.raises(ValueError, match="inner_steps of at least 1 for Reptile.* 0"):
        regressor(ReptileLearner, inner_steps=0)
