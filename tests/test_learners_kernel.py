"""What only kernel learners must do."""

import pytest
import torch
from torch import nn

from sklearn_meta.functional import gaussian_nll
from sklearn_meta.functional.compiled_library import load_library
from sklearn_meta.learners import FunctionDraws, KernelLearner, kernel
from sklearn_meta.learners.kernel_prior import MAX_LOG_NOISE
from sklearn_meta.learners.towers import Towers

OPTIONS = {
    "deep": {},
    "shallow": {"hidden_layer_sizes": ()},
    "network": {"network": nn.Sequential(nn.Linear(3, 4), nn.Tanh())},
    "zero_mean": {"mean": "zero"},
    "neither": {"mean": "zero", "noise": "constant"},
    "constant_noise": {"noise": "constant"},
    "levels": {"noise_levels": 3},
    "levels_of_constant_noise": {"noise": "constant", "noise_levels": 2},
}
needs_library = pytest.mark.skipif(
    load_library() is None, reason="the package was built without a compiler"
)
each_kind = pytest.mark.parametrize("kind", OPTIONS)


def disturbed(kind="deep", **options):
    """A learner in float64 whose zero-initialised layers are made to do something."""
    torch.manual_seed(0)
    sizes = {"hidden_layer_sizes": (6, 5)}
    learner = KernelLearner(3, **sizes | OPTIONS[kind] | options).double()
    with torch.no_grad():
        for p in learner.parameters():
            p += 0.3 * torch.randn_like(p)
    return learner.eval()


