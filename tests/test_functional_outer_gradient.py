"""The outer gradient by formulas equals that of autograd."""

import pytest
import torch

from sklearn_meta.functional import (
    build_mlp,
    categorical_nll,
    cross_entropy_loss,
    inner_loop,
    masked_task_mean,
    outer_gradient,
    perceptron_chain,
    squared_error,
    squared_error_loss,
    stack_parameters,
    stackable_layers,
    stacked_forward,
)

N_TASKS, N_FEATURES = 3, 2
KINDS = {
    "squares": (1, squared_error_loss, lambda o, Y: squared_error(o.squeeze(-1), Y)),
    "classes": (3, cross_entropy_loss, categorical_nll),
}


def _rows(n_rows, n_out, generator):
    """Rows and targets; the first task has one row less."""
    X = torch.randn(N_TASKS, n_rows, N_FEATURES, generator=generator).double()
    Y = torch.randn(N_TASKS, n_rows, n_out, generator=generator).double()
    mask = torch.ones(N_TASKS, n_rows, dtype=torch.bool)
    mask[0, -1] = False
    return X, Y.softmax(-1) if n_out > 1 else Y, mask


@pytest.fixture(params=KINDS)
def problem(request):
    """A network, support, query, and their losses in both forms."""
    n_out, known_loss, loss = KINDS[request.param]
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = build_mlp(N_FEATURES, (5, 4), n_out, "tanh").double()
    parts = _rows(6, n_out, generator), _rows(4, n_out, generator)
    return network, *parts, known_loss, loss


def _by_autograd(problem, lr, n_steps, inputs, **options):
    network, support, (X, Y, mask), _, loss = problem
    layers = stackable_layers(network)

    def forward(params, X):
        return stacked_forward(layers, params, X)

    start = stack_parameters(dict(network.named_parameters()), N_TASKS)
    adapted, _ = inner_loop(forward, start, *support, loss, lr, n_steps, **options)
    total = masked_task_mean(loss(forward(adapted, X), Y), mask)
    return torch.autograd.grad(total, inputs)


def _by_formulas(problem, lr, n_steps, **options):
    network, (X, Y, mask), (X_query, Y_query, query_mask), known_loss, _ = problem
    return outer_gradient(
        perceptron_chain(stackable_layers(network)),
        dict(network.named_parameters()),
        *(X, known_loss(Y, mask), lr, n_steps, X_query),
        known_loss(Y_query, query_mask).times(1 / N_TASKS),
        **options,
    )


@pytest.mark.parametrize("n_steps", [0, 1, 3])
@pytest.mark.parametrize("second_order", [True, False])
def test_outer_gradient_equals_autograd(problem, second_order, n_steps):
    # Two derivations, one answer, whatever the order and the number of steps.
    params = dict(problem[0].named_parameters())
    options = {"second_order": second_order}
    ours = _by_formulas(problem, 0.3, n_steps, **options)
    theirs = _by_autograd(problem, 0.3, n_steps, list(params.values()), **options)
    for name, their in zip(params, theirs, strict=True):
        torch.testing.assert_close(
            ours.of_start[name], their, rtol=1e-10, atol=1e-10, msg=name
        )


@pytest.mark.parametrize("second_order", [True, False])
def test_outer_gradient_of_rates_equals_autograd(problem, second_order):
    # Meta-SGD learns them with the start.
    params = dict(problem[0].named_parameters())
    rates = {name: torch.rand_like(p).requires_grad_() for name, p in params.items()}
    options = {"second_order": second_order}
    ours = _by_formulas(problem, rates, 2, **options)
    theirs = _by_autograd(problem, rates, 2, list(rates.values()), **options)
    for name, their in zip(rates, theirs, strict=True):
        torch.testing.assert_close(ours.of_rates[name], their, rtol=1e-10, atol=1e-10)


def test_part_of_a_loss_is_the_loss_of_the_part(problem):
    # Outer steps are taken in parts, which must add up.
    _, (_, Y, mask), _, known_loss, _ = problem
    loss = known_loss(Y, mask, *([Y.sum(1) > 0, Y] if Y.shape[-1] > 1 else []))
    outputs = torch.randn_like(Y)
    part = loss.part(slice(0, 2), 6)
    torch.testing.assert_close(part.per_task(outputs[:2]), loss.per_task(outputs)[:2])
