"""What only learners by gradient descent must do."""

from functools import partial

import pytest
import torch
from gradient_episodes import (
    N_CLASSES,
    N_FEATURES,
    N_TASKS,
    Wrapped,
    assert_finite_differences,
    classes,
    classifier,
    make_episode,
    query_loss,
    regressor,
    targets,
)
from torch import nn

from sklearn_meta.functional import (
    build_mlp,
    class_means,
    masked_task_mean,
    squared_error,
    squared_error_with_noise,
    squared_euclidean,
)
from sklearn_meta.learners import GradientLearner
from sklearn_meta.learners.engines import ENGINES

_regressor = partial(regressor, GradientLearner)
_classifier = partial(classifier, GradientLearner)


@pytest.fixture
def episode():
    return make_episode()


def _meta_gradient(learner, episode):
    """Gradient of the mean query error, as one vector."""
    X, mask, Q = episode
    prediction = learner(X, targets(X), mask, Q)
    loss = masked_task_mean(squared_error(prediction.mean, targets(Q)), mask)
    params = [p for p in learner.parameters() if not p.ndim == 0]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, params)])


def test_forward_with_zero_steps_equals_the_network(episode):
    # Law 1.
    X, mask, Q = episode
    learner = _regressor(inner_steps=0)
    expected = learner.network(Q.flatten(0, 1)).view(N_TASKS, -1)
    assert torch.allclose(learner(X, targets(X), mask, Q).mean, expected, atol=1e-14)


def test_protomaml_with_zero_steps_equals_prototypes(episode):
    # Law 6: before any step, ProtoMAML is a prototypical network.
    X, mask, Q = episode
    learner = _classifier(inner_steps=0)
    Y = classes() * mask[..., None]
    prototypes = class_means(learner.network(X), Y)
    distances = squared_euclidean(learner.network(Q), prototypes)
    expected = (-distances * learner.log_scale.exp() / 5).softmax(-1)
    torch.testing.assert_close(learner(X, Y, mask, Q).softmax(-1), expected)


@pytest.mark.parametrize("learn_inner_lr", [True, False])
@pytest.mark.parametrize("adapted", ["all", "head"])
def test_meta_gradient_of_regressor_equals_finite_differences(
    episode, adapted, learn_inner_lr
):
    # Law 2, rates and noise included.
    learner = _regressor(inner_steps=3, adapted=adapted, learn_inner_lr=learn_inner_lr)
    X, mask, Q = episode

    def loss():
        prediction = learner(X, targets(X), mask, Q)
        # The criterion with its detached residual is no plain function: square it.
        rows = squared_error(prediction.mean, targets(Q)) + prediction.std
        return masked_task_mean(rows, mask)

    assert_finite_differences(learner, loss)


@pytest.mark.parametrize("adapted", ["all", "head"])
def test_meta_gradient_of_protomaml_equals_finite_differences(episode, adapted):
    # Law 2: through the prototypes too, from which the head starts.
    learner = _classifier(inner_steps=2, adapted=adapted, inner_lr=0.3)
    assert_finite_differences(learner, lambda: query_loss(learner, episode))


@pytest.mark.parametrize("second_order", [True, False])
def test_meta_gradient_of_one_linear_step_equals_closed_form(episode, second_order):
    # Law 2: (I - lr H)^T g; first order drops H.
    X, mask, Q = episode
    network = nn.Linear(N_FEATURES, 1, bias=False)
    learner = _regressor(
        network=nn.Sequential(network),
        inner_steps=1,
        inner_lr=0.1,
        second_order=second_order,
    )
    w, n = network.weight.detach().mT, mask.sum(1)[:, None, None]
    S = X * mask[..., None]
    hessian = 2 * S.mT @ S / n
    start = 2 * S.mT @ (S @ w - targets(X) * mask[..., None]) / n
    R = Q * mask[..., None]
    outer = 2 * R.mT @ (R @ (w - 0.1 * start) - targets(Q) * mask[..., None]) / n
    if second_order:
        outer = outer - 0.1 * hessian @ outer
    expected = outer.mean(0).flatten()
    torch.testing.assert_close(_meta_gradient(learner, episode), expected)


