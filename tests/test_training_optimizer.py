"""The lean optimizer must take the steps of torch's, from the same state."""

import copy
import math
import subprocess
import sys

import pytest
import torch
from small_estimators import regression_tasks, small

from sklearn_meta import MAMLRegressor
from sklearn_meta.functional.compiled_adamw import CompiledAdamW
from sklearn_meta.functional.compiled_library import load_library
from sklearn_meta.training._optimizer import PlainAdamW, clip_gradient

OPTIONS = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.99), "eps": 1e-6}


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def engine(request, monkeypatch):
    """Take every test through both ways to update."""
    if request.param == "torch":
        monkeypatch.setattr(CompiledAdamW, "takes", lambda *parts: False)
    elif load_library() is None:
        pytest.skip("the package was built without a compiler")


@pytest.fixture
def weights():
    """Weights of several shapes, one of which never gets a gradient."""
    torch.manual_seed(0)
    return [
        torch.randn(shape, requires_grad=True) for shape in ((3, 2), (4,), (), (2,))
    ]


def step(optimizer, weights, seed, max_norm):
    """Take a step along gradients that are drawn."""
    generator = torch.Generator().manual_seed(seed)
    for weight in weights[:-1]:
        weight.grad = torch.randn(weight.shape, generator=generator)
    if isinstance(optimizer, PlainAdamW):
        optimizer.clip_and_step(max_norm)
        return
    if max_norm is not None:
        torch.nn.utils.clip_grad_norm_(weights, max_norm)
    optimizer.step()


@pytest.mark.parametrize("max_norm", [None, 0.5, 100.0])
def test_plain_adamw_takes_the_steps_of_torch(weights, max_norm):
    """Clipping is part of the update; a weight without a gradient stays."""
    others = [weight.detach().clone().requires_grad_() for weight in weights]
    plain = PlainAdamW(weights, fused=True, **OPTIONS)
    usual = torch.optim.AdamW(others, **OPTIONS)
    for seed in range(4):
        step(plain, weights, seed, max_norm)
        step(usual, others, seed, max_norm)
    for weight, other in zip(weights, others, strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-5, atol=1e-6)


def test_plain_adamw_when_torch_goes_on_from_its_state_takes_the_same_step(weights):
    """A checkpoint and a warm start may meet either."""
    plain = PlainAdamW(weights, fused=True, **OPTIONS)
    step(plain, weights, 0, None)
    others = [weight.detach().clone().requires_grad_() for weight in weights]
    usual = torch.optim.AdamW(others, **OPTIONS)
    usual.load_state_dict(copy.deepcopy(plain.state_dict()))
    step(plain, weights, 1, None)
    step(usual, others, 1, None)
    for weight, other in zip(weights, others, strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-5, atol=1e-6)


def test_plain_adamw_when_a_weight_comes_or_goes_counts_its_own_steps(weights):
    """Counts lie side by side, and each is a weight's own all the same."""
    plain = PlainAdamW(weights, fused=True, **OPTIONS)
    for learned in ([0, 1], [0, 1, 3], [1, 3], [0, 1]):
        for i, weight in enumerate(weights):
            weight.grad = torch.ones_like(weight) if i in learned else None
        plain.clip_and_step(None)
    counts = [int(plain.state[weights[i]]["step"]) for i in (0, 1, 3)]
    assert counts == [3, 4, 2]


