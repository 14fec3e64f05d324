"""The implicit gradient is that of the exact solution."""

import pytest
import torch

from sklearn_meta.functional import (
    build_mlp,
    conjugate_gradients,
    perceptron_chain,
    solve_implicitly,
    squared_error,
    squared_error_loss,
    stackable_layers,
    stacked_forward,
)
from sklearn_meta.functional.evaluation import evaluate_by_autograd, evaluate_near
from sklearn_meta.functional.implicit import (
    curvature_by_autograd,
    curvature_by_formulas,
)
from sklearn_meta.functional.inner_loop import descend

N_TASKS, SIZE, STRENGTH = 3, 4, 0.7


@pytest.fixture
def hessian():
    """A positive definite matrix for each task, and the targets of its quadratic."""
    generator = torch.Generator().manual_seed(0)
    roots = torch.randn(N_TASKS, SIZE, SIZE, generator=generator, dtype=torch.float64)
    target = torch.randn(N_TASKS, SIZE, generator=generator, dtype=torch.float64)
    return roots @ roots.mT, target


def _apply(matrices, v):
    return (matrices @ v.unsqueeze(-1)).squeeze(-1)


def _quadratic(hessian):
    """Loss (phi - target)' H (phi - target) / 2 and its gradient."""
    matrices, target = hessian

    def evaluate(at):
        error = at["phi"] - target
        gradient = _apply(matrices, error)
        return (lambda: 0.5 * (error * gradient).sum(1)), (lambda: {"phi": gradient})

    return evaluate


def test_conjugate_gradients_after_as_many_steps_as_numbers_are_exact(hessian):
    # Against a direct solver, for every task by itself.
    matrices, target = hessian
    found = conjugate_gradients(
        lambda v: {"w": _apply(matrices, v["w"])}, {"w": target}, SIZE
    )
    expected = torch.linalg.solve(matrices, target.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(found["w"], expected, rtol=1e-8, atol=1e-8)


def test_conjugate_gradients_past_the_solution_stay_finite(hessian):
    # Zero over zero, once the residual has vanished.
    matrices, target = hessian
    found = conjugate_gradients(
        lambda v: {"w": _apply(matrices, v["w"])}, {"w": target}, 50
    )
    torch.testing.assert_close(_apply(matrices, found["w"]), target)


@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan")])
def test_conjugate_gradients_without_positive_curvature_give_the_target(value):
    # A network's Hessian need not be positive; first order is what is left then.
    target = {"w": torch.tensor([[1.0], [2.0]])}
    factor = torch.tensor([[2.0], [value]])
    found = conjugate_gradients(lambda v: {"w": factor * v["w"]}, target, 3)
    assert found["w"].flatten().tolist() == [0.5, 2.0]


def test_implicit_gradient_of_quadratic_equals_that_of_the_exact_solution(hessian):
    # Rajeswaran et al., equation 6, to 1e-8: solver, curvature and gradient together.
    matrices, target = hessian
    start = torch.zeros(N_TASKS, SIZE, dtype=torch.float64, requires_grad=True)
    evaluate = evaluate_near(_quadratic(hessian), {"phi": start.detach()}, STRENGTH)
    solution, _ = descend(evaluate, {"phi": start.detach()}, 0.05, 2000)

    def curvature(v, alpha):
        return {"phi": v["phi"] + alpha * _apply(matrices, v["phi"])}

    found = solve_implicitly({"phi": start}, solution, curvature, STRENGTH, SIZE)
    eye = torch.eye(SIZE, dtype=torch.float64)
    right = _apply(matrices, target) + STRENGTH * start
    exact = torch.linalg.solve(matrices + STRENGTH * eye, right.unsqueeze(-1))
    weights = torch.arange(1.0, 1 + SIZE, dtype=torch.float64)
    ours = torch.autograd.grad((found["phi"].pow(2) * weights).sum(), start)[0]
    theirs = torch.autograd.grad((exact.squeeze(-1).pow(2) * weights).sum(), start)[0]
    torch.testing.assert_close(found["phi"], exact.squeeze(-1), rtol=0, atol=1e-8)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)


def test_implicit_gradient_with_no_steps_or_endless_pull_is_first_order(hessian):
    # With an endless pull the solution is the start, and its derivative one.
    matrices, _ = hessian
    start = {"phi": torch.ones(N_TASKS, SIZE, dtype=torch.float64, requires_grad=True)}

    def curvature(v, alpha):
        return {"phi": v["phi"] + alpha * _apply(matrices, v["phi"])}

    for strength, n_steps in ((1.0, 0), (1e12, 5)):
        found = solve_implicitly(start, start, curvature, strength, n_steps)
        gradient = torch.autograd.grad(found["phi"].sum(), start["phi"])[0]
        torch.testing.assert_close(gradient, torch.ones_like(gradient))


def test_damping_is_added_to_the_diagonal(hessian):
    # (1 + damping) I + H / strength.
    matrices, target = hessian
    start = {"phi": torch.zeros(N_TASKS, SIZE, dtype=torch.float64, requires_grad=True)}

    def curvature(v, alpha):
        return {"phi": v["phi"] + alpha * _apply(matrices, v["phi"])}

    found = solve_implicitly(start, start, curvature, STRENGTH, SIZE, damping=0.5)
    gradient = torch.autograd.grad((found["phi"] * target).sum(), start["phi"])[0]
    full = 1.5 * torch.eye(SIZE, dtype=torch.float64) + matrices / STRENGTH
    expected = torch.linalg.solve(full, target.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-8)


def test_curvature_by_formulas_equals_that_by_autograd():
    # Two engines, one Hessian.
    generator = torch.Generator().manual_seed(0)
    network = build_mlp(2, (4,), 1, "tanh").double()
    params = {
        name: torch.randn(N_TASKS, *p.shape, generator=generator, dtype=torch.float64)
        for name, p in network.named_parameters()
    }
    X = torch.randn(N_TASKS, 5, 2, generator=generator, dtype=torch.float64)
    Y, mask = X.sum(-1, keepdim=True), torch.ones(N_TASKS, 5, dtype=torch.bool)
    layers = stackable_layers(network)
    at = {name: p.clone().requires_grad_() for name, p in params.items()}
    evaluate = evaluate_by_autograd(
        lambda p, X: stacked_forward(layers, p, X).squeeze(-1),
        X,
        Y,
        mask,
        squared_error,
        tuple(at),
        second_order=True,
    )
    loss = squared_error_loss(Y, mask)
    ours = curvature_by_formulas(perceptron_chain(layers), params, X, loss)(params, 0.3)
    other = curvature_by_autograd(evaluate, at)(params, 0.3)
    for name, value in ours.items():
        torch.testing.assert_close(value, other[name], rtol=1e-10, atol=1e-10)