def _on_every_engine(build):
    """The same learner on every engine that serves it, and as a module of its own."""
    fastest = build().engine
    assert fastest in ("compiled", "recursion")  # the former where there is a compiler
    for engine in ENGINES[ENGINES.index(fastest) :]:
        learner = build()
        learner.engine = engine
        assert learner.engine == engine
        yield learner
    yield build(wrap=True)


def _assert_same_gradients(learners, loss):
    """Compare the gradients of ``loss(learner)`` with those of the first one."""
    gradients = []
    for learner in learners:
        params = list(learner.parameters())
        found = torch.autograd.grad(loss(learner), params, materialize_grads=True)
        gradients.append(found)
    for first, *others in zip(*gradients, strict=True):
        for other in others:
            torch.testing.assert_close(first, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("learn_inner_lr", [True, False])
@pytest.mark.parametrize("adapted", ["all", "head"])
@pytest.mark.parametrize("second_order", [True, False])
def test_meta_gradient_of_every_engine_is_the_same(
    episode, adapted, second_order, learn_inner_lr
):
    # Four engines, one answer, to 1e-10, chosen by the learner or by hand.
    X, mask, Q = episode

    def build(wrap=False):
        return _regressor(
            wrap=wrap,
            adapted=adapted,
            second_order=second_order,
            learn_inner_lr=learn_inner_lr,
        )

    def loss(learner):
        rows = squared_error(learner(X, targets(X), mask, Q).mean, targets(Q))
        return masked_task_mean(rows, mask)

    _assert_same_gradients(_on_every_engine(build), loss)


@pytest.mark.parametrize("adapted", ["all", "head"])
@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("learn_inner_lr", [True, False])
def test_protomaml_gradient_of_every_engine_is_the_same(
    episode, adapted, second_order, learn_inner_lr
):
    # Through the prototypes and the scale of the logits too.
    def build(wrap=False):
        learner = _classifier(
            wrap=wrap,
            adapted=adapted,
            second_order=second_order,
            learn_inner_lr=learn_inner_lr,
        )
        with torch.no_grad():
            learner.log_scale.fill_(0.5)
        return learner

    learners = _on_every_engine(build)
    _assert_same_gradients(learners, lambda learner: query_loss(learner, episode))


@pytest.mark.parametrize("adapted", ["all", "head"])
def test_offset_gradient_of_every_engine_is_the_same(episode, adapted):
    # The inner loop counts from the offset too, whatever computes it.
    X, mask, Q = episode
    episode = torch.cat([X, X.cos()], -1), mask, torch.cat([Q, Q.cos()], -1)

    def build(wrap=False):
        torch.manual_seed(0)
        network = build_mlp(2 * N_FEATURES, (4,), N_CLASSES, "tanh").double()
        network = Wrapped(network) if wrap else network
        options = {"likelihood": "categorical", "adapted": adapted}
        return GradientLearner(network, **options, n_offsets=N_CLASSES).double()

    learners = _on_every_engine(build)
    _assert_same_gradients(learners, lambda learner: query_loss(learner, episode))


@pytest.mark.parametrize("name", ["recursion", "loop"])
def test_engine_that_does_not_serve_a_learner_is_refused(name):
    # It would compute something else, or nothing.
    learner = _regressor(wrap=True)
    with pytest.raises(ValueError, match=r"engine must be one of \('vmap',\) here"):
        learner.engine = name


def test_engine_of_a_type_that_c_does_not_know_is_the_recursion():
    # The attribute follows the parameters.
    learner = _regressor()
    fastest = learner.engine
    assert learner.half().engine == "recursion"
    assert learner.float().engine == fastest


@pytest.mark.parametrize(
    "options", [{"head": "prototypes"}, {"likelihood": "gaussian"}]
)
def test_offsets_of_what_is_no_shared_logit_are_refused(options):
    # They would be added to something else.
    options = {"likelihood": "categorical"} | options
    with pytest.raises(ValueError, match="n_offsets=2 needs head='linear'"):
        GradientLearner(build_mlp(3, (4,), 2), n_offsets=2, **options)


@pytest.mark.parametrize("build", [_regressor, _classifier])
def test_adapt_in_eval_mode_of_every_engine_is_the_same(episode, build):
    # Serving has code of its own.
    X, mask, Q = episode
    Y = targets(X) if build is _regressor else classes()
    states, predictions = [], []
    for learner in _on_every_engine(build):
        states.append(learner.eval().adapt(X, Y, mask))
        predictions.append(learner.query(states[-1], Q))
    for state, prediction in zip(states[1:], predictions[1:], strict=True):
        torch.testing.assert_close(prediction, predictions[0], rtol=1e-10, atol=1e-10)
        assert torch.equal(state["diverged"], states[0]["diverged"])


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (build_mlp(N_FEATURES, (4,), 1), {"clip_inner_gradient": 1.0}),
        (nn.Sequential(nn.Linear(N_FEATURES, 1, bias=False)), {}),
        (nn.Sequential(nn.LayerNorm(N_FEATURES), nn.Linear(N_FEATURES, 1)), {}),
    ],
)
def test_engine_where_formulas_do_not_apply_is_stacked(network, options):
    # The attribute says so; nothing else changes.
    assert _regressor(network=network, **options).engine == "stacked"


