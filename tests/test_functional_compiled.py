"""The formulas in C give what those in torch give."""

import math
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sklearn_meta.functional import (
    InnerLoss,
    build_mlp,
    compiled_call,
    cross_entropy_loss,
    perceptron_chain,
    squared_error_loss,
    stackable_layers,
    zero_padding,
)
from sklearn_meta.functional.compiled import compiled_adapt_rows
from sklearn_meta.functional.compiled_call import has_kernel
from sklearn_meta.functional.compiled_library import load_library
from sklearn_meta.functional.derivatives import activation_of
from sklearn_meta.functional.formulas import FORMULAS
from sklearn_meta.functional.perceptron import Chain

needs_library = pytest.mark.skipif(
    load_library() is None, reason="the package was built without a compiler"
)
ACTIVATIONS = ("relu", "tanh", "logistic", "silu", "gelu", "elu")
COMPILED, RECURSION = FORMULAS["compiled"], FORMULAS["recursion"]
N_TASKS = 3


class Problem(NamedTuple):
    """Everything that an outer gradient depends on."""

    chain: Chain
    params: dict[str, torch.Tensor]
    X: torch.Tensor
    loss: InnerLoss
    lr: float | dict[str, float | torch.Tensor]
    X_query: torch.Tensor
    outer: InnerLoss

    def outer_gradient(self, formulas, n_steps, **options):
        return formulas.outer_gradient(*self[:5], n_steps, *self[5:], **options)


