"""What only neural processes with a latent variable must do."""

import pytest
import torch

from sklearn_meta.functional import categorical_nll, gaussian_nll
from sklearn_meta.learners import LatentProcessLearner, latent
from sklearn_meta.learners.architectures import READERS

N_TASKS, N_ROWS = 16, 6


def _levels(seed):
    """Tasks whose rows share a level of +1 or -1, and noise of 0.1."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(N_TASKS, N_ROWS, 1, generator=generator)
    level = torch.randint(0, 2, (N_TASKS, 1, 1), generator=generator) * 2 - 1
    return X, level + 0.1 * torch.randn(X.shape, generator=generator)


def _learner(**options):
    torch.manual_seed(0)
    options = {"latent_size": 2, "hidden_size": 16, "likelihood": "gaussian"} | options
    return LatentProcessLearner(1, 1, **options)


def _episode(seed, n_support=0):
    """Support rows, none of which is real, and query rows."""
    X, Y = _levels(seed)
    mask = torch.ones(N_TASKS, N_ROWS, dtype=torch.bool)
    return X, Y, mask & False, X, Y, mask


@pytest.mark.parametrize("architecture", READERS)
def test_training_loss_reaches_every_parameter(architecture):
    # The latent path too, through samples.
    learner = _learner(architecture=architecture)
    with torch.no_grad():
        for p in learner.parameters():
            p += 0.1 * torch.randn_like(p)
    X, Y, _, Q, Y_query, mask = _episode(0)
    learner.training_loss(
        X, Y, mask, Q, Y_query, mask, criterion=gaussian_nll
    ).backward()
    assert [n for n, p in learner.named_parameters() if p.grad is None] == []


def test_samples_without_support_are_whole_functions():
    # Two levels are possible and no row says which: rows of one sample must agree.
    learner = _learner()
    optimizer = torch.optim.Adam(learner.parameters(), lr=1e-2)
    for step in range(300):
        optimizer.zero_grad()
        loss = learner.training_loss(*_episode(step), criterion=gaussian_nll)
        loss.backward()
        optimizer.step()
    X, Y, mask, Q, *_ = _episode(999)
    samples = learner._query_samples(learner.adapt(X, Y, mask), Q).mean
    assert samples.mean(2).std(1).min() > 0.7  # between samples
    assert samples.std(2).mean() < 0.2  # within a sample
    assert loss < 0.3  # nats a row; independent rows could not go below 1.4


def test_prediction_is_the_same_at_every_call_and_for_every_row():
    # Law 4, and determinism: the samples are kept.
    learner = _learner().eval()
    X, Y, _, Q, _, mask = _episode(0)
    with torch.no_grad():
        learner.reader.inner.decoder.rest[-1][-1].weight.normal_()
    state = learner.adapt(X, Y, mask)
    first, second = learner.query(state, Q), learner.query(state, Q)
    assert torch.equal(first.mean, second.mean) and torch.equal(first.std, second.std)
    alone = learner.query(state, Q[:, 2:3])
    torch.testing.assert_close(alone.mean[:, 0], first.mean[:, 2])
    torch.testing.assert_close(alone.std[:, 0], first.std[:, 2])


def test_query_in_parts_equals_query_at_once(monkeypatch):
    # Memory is bounded by running rows in turn.
    X, Y, _, Q, _, mask = _episode(0)
    labels = torch.cat([Y > 0, Y <= 0], -1).float()
    options = {"latent_size": 2, "hidden_size": 8}
    for learner, values in (
        (LatentProcessLearner(1, 1, likelihood="gaussian", **options), Y),
        (LatentProcessLearner(1, 2, likelihood="categorical", **options), labels),
    ):
        state = learner.adapt(X, values, mask)
        expected = learner.query(state, Q)
        monkeypatch.setattr(latent, "ROWS_AT_ONCE", 1)
        torch.testing.assert_close(learner.query(state, Q), expected)
        monkeypatch.undo()


def test_training_loss_of_local_classes_is_finite_and_has_a_gradient():
    # One copy of the reader per class, each with samples of its own.
    learner = LatentProcessLearner(
        1,
        2,
        latent_size=2,
        hidden_size=8,
        likelihood="categorical",
        class_equivariant=True,
    )
    X, Y, _, Q, Y_query, mask = _episode(0)
    Y, Y_query = (torch.cat([Y > 0, Y <= 0], -1).float() for Y in (Y, Y_query))
    loss = learner.training_loss(
        X, Y, mask, Q, Y_query, mask, criterion=categorical_nll
    )
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in learner.parameters())


@pytest.mark.parametrize("options", [{"latent_size": 0}, {"n_samples": 3}])
def test_learner_with_wrong_sizes_says_what_is_expected(options):
    # Odd numbers of samples have no pairs.
    with pytest.raises(ValueError, match="expected latent_size of at least 1"):
        _learner(**options)