def test_layers_frozen_later_stay_as_they_are(episode):
    # skorch's Freezer acts after the learner was built.
    X, mask, _ = episode
    learner = _regressor()
    learner.network[0].requires_grad_(False)
    state = learner.adapt(X, targets(X), mask)
    assert "network.0.weight" not in state and "network.2.weight" in state


def test_first_order_gradient_differs_from_second_order_but_is_not_zero(episode):
    # Law 2: detaching the parameters instead would give zero, and nothing would train.
    first, second = (
        _meta_gradient(_regressor(second_order=flag), episode) for flag in (False, True)
    )
    assert first.abs().max() > 1e-3
    assert not torch.allclose(first, second, rtol=1e-3)


@pytest.mark.parametrize("second_order", [True, False])
def test_outer_steps_lower_the_loss(episode, second_order):
    # The whole of it trains, noise included.
    X, mask, Q = episode
    learner = _regressor(second_order=second_order)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        rows = squared_error_with_noise(learner(X, targets(X), mask, Q), targets(Q))
        loss = masked_task_mean(rows, mask)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_adapt_in_eval_mode_builds_no_graph_and_equals_training_mode(episode):
    # The same steps, without the memory of differentiating them.
    X, mask, _ = episode
    learner = _regressor()
    trained = learner.adapt(X, targets(X), mask)
    served = learner.eval().adapt(X, targets(X), mask)
    assert trained["network.0.weight"].requires_grad
    for key, value in served.items():
        assert not value.requires_grad
        torch.testing.assert_close(value, trained[key].detach())


@pytest.mark.parametrize("inner_lr", [50.0, 1e30, 1e300])
@pytest.mark.parametrize("build", [_regressor, _classifier])
def test_adapt_in_eval_mode_with_huge_rate_is_guarded(episode, build, inner_lr):
    # Law 9: never NaN, and the caller is told which tasks diverged.
    X, mask, Q = episode
    learner = build(inner_lr=inner_lr).eval()
    learner.adapt_steps = 20
    Y = targets(X) if learner.likelihood == "gaussian" else classes()
    state = learner.adapt(X * 100, Y * 10, mask)
    assert state["diverged"].shape == (N_TASKS,)
    assert state["diverged"].any()
    prediction = learner.query(state, Q)
    outputs = torch.stack(prediction) if isinstance(prediction, tuple) else prediction
    assert not outputs.isnan().any()