def make_problem(sizes=(2, 4, 3, 1), kind="squares", activation="tanh", rates=False):
    """Return ragged tasks of an odd number of rows, in float64."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def rows(n_rows):
        mask = torch.rand(N_TASKS, n_rows, generator=generator) < 0.8
        X, Y = (draw(N_TASKS, n_rows, size) for size in (sizes[0], sizes[-1]))
        if kind == "squares":
            return X, squared_error_loss(Y, mask)
        present = torch.ones(N_TASKS, sizes[-1], dtype=torch.bool)
        present[0, 0] = len(present[0]) == 1
        return X, cross_entropy_loss(Y.softmax(-1), mask, present, draw(*Y.shape))

    torch.manual_seed(0)
    network = build_mlp(sizes[0], sizes[1:-1], sizes[-1], activation).double()
    params = dict(network.named_parameters())
    chain, lr = perceptron_chain(stackable_layers(network)), 0.1
    if rates:
        lr = {name: 0.1 * draw(*p.shape).exp() for name, p in params.items()}
        lr[f"{chain[0][0]}.bias"] = torch.full((1,), 0.1, dtype=torch.float64)
        lr[f"{chain[-1][0]}.weight"] = 0.2
    return Problem(chain, params, *rows(7), lr, *rows(101))


def with_own_start(problem):
    """Return a problem in which every task starts elsewhere."""
    generator = torch.Generator().manual_seed(1)
    own = {
        name: p + 0.1 * torch.randn(N_TASKS, *p.shape, generator=generator).to(p)
        for name, p in problem.params.items()
    }
    return problem._replace(params=own)


def assert_same(ours, theirs, tolerance=1e-10):
    """Compare results of any structure."""
    if isinstance(theirs, Mapping):
        assert ours.keys() == theirs.keys()
        ours, theirs = [ours[name] for name in theirs], theirs.values()
    if isinstance(theirs, torch.Tensor):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
        return
    for our, their in zip(ours, theirs, strict=True):
        assert_same(our, their, tolerance)


def adapted_and_gradients(formulas, problem, n_steps, **options):
    """Return adapted parameters, and the gradient of a function of them."""
    X = problem.X.clone().requires_grad_()
    params = {n: p.detach().requires_grad_() for n, p in problem.params.items()}
    lr = problem.lr
    if isinstance(lr, Mapping):
        lr = {n: torch.as_tensor(r).requires_grad_() for n, r in lr.items()}
    rates = lr.values() if isinstance(lr, Mapping) else ()
    adapted = formulas.adapt(
        problem.chain, params, X, problem.loss, lr, n_steps, **options
    )
    total = sum((value * (1 + value)).sin().sum() for value in adapted.values())
    inputs = [X, *params.values(), *rates]
    return adapted, torch.autograd.grad(total, inputs, materialize_grads=True)


@needs_library
@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 19), min_size=2, max_size=5),
    kind=st.sampled_from(["squares", "classes"]),
    activation=st.sampled_from(ACTIVATIONS),
    rates=st.booleans(),
    second_order=st.booleans(),
    n_steps=st.integers(0, 5),
)
def test_outer_gradient_equals_the_recursion(
    sizes, kind, activation, rates, second_order, n_steps
):
    # One derivation, two programs, whatever the depth, the widths and the options.
    problem = make_problem(tuple(sizes), kind, activation, rates)
    ours, theirs = (
        problem.outer_gradient(formulas, n_steps, second_order=second_order)
        for formulas in (COMPILED, RECURSION)
    )
    assert_same(ours, theirs)


@needs_library
@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("rates", [True, False])
@pytest.mark.parametrize("kind", ["squares", "classes"])
@pytest.mark.parametrize("is_own", [True, False])
def test_adapt_equals_the_recursion(kind, rates, second_order, is_own):
    # With the gradients by start, rates and rows that ProtoMAML and ANIL ask for.
    problem = make_problem((3, 5, 2), kind, rates=rates)
    problem = with_own_start(problem) if is_own else problem
    ours, theirs = (
        adapted_and_gradients(formulas, problem, 3, second_order=second_order)
        for formulas in (COMPILED, RECURSION)
    )
    assert_same(ours, theirs)


@needs_library
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["squares", "classes"])
def test_adapt_equals_finite_differences(kind, activation):
    # An answer that shares no line with the formulas.
    problem = make_problem((2, 3, 2), kind, activation)
    params = {n: p.detach().requires_grad_() for n, p in problem.params.items()}

    def outer(X, *values):
        start = dict(zip(params, values, strict=True))
        adapted = COMPILED.adapt(problem.chain, start, X, problem.loss, 0.3, 2)
        return tuple(adapted.values())

    X = problem.X.clone().requires_grad_()
    assert torch.autograd.gradcheck(outer, (X, *params.values()))


@needs_library
@pytest.mark.parametrize("n_steps", [0, 1, 4])
@pytest.mark.parametrize("lr", [0.1, 30.0, 1e300])
def test_adapt_without_graph_equals_the_recursion(n_steps, lr):
    # What serves is what was trained, and a diverged task is put back alike.
    problem = make_problem((2, 5, 3), "classes", "relu")
    arguments = *problem[:4], lr, n_steps
    ours = COMPILED.adapt_without_graph(*arguments, guard=True)
    theirs = RECURSION.adapt_without_graph(*arguments, guard=True)
    assert_same(ours, theirs)
    assert bool(ours[1].any()) == (lr > 1 and n_steps > 0)


@needs_library
@pytest.mark.parametrize("kind", ["classes", "squares"])
def test_adapt_rows_when_padding_holds_anything_equals_the_recursion(kind):
    # The mask alone tells which rows a task has.
    chain, params, X, loss, *_ = make_problem((2, 5, 3), kind)
    loss = loss._replace(present=None, offset=None)
    mask = loss.weight[..., 0] > 0
    expected = RECURSION.adapt_without_graph(chain, params, X, loss, 0.1, 3, guard=True)
    padded = [torch.where(mask[..., None], part, math.nan) for part in (X, loss.Y)]
    assert not mask.all()
    *found, present = compiled_adapt_rows(
        chain, params, (*padded, mask), 0.1, 3, has_classes=loss.has_classes
    )
    assert_same(found, expected)
    assert torch.equal(present, (zero_padding(loss.Y, mask) != 0).any(1))


@needs_library
@pytest.mark.parametrize("is_own", [True, False])
def test_outputs_equal_those_of_the_recursion(is_own):
    # A prediction is a pass forwards, of tasks with weights of their own or not.
    problem = make_problem((2, 5, 3), "classes")
    if is_own:
        problem = with_own_start(problem)
    arguments = problem.chain, problem.params, problem.X_query
    with torch.no_grad():
        assert_same(COMPILED.run(*arguments), RECURSION.run(*arguments))


@needs_library
def test_outputs_that_are_differentiated_have_a_graph():
    # The program in C gives none.
    problem = make_problem((2, 5, 3), "classes")
    X = problem.X.clone().requires_grad_()
    outputs = COMPILED.run(problem.chain, with_own_start(problem).params, X)
    assert torch.autograd.grad(outputs.sum(), X)[0].abs().max() > 0


@needs_library
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e300])
def test_padding_may_hold_anything(junk):
    # Rows of no weight are not even read.
    problem = make_problem((2, 5, 3), "classes")
    padding = problem.loss.weight == 0
    assert padding.any()
    dirty = problem._replace(
        X=problem.X.masked_fill(padding, junk),
        loss=problem.loss._replace(Y=problem.loss.Y.masked_fill(padding, junk)),
    )
    ours, theirs = (p.outer_gradient(COMPILED, 3) for p in (dirty, problem))
    assert_same(ours, theirs, tolerance=0)


@needs_library
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e200])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_numbers_out_of_bounds_stay_so(activation, bad):
    # Guards look for what is not finite: it must not be lost on the way.
    problem = make_problem((2, 5, 1), activation=activation)
    row = (problem.loss.weight[1] > 0).nonzero()[0, 0]
    problem.X[1, row] = bad
    problem.loss.Y[1, row] = bad
    ours, theirs = (
        f.adapt_without_graph(*problem[:4], 0.1, 3) for f in (COMPILED, RECURSION)
    )
    for name, their in theirs[0].items():
        assert torch.equal(ours[0][name].isfinite(), their.isfinite())


@needs_library
@pytest.mark.parametrize("kind", ["squares", "classes"])
def test_outer_gradient_in_float32_is_close(kind):
    # As close as single precision is.
    problem = make_problem((5, 33, 20, 3), kind)

    def single(value):
        return value.float() if value.is_floating_point() else value

    def single_loss(loss):
        parts = (single(v) if isinstance(v, torch.Tensor) else v for v in loss)
        return InnerLoss(*parts)

    rough = Problem(
        problem.chain,
        {name: single(p) for name, p in problem.params.items()},
        single(problem.X),
        single_loss(problem.loss),
        problem.lr,
        single(problem.X_query),
        single_loss(problem.outer),
    ).outer_gradient(COMPILED, 5)
    exact = problem.outer_gradient(RECURSION, 5)
    for name, value in exact.of_start.items():
        torch.testing.assert_close(
            rough.of_start[name].double(), value, rtol=1e-4, atol=1e-6
        )


@needs_library
@pytest.mark.parametrize("sizes", [(3, 40, 5), (20, 64, 64, 5), (17, 9, 33, 1)])
def test_every_set_of_instructions_gives_the_same(sizes, monkeypatch):
    # Another machine takes another one.
    library = load_library()
    problem, found = make_problem(sizes, "classes"), []
    for number in range(library.widest_instructions() + 1):
        monkeypatch.setattr(
            library, "widest_instructions", lambda number=number: number
        )
        found.append(problem.outer_gradient(COMPILED, 3))
    for other in found[1:]:
        assert_same(other, found[0])


@needs_library
def test_threads_at_once_give_what_one_gives():
    # The lock is released, and nothing is kept between calls.
    problem = make_problem((20, 64, 64, 5), "classes")
    expected = problem.outer_gradient(COMPILED, 5)
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(problem.outer_gradient, COMPILED, 5) for _ in range(16)]
    for run in runs:
        assert_same(run.result(), expected, tolerance=0)


@needs_library
def test_types_that_do_not_fit_are_refused():
    # Their bytes would be read as other numbers.
    problem = make_problem()
    arguments = problem.chain, problem.params, problem.X.float()
    with torch.no_grad(), pytest.raises(TypeError, match="of one type; got torch.fl"):
        COMPILED.run(*arguments)


@needs_library
def test_shapes_that_do_not_fit_are_refused():
    # Memory beyond their end would be read.
    problem = make_problem()
    short = problem._replace(X_query=problem.X_query[:, :, :1])
    with pytest.raises(ValueError, match=r"of shape \(3, 101, 2\); got \(3, 101, 1\)"):
        short.outer_gradient(COMPILED, 2)


def test_kernel_of_too_many_layers_or_an_unknown_activation_is_none(monkeypatch):
    # The recursion has no such bounds.
    deep = build_mlp(1, (2,) * 20, 1)
    assert not has_kernel(perceptron_chain(stackable_layers(deep)))
    tanh = activation_of(nn.Tanh())
    monkeypatch.delitem(compiled_call.NUMBERS_OF_ACTIVATIONS, tanh)
    assert not has_kernel(perceptron_chain([("0", nn.Linear(1, 1)), ("1", nn.Tanh())]))


def test_engine_without_the_library_is_the_recursion():
    # It falls back for all to see, here because it is switched off.
    code = (
        "from sklearn_meta.functional import build_mlp\n"
        "from sklearn_meta.learners import GradientLearner\n"
        "print(GradientLearner(build_mlp(1, (2,), 1)).engine)"
    )
    environment = {**os.environ, "SKLEARN_META_COMPILED": "0"}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.stdout == "recursion\n", found.stderr
