"""The recursion equals the inner loop by autograd, and finite differences."""

import pytest
import torch

from sklearn_meta.functional import (
    adapt_by_recursion,
    adapt_without_graph,
    build_mlp,
    categorical_nll,
    cross_entropy_loss,
    inner_loop,
    perceptron_chain,
    squared_error,
    squared_error_loss,
    stack_parameters,
    stackable_layers,
    stacked_forward,
)

N_TASKS, N_SUPPORT, N_FEATURES, N_STEPS = 3, 6, 2, 3
HIDDEN = [(), (4,), (5, 3, 4)]


@pytest.fixture
def support():
    generator = torch.Generator().manual_seed(0)
    shape = (N_TASKS, N_SUPPORT, N_FEATURES)
    X = torch.randn(*shape, generator=generator, dtype=torch.float64)
    mask = torch.ones(shape[:2], dtype=torch.bool)
    mask[0, 4:] = False
    return X.requires_grad_(), mask


def _problem(kind, X, mask):
    """Targets, the loss for the recursion, and the one for the inner loop."""
    Y = X.detach().sum(-1, keepdim=True).sin()
    if kind == "squares":
        return Y, squared_error_loss(Y, mask), _squares
    Y = torch.cat([Y > 0, Y <= 0], -1).double()
    return Y, cross_entropy_loss(Y, mask), categorical_nll


def _squares(outputs, Y):
    return squared_error(outputs.squeeze(-1), Y)


def _network(kind, hidden, activation="tanh"):
    torch.manual_seed(0)
    n_out = 1 if kind == "squares" else 2
    network = build_mlp(N_FEATURES, hidden, n_out, activation).double()
    return stackable_layers(network), dict(network.named_parameters())


def _by_autograd(layers, params, support, kind, lr, **options):
    X, mask = support
    Y, _, loss = _problem(kind, X, mask)
    return inner_loop(
        lambda params, X: stacked_forward(layers, params, X),
        stack_parameters(params, N_TASKS),
        *(X, Y, mask, loss, lr, N_STEPS),
        **options,
    )


def _by_recursion(layers, params, support, kind, lr, **options):
    X, mask = support
    loss = _problem(kind, X, mask)[1]
    chain = perceptron_chain(layers)
    return adapt_by_recursion(chain, params, X, loss, lr, N_STEPS, **options)


def _gradients(adapted, inputs):
    """Gradients of a function of all that the inner loop ends in."""
    total = sum((value * (1 + value)).sin().sum() for value in adapted.values())
    return torch.autograd.grad(total, inputs, materialize_grads=True)


def _assert_same(ours, theirs, inputs):
    pairs = [(ours[name], theirs[name]) for name in theirs]
    pairs += zip(_gradients(ours, inputs), _gradients(theirs, inputs), strict=True)
    for our, their in pairs:
        torch.testing.assert_close(our, their, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("kind", ["squares", "classes"])
def test_recursion_equals_inner_loop(support, kind, second_order, hidden):
    # Two derivations, one answer, for any depth, the gradient by the rows included.
    layers, params = _network(kind, hidden)
    arguments = (layers, params, support, kind, 0.3)
    ours = _by_recursion(*arguments, second_order=second_order)
    theirs, _ = _by_autograd(*arguments, second_order=second_order)
    _assert_same(ours, theirs, [support[0], *params.values()])


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "logistic", "elu"])
def test_recursion_equals_inner_loop_for_every_activation(support, activation):
    # Each has its own second derivative.
    layers, params = _network("classes", (4, 3), activation)
    arguments = (layers, params, support, "classes", 0.3)
    theirs, _ = _by_autograd(*arguments)
    _assert_same(_by_recursion(*arguments), theirs, [support[0], *params.values()])


@pytest.mark.parametrize("second_order", [True, False])
def test_recursion_with_rates_of_their_own_equals_inner_loop(support, second_order):
    # Meta-SGD: a rate a number, of which one is shared by a whole bias here.
    layers, params = _network("squares", (4,))
    rates = {name: torch.rand_like(p).requires_grad_() for name, p in params.items()}
    rates["0.bias"] = torch.full((1,), 0.2, dtype=torch.float64, requires_grad=True)
    arguments = (layers, params, support, "squares", rates)
    ours = _by_recursion(*arguments, second_order=second_order)
    theirs, _ = _by_autograd(*arguments, second_order=second_order)
    _assert_same(ours, theirs, [*params.values(), *rates.values()])


def test_recursion_from_a_start_of_each_task_equals_inner_loop(support):
    # ProtoMAML's head starts at the task's own prototypes.
    layers, params = _network("classes", (4,))
    own = {
        name: torch.randn(N_TASKS, *p.shape, dtype=p.dtype, requires_grad=True)
        for name, p in params.items()
    }
    X, mask = support
    Y, loss, row_loss = _problem("classes", X, mask)
    chain = perceptron_chain(layers)
    ours = adapt_by_recursion(chain, own, X, loss, 0.3, N_STEPS)
    theirs, _ = inner_loop(
        lambda params, X: stacked_forward(layers, params, X),
        *(own, X, Y, mask, row_loss, 0.3, N_STEPS),
    )
    _assert_same(ours, theirs, [X, *own.values()])


@pytest.mark.parametrize("kind", ["squares", "classes"])
def test_recursion_equals_finite_differences(support, kind):
    # An answer that shares no line with the recursion.
    layers, params = _network(kind, (3,))

    def outer(X, *values):
        start = dict(zip(params, values, strict=True))
        adapted = _by_recursion(layers, start, (X, support[1]), kind, 0.3)
        return tuple(adapted.values())

    # The targets follow the rows, so the rows are held here.
    X = support[0].detach()
    assert torch.autograd.gradcheck(outer, (X, *params.values()))


def test_recursion_with_zero_steps_hands_on_the_start(support):
    # Law 1, with its gradient.
    layers, params = _network("squares", (4,))
    loss = _problem("squares", *support)[1]
    adapted = adapt_by_recursion(
        perceptron_chain(layers), params, support[0], loss, 0.3, 0
    )
    expected = stack_parameters(params, N_TASKS)
    _assert_same(adapted, expected, list(params.values()))


@pytest.mark.parametrize("lr", [0.1, 30.0])
@pytest.mark.parametrize("kind", ["squares", "classes"])
def test_adapt_without_graph_equals_guarded_inner_loop(support, kind, lr):
    # What serves is what was trained, and a diverged task is put back alike.
    layers, params = _network(kind, (4,))
    X, mask = support
    chain, loss = perceptron_chain(layers), _problem(kind, X, mask)[1]
    ours, diverged = adapt_without_graph(
        chain, params, X, loss, lr, N_STEPS, guard=True
    )
    theirs, expected = _by_autograd(layers, params, support, kind, lr, guard=True)
    assert torch.equal(diverged, expected)
    for name, value in ours.items():
        assert not value.requires_grad
        torch.testing.assert_close(value, theirs[name], rtol=1e-10, atol=1e-10)