def test_adapt_steps_in_eval_mode_count_instead_of_inner_steps(episode):
    # Users may adapt longer than they trained.
    X, mask, _ = episode
    learner = _regressor(inner_steps=1).eval()
    learner.adapt_steps = 0
    state = learner.adapt(X, targets(X), mask)
    for name, p in learner.network.named_parameters():
        assert torch.equal(state[f"network.{name}"], p.expand(N_TASKS, *p.shape))


def test_forward_under_inference_mode_equals_no_grad(episode):
    # Services run under inference mode, whose tensors refuse gradients.
    X, mask, Q = episode
    learner = _regressor().eval()
    with torch.no_grad():
        expected = learner(X, targets(X), mask, Q).mean
    with torch.inference_mode():
        inputs = [t.clone() for t in (X, targets(X), mask, Q)]
        assert torch.equal(learner(*inputs).mean, expected)


def test_anil_state_holds_the_head_only(episode):
    # Serving many tasks of ANIL must not copy the body for each.
    X, mask, _ = episode
    state = _regressor(adapted="head").adapt(X, targets(X), mask)
    assert set(state) == {"network.2.weight", "network.2.bias", "std", "diverged"}


def test_noise_depends_on_support_size_only(episode):
    # Two scalars: an intercept and a slope in log(1 + n_support).
    X, mask, _ = episode
    learner = _regressor()
    with torch.no_grad():
        learner.noise_slope.fill_(-1)
    std = learner.adapt(X, targets(X), mask)["std"]
    assert std[0] > std[1] and std[1] == std[2]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"head": "cosine"}, "head must be one of .* got 'cosine'"),
        ({"adapted": "body"}, "adapted must be one of .* got 'body'"),
        ({"likelihood": "poisson"}, "likelihood must be one of .* got 'poisson'"),
        ({"inner_optimizer": "lbfgs"}, "inner_optimizer must be one of .* got 'lbfgs'"),
        ({"head": "prototypes"}, "needs classes.*Use head='linear'"),
    ],
)
def test_learner_with_wrong_option_says_what_is_expected(options, match):
    # Programming errors must not surface as shape errors in the inner loop.
    with pytest.raises(ValueError, match=match):
        GradientLearner(build_mlp(2, (4,), 1), **options)


@pytest.mark.parametrize(
    ("network", "adapted", "match"),
    [
        (nn.Linear(2, 1).requires_grad_(False), "all", "Linear with none. Unfreeze"),
        (nn.PReLU(), "head", "an? nn.Linear layer .*got PReLU"),
    ],
)
def test_learner_with_nothing_to_adapt_is_rejected(network, adapted, match):
    # Otherwise autograd fails later, in words about empty inputs.
    with pytest.raises(ValueError, match=match):
        GradientLearner(network, adapted=adapted)


@pytest.mark.parametrize("inner_optimizer", ["momentum", "adam"])
def test_meta_gradient_through_an_optimizer_equals_finite_differences(
    episode, inner_optimizer
):
    # Law 2: its memory is a part of the path.
    learner = _regressor(inner_steps=3, inner_optimizer=inner_optimizer)
    assert learner.engine == "stacked"
    X, mask, Q = episode

    def loss():
        rows = squared_error(learner(X, targets(X), mask, Q).mean, targets(Q))
        return masked_task_mean(rows, mask)

    assert_finite_differences(learner, loss)


@pytest.mark.parametrize("inner_optimizer", ["momentum", "adam"])
@pytest.mark.parametrize("second_order", [True, False])
def test_meta_gradient_through_an_optimizer_is_that_of_the_other_path(
    episode, inner_optimizer, second_order
):
    # First order must not be zero: the parameters are not detached.
    options = {"second_order": second_order, "inner_optimizer": inner_optimizer}
    stacked, mapped = (
        _meta_gradient(_regressor(wrap=wrap, **options), episode)
        for wrap in (False, True)
    )
    torch.testing.assert_close(stacked, mapped, rtol=1e-10, atol=1e-10)
    assert stacked.abs().max() > 1e-3