def episode():
    """X_support, Y_support, mask of ragged tasks, and X_query."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(4, 9, 3, generator=generator, dtype=torch.float64)
    Y = X.sum(-1, keepdim=True).sin()
    mask = torch.arange(5) < torch.tensor([5, 3, 1, 0])[:, None]
    return X[:, :5], Y[:, :5], mask, X[:, 5:]


@each_kind
def test_forward_equals_query_of_the_adapted_state(kind):
    # Training takes a path with explicit gradients, serving another one.
    learner, (X, Y, mask, Q) = disturbed(kind), episode()
    expected = learner.query(learner.adapt(X, Y, mask), Q)
    torch.testing.assert_close(learner(X, Y, mask, Q), expected)


@needs_library
@each_kind
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_training_loss_in_c_equals_that_of_torch(kind, dropout, monkeypatch):
    # One formula for the loss, and one for each of its derivatives.
    learner, (X, Y, mask, Q) = disturbed(kind, feature_dropout=dropout), episode()
    target, scored = Q.sum(-1, keepdim=True), torch.rand(4, 4) < 0.7
    scored[1] = False
    losses, gradients = [], []
    for in_c in (True, False):
        torch.manual_seed(0)  # of the dropout
        monkeypatch.setattr(kernel, "has_process", lambda X, in_c=in_c: in_c)
        loss = learner.train().training_loss(
            X, Y, mask, Q, target, scored, criterion=gaussian_nll
        )
        learner.zero_grad()
        loss.backward()
        losses.append(loss.detach())
        gradients.append([p.grad for p in learner.parameters()])
    torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@each_kind
def test_losses_when_padding_holds_anything_are_the_same(kind):
    # The mask alone tells which rows a task has.
    learner, (X, Y, mask, Q) = disturbed(kind), episode()
    scored = mask[:, 1:]

    def losses(fill):
        X_odd, Y_odd = (torch.where(mask[..., None], part, fill) for part in (X, Y))
        Q_odd = torch.where(scored[..., None], Q, fill)
        target = Q_odd.sum(-1, keepdim=True)
        rows = X_odd, Y_odd, mask, Q_odd, target, scored
        loss = learner.training_loss(*rows, criterion=gaussian_nll)
        return loss, learner.marginal_loss(X_odd, Y_odd, mask)

    torch.testing.assert_close(losses(1e3), losses(0.0))


@needs_library
@pytest.mark.parametrize("kind", [kind for kind in OPTIONS if "levels" not in kind])
def test_marginal_loss_in_c_equals_that_of_torch(kind, monkeypatch):
    # As above, for whole tasks, padded ones among them.
    learner, (X, Y, mask, _) = disturbed(kind), episode()
    losses, gradients = [], []
    for in_c in (True, False):
        monkeypatch.setattr(kernel, "has_process", lambda X, in_c=in_c: in_c)
        loss = learner.marginal_loss(X, Y, mask)
        learner.zero_grad()
        loss.backward()
        losses.append(loss.detach())
        gradients.append([p.grad for p in learner.parameters()])
    torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@each_kind
def test_joint_posterior_has_the_variances_of_the_prediction(kind):
    # The target's variance is the function's, and the noise.
    learner, (X, Y, mask, Q) = disturbed(kind), episode()
    state = learner.adapt(X, Y, mask)
    prediction = learner.query(state, Q)
    mean, covariance = learner.joint_posterior(state, Q)
    _, _, noise = learner._describe(Q)
    torch.testing.assert_close(mean, prediction.mean)
    levels = learner._levels().log_level
    level = torch.ones(1).double() if levels is None else levels.exp()
    noise = (state["log_weight"].exp() @ level).unsqueeze(1) * noise
    variance = covariance.diagonal(dim1=1, dim2=2) + noise
    torch.testing.assert_close(variance, prediction.std.square())


def test_prediction_of_levels_is_the_mixture_of_learners_with_these_noises():
    # Each level is a process with other noise; the likelihood of the support weighs it.
    learner, (X, Y, mask, Q) = disturbed("levels_of_constant_noise"), episode()
    learner.std_floor = 0.0
    with torch.no_grad():
        log_level, logit = learner._levels()
        mixture = learner._predict(X, Y, mask, Q)
        for j, log_by in enumerate(log_level):
            one = disturbed("levels_of_constant_noise")
            one.load_state_dict(learner.state_dict())
            one.std_floor = 0.0
            del one.level_numbers
            one.log_noise += 0.5 * log_by
            expected = one(X, Y, mask, Q)
            torch.testing.assert_close(mixture.mean[:, j], expected.mean)
            torch.testing.assert_close(mixture.variance[:, j].sqrt(), expected.std)
            logit[j] -= mask[0].sum() * one.marginal_loss(X[:1], Y[:1], mask[:1])
    torch.testing.assert_close(mixture.log_weight[0], logit.log_softmax(0))


@each_kind
def test_gradient_of_the_loss_equals_finite_differences(kind):
    # Explicit gradients, slices and masks together, for every parameter.
    learner, (X, Y, mask, Q) = disturbed(kind), episode()
    names, values = zip(*learner.named_parameters(), strict=True)

    def loss(*parameters):
        given = dict(zip(names, parameters, strict=True))
        found = torch.func.functional_call(learner, given, (X, Y, mask, Q))
        return gaussian_nll(found, Q.sum(-1)).mean()

    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


def test_untrained_learner_without_support_predicts_its_prior():
    # Mean zero, and the noise the same for all rows.
    learner, (X, Y, mask, Q) = KernelLearner(3).double(), episode()
    prediction = learner(X, Y, mask & False, Q)
    assert (prediction.mean == 0).all()
    _, _, noise = learner._describe(Q)
    torch.testing.assert_close(noise, noise[:1, :1].expand_as(noise))


def test_noise_of_a_wild_row_is_bounded():
    # One row far out must not outweigh or lose the likelihood of all others.
    learner = disturbed()
    _, _, noise = learner._describe(1e6 * torch.randn(50, 9, 3).double())
    common = (2 * learner.log_noise).exp()
    assert noise.max() <= common * torch.e**MAX_LOG_NOISE + 2e-4
    assert noise.min() >= common * torch.e**-MAX_LOG_NOISE


def test_feature_dropout_in_training_keeps_the_last_columns():
    # Whole columns of an episode, the same for support and queries, not scaled up.
    learner = KernelLearner(5, feature_dropout=0.5, n_kept_columns=2).train()
    X = torch.ones(200, 7, 5)
    dropped = learner._drop_columns(X)
    assert (dropped == dropped[:, :1]).all()
    assert (dropped[..., 3:] == 1).all()
    assert dropped.unique().tolist() == [0, 1]
    assert dropped[:, 0, :3].mean().item() == pytest.approx(0.5, abs=0.1)
    assert learner.eval()._drop_columns(X) is X


def test_shallow_learner_reads_its_first_columns_only():
    # The pooled prediction comes last and is not for the shallow kernel.
    learner, (X, Y, mask, Q) = disturbed("shallow"), episode()
    more = [torch.cat([part, torch.randn_like(part)], -1) for part in (X, Q)]
    torch.testing.assert_close(
        learner(more[0], Y, mask, more[1]), learner(X, Y, mask, Q)
    )


def test_towers_equal_perceptrons_one_by_one():
    # Side by side is a matter of speed only.
    towers = Towers(3, (5, 4), 2, "tanh").double()
    rows = torch.randn(6, 3).double()
    for i, hidden in enumerate(towers(rows)):
        expected = rows
        for weight, bias in zip(towers.weights, towers.biases, strict=True):
            expected = torch.tanh(expected @ weight[i] + bias[i])
        torch.testing.assert_close(hidden, expected)


def test_draws_have_the_moments_of_the_joint_posterior():
    # Law of large numbers, on the covariance as a whole.
    learner, (X, Y, mask, Q) = disturbed(), episode()
    state = learner.adapt(X, Y, mask)
    mean, covariance = learner.joint_posterior(state, Q)
    draws = FunctionDraws(learner, 50_000, seed=0).query(state, Q)
    size = covariance.abs().max().item()
    torch.testing.assert_close(draws.mean(-1), mean, rtol=0, atol=0.02 * size**0.5)
    for found, wanted in zip(draws, covariance, strict=True):
        torch.testing.assert_close(found.cov(), wanted, rtol=0, atol=0.03 * size)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mean": "constant"}, "mean must be one of .* got 'constant'"),
        ({"noise": "student"}, "noise must be one of .* got 'student'"),
        ({"feature_dropout": 1.0}, r"must be in \[0, 1\); got 1.0"),
        ({"activation": "step"}, "activation must be one of .* got 'step'"),
    ],
)
def test_learner_with_wrong_option_says_what_is_expected(options, match):
    # Programming errors are reported where they are made.
    with pytest.raises(ValueError, match=match):
        KernelLearner(2, **options)