def test_plain_adamw_when_a_state_is_loaded_goes_on_from_it(weights):
    """What is remembered from step to step must not outlive the state."""
    plain = PlainAdamW(weights, fused=True, **OPTIONS)
    step(plain, weights, 0, 1.0)
    state = copy.deepcopy(plain.state_dict())
    before = [weight.detach().clone() for weight in weights]
    found = []
    for _ in range(2):
        step(plain, weights, 1, 1.0)
        found.append([weight.detach().clone() for weight in weights])
        plain.load_state_dict(state)
        for weight, value in zip(weights, before, strict=True):
            weight.data.copy_(value)
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_plain_adamw_when_there_is_no_gradient_takes_no_step(weights):
    """Nothing learned is nothing to clip."""
    before = [weight.detach().clone() for weight in weights]
    PlainAdamW(weights, fused=True, **OPTIONS).clip_and_step(1.0)
    torch.testing.assert_close([weight.detach() for weight in weights], before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plain_adamw_when_rates_differ_clips_all_gradients_as_one(dtype):
    """A group of weights has its own rate; the gradient is that of all groups."""
    torch.manual_seed(0)
    weights = [torch.randn(40, 3, dtype=dtype), torch.randn(17, 2, dtype=dtype)]
    others = [weight.clone() for weight in weights]
    rates = [{"lr": 0.1}, {"lr": 0.02}]
    plain, usual = (
        kind([rate | {"params": p.requires_grad_()} for p, rate in pairs], fused=fused)
        for kind, pairs, fused in (
            (PlainAdamW, zip(weights, rates, strict=True), True),
            (torch.optim.AdamW, zip(others, rates, strict=True), False),
        )
    )
    for number in (1.0, 2.0, -3.0):
        for weight, other in zip(weights, others, strict=True):
            gradient = torch.randn(weight.T.shape, dtype=dtype) + number
            weight.grad, other.grad = gradient.T, gradient.T.clone()  # one with gaps
        plain.clip_and_step(0.7)
        torch.nn.utils.clip_grad_norm_(others, 0.7)
        usual.step()
    for weight, other in zip(weights, others, strict=True):
        # torch adds 1e-6 to the norm
        torch.testing.assert_close(weight, other, rtol=1e-5, atol=1e-6)


def test_plain_adamw_when_a_weight_has_new_memory_updates_it_there(weights):
    """A user's callback may put other numbers into a parameter."""
    plain = PlainAdamW(weights, fused=True, **OPTIONS)
    step(plain, weights, 0, 1.0)
    for weight in weights:
        weight.data = weight.data.clone()
    before = weights[0].detach().clone()
    step(plain, weights, 1, 1.0)
    assert not torch.equal(weights[0], before)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_plain_adamw_when_a_gradient_is_not_finite_shows_it(weights, number):
    """The outer loop looks at the weights to see that a run has diverged."""
    plain = PlainAdamW(weights, fused=True, **OPTIONS)
    for weight in weights:
        weight.grad = torch.full_like(weight, number)
    plain.clip_and_step(1.0)
    assert all(weight.isnan().all() for weight in weights)


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_gradient_is_as_of_torch(weights, max_norm):
    """The same norm, in fewer operations."""
    for weight in weights[:-1]:
        weight.grad = torch.randn(weight.shape)
    expected = [weight.detach().clone() for weight in weights]
    for weight, other in zip(weights, expected, strict=True):
        other.grad = None if weight.grad is None else weight.grad.clone()
    torch.nn.utils.clip_grad_norm_(expected, max_norm)
    clip_gradient(weights, max_norm)
    for weight, other in zip(weights[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(weight.grad, other.grad)


@pytest.mark.parametrize(
    "params", [{"optimizer": torch.optim.AdamW}, {"optimizer_params": {"fused": False}}]
)
def test_fit_when_the_optimizer_is_torchs_learns_the_same(params):
    """The default is torch's AdamW with a weight decay, whoever computes it."""
    tasks = regression_tasks()
    if "optimizer" in params:
        params["optimizer_params"] = {"weight_decay": 1e-3}
    (X, y), *_ = tasks
    found = [
        small(MAMLRegressor, **options).fit(tasks).adapt(X, y).predict(X)
        for options in ({}, params)
    ]
    torch.testing.assert_close(*map(torch.as_tensor, found), rtol=1e-3, atol=1e-4)


def test_fit_leaves_the_compiler_of_torch_alone():
    """Its import takes longer than many fits; only a fresh process can tell."""
    code = (
        "import sys, sklearn_meta as sm;"
        "from sklearn_meta.datasets import make_sinusoid_tasks;"
        "tasks = make_sinusoid_tasks(8, n_samples=12, random_state=0);"
        "sm.DeepKernelRegressor(max_iter=2).fit(tasks);"
        "sm.MAMLRegressor(max_iter=2).fit(tasks);"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
