"""The inner loop obeys the laws of gradient-based meta-learning."""

import pytest
import torch

from sklearn_meta.functional import inner_loop, squared_error, stack_parameters

N_TASKS, N_SUPPORT, N_FEATURES = 3, 6, 2


@pytest.fixture
def support():
    generator = torch.Generator().manual_seed(0)
    shape = (N_TASKS, N_SUPPORT)
    X = torch.randn(*shape, N_FEATURES, generator=generator, dtype=torch.float64)
    Y = torch.randn(*shape, 1, generator=generator, dtype=torch.float64)
    mask = torch.ones(shape, dtype=torch.bool)
    mask[0, 4:] = False
    return X, Y, mask


@pytest.fixture
def weight():
    return torch.tensor([0.3, -0.7], dtype=torch.float64, requires_grad=True)


def _linear(params, X):
    return (X @ params["weight"].unsqueeze(-1)).squeeze(-1)


def _adapt(weight, support, lr=0.1, n_steps=1, **options):
    params = stack_parameters({"weight": weight}, N_TASKS)
    return inner_loop(_linear, params, *support, squared_error, lr, n_steps, **options)


def _normal_equations(support):
    """Gram matrix and moment of each task's mean squared error, by hand."""
    X, Y, mask = support
    X, Y, n = X * mask[..., None], Y * mask[..., None], mask.sum(1)[:, None, None]
    return X.mT @ X / n, X.mT @ Y / n


def test_inner_loop_with_zero_steps_changes_nothing(weight, support):
    # Law 1.
    adapted, diverged = _adapt(weight, support, n_steps=0, guard=True)
    assert torch.equal(adapted["weight"], weight.expand(N_TASKS, -1))
    assert not diverged.any()


def test_inner_loop_one_step_equals_normal_equations(weight, support):
    # Each task's gradient must be its own, of the mean over its own rows.
    gram, moment = _normal_equations(support)
    w = weight.detach()[:, None]
    expected = (w - 0.1 * 2 * (gram @ w - moment)).squeeze(-1)
    adapted, _ = _adapt(weight, support)
    torch.testing.assert_close(adapted["weight"].detach(), expected)


@pytest.mark.parametrize("second_order", [True, False])
def test_meta_gradient_of_linear_regression_equals_closed_form(
    weight, support, second_order
):
    # Law 2: (I - lr H)^T g for MAML, g itself for first order, after one step.
    gram, _ = _normal_equations(support)
    outer = torch.randn(N_TASKS, N_FEATURES, dtype=torch.float64)
    adapted, _ = _adapt(weight, support, second_order=second_order)
    gradient = torch.autograd.grad((adapted["weight"] * outer).sum(), weight)[0]
    eye = torch.eye(N_FEATURES, dtype=torch.float64)
    jacobian = eye - 0.1 * 2 * gram if second_order else eye.expand(N_TASKS, -1, -1)
    expected = (jacobian.mT @ outer.unsqueeze(-1)).sum(0).squeeze(-1)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


def test_meta_gradient_of_many_steps_equals_finite_differences(weight, support):
    # Law 2, through all steps; a tanh makes the Hessian depend on the point.
    def forward(params, X):
        return _linear(params, X).tanh()

    def outer(weight):
        params = stack_parameters({"weight": weight}, N_TASKS)
        return inner_loop(forward, params, *support, squared_error, 0.3, 3)[0]["weight"]

    assert torch.autograd.gradcheck(outer, (weight,))


def test_inner_loop_with_learned_rates_moves_each_number_by_its_own(weight, support):
    # Meta-SGD: rates are per number, and get a gradient.
    rates = torch.tensor([0.1, 0.0], dtype=torch.float64, requires_grad=True)
    adapted, _ = _adapt(weight, support, lr={"weight": rates})
    plain, _ = _adapt(weight, support)
    torch.testing.assert_close(adapted["weight"][:, 0], plain["weight"][:, 0])
    torch.testing.assert_close(adapted["weight"][:, 1], weight[1].expand(N_TASKS))
    gradient = torch.autograd.grad(adapted["weight"].sum(), rates)[0]
    assert (gradient != 0).all()


def test_inner_loop_with_adapted_names_moves_only_those(weight, support):
    # ANIL moves the head; the rest is handed on untouched.
    params = stack_parameters({"weight": weight, "bias": weight[:1]}, N_TASKS)

    def forward(params, X):
        return _linear(params, X) + params["bias"]

    adapted, _ = inner_loop(
        forward, params, *support, squared_error, 0.1, 2, adapted=["bias"]
    )
    assert adapted["weight"] is params["weight"]
    assert not torch.equal(adapted["bias"], params["bias"])


def test_inner_loop_with_clip_bounds_every_step(weight, support):
    # One wild row must not throw a task away.
    X, Y, mask = support
    adapted, _ = _adapt(weight, (X, Y + 1e6, mask), clip=0.5)
    torch.testing.assert_close((adapted["weight"] - weight).abs().max().item(), 0.05)


@pytest.mark.parametrize("lr", [10.0, 1e200])
def test_inner_loop_with_guard_and_huge_rate_returns_best_iterate(weight, support, lr):
    # Law 9: finite, no worse than the start, and said so.
    adapted, diverged = _adapt(weight, support, lr=lr, n_steps=9, guard=True)
    assert diverged.all()
    assert torch.equal(adapted["weight"], weight.expand(N_TASKS, -1))


def test_inner_loop_with_guard_marks_only_the_diverged_task(weight, support):
    # Guarding one task must not touch its neighbours.
    X, Y, mask = support
    X = X.clone()
    X[1] *= 100
    plain, _ = _adapt(weight, (X, Y, mask), n_steps=5)
    guarded, diverged = _adapt(weight, (X, Y, mask), n_steps=5, guard=True)
    assert diverged.tolist() == [False, True, False]
    assert torch.equal(guarded["weight"][[0, 2]], plain["weight"][[0, 2]])
    assert torch.equal(guarded["weight"][1], weight)


def test_inner_loop_on_empty_support_changes_nothing(weight, support):
    # A task may have no row at all; its gradient is zero, not NaN.
    X, Y, mask = support
    adapted, diverged = _adapt(weight, (X, Y, mask & False), guard=True)
    assert torch.equal(adapted["weight"], weight.expand(N_TASKS, -1))
    assert not diverged.any()
