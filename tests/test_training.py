"""The outer loop: rates, chunks, early stopping and what it leaves behind."""

import math

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from sklearn_meta.episodes import RowEpisodeSampler
from sklearn_meta.exceptions import DeviceWarning, DivergenceWarning
from sklearn_meta.functional import squared_error
from sklearn_meta.training import (
    MAX_CHUNK_STEPS,
    MIN_CHUNKS,
    OuterLoop,
    ValidationEpisodes,
    one_thread,
    resolve_device,
    seeded,
)

CPU = torch.device("cpu")


class Constant(nn.Module):
    """Predict one learned number, and remember the mode of each call."""

    def __init__(self, start=0.0):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(start))
        self.modes = []

    def forward(self, X_support, Y_support, support_mask, X_query):
        self.modes.append(self.training)
        return self.value.expand(X_query.shape[:2])


def sampler_of(target, n_tasks=4):
    """Return episodes whose targets are all the same number."""
    X = torch.zeros(5 * n_tasks, 1)
    return RowEpisodeSampler(X, X + target, np.full(n_tasks, 5), (1, 2), 2)


def loop_of(**settings):
    """Return an outer loop of plain gradient descent with a constant rate."""
    settings = {
        "max_iter": 10,
        "meta_batch_size": 2,
        "lr": 0.1,
        "lr_schedule": "constant",
        "optimizer": torch.optim.SGD,
        "max_grad_norm": None,
    } | settings
    return OuterLoop(criterion=squared_error, **settings)


def run(loop, learner, target=1.0, validation=None, **more):
    """Run a loop with a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    return loop.run(learner, sampler_of(target), validation, generator, **more)


def held_out(target):
    """Return validation episodes with one target."""
    return ValidationEpisodes(sampler_of(target), 8, torch.Generator().manual_seed(1))


# ---------------------------------------------------------------- steps


def test_steps_when_the_loss_is_a_parabola_follow_the_closed_form():
    """value <- value - lr * 2 (value - target), from 0 to 1 in ten steps."""
    learner = Constant()
    record = run(loop_of(), learner)
    left = 0.8 ** np.arange(10)
    np.testing.assert_allclose(record.loss_curve, left**2, rtol=1e-5)
    assert learner.value.item() == pytest.approx(1 - 0.8**10, rel=1e-5)


def test_gradient_when_clipped_has_at_most_that_norm():
    """One wild episode must not throw the weights away."""
    learner = Constant()
    run(loop_of(max_iter=1, lr=1.0, max_grad_norm=0.25), learner, target=1e6)
    assert learner.value.item() == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("max_iter", [1, 7, 12, 60, 601])
def test_loss_curve_has_one_entry_a_step_whatever_the_chunks(max_iter):
    """A last chunk may be short."""
    learner = Constant()
    record = run(loop_of(max_iter=max_iter, lr=1e-3), learner)
    assert len(record.loss_curve) == max_iter == len(learner.modes)
    steps = max(1, min(MAX_CHUNK_STEPS, max_iter // MIN_CHUNKS))
    assert len(record.history) == -(-max_iter // steps)


def test_rate_when_one_cycle_rises_then_falls_to_zero():
    """Over the first tenth, then along a cosine."""
    loop = loop_of(lr=2.0, lr_schedule="one_cycle", max_iter=100)
    rates = np.array([loop.rate(step) for step in range(100)])
    peak = rates.argmax()
    assert 8 <= peak <= 11
    assert (np.diff(rates[:peak]) > 0).all() and (np.diff(rates[peak:]) < 0).all()
    assert 0 < rates[-1] < 0.001 * 2 and rates.max() <= 2
    assert rates[54] == pytest.approx(2 * 0.5 * (1 + math.cos(math.pi * 0.445 / 0.9)))


def test_rate_when_constant_is_lr():
    """As the name says."""
    assert {loop_of().rate(step) for step in range(5)} == {0.1}


def test_optimizer_params_are_handed_on_and_adamw_is_the_default():
    """What is set must be what trains."""
    record = run(loop_of(optimizer_params={"momentum": 0.5}), Constant())
    assert record.optimizer_state["param_groups"][0]["momentum"] == 0.5
    record = run(loop_of(optimizer=None), Constant())
    assert record.optimizer_state["param_groups"][0]["weight_decay"] == 1e-3


def test_optimizer_state_when_given_goes_on():
    """Two runs with momentum are one long run."""
    settings = {"optimizer_params": {"momentum": 0.9}, "lr": 0.01}
    whole, halves = Constant(), Constant()
    run(loop_of(max_iter=10, **settings), whole)
    record = run(loop_of(max_iter=5, **settings), halves)
    state = record.optimizer_state
    run(loop_of(max_iter=5, **settings), halves, optimizer_state=state)
    assert halves.value.item() == pytest.approx(whole.value.item(), rel=1e-5)


# ---------------------------------------------------------------- held-out tasks


def test_validation_when_training_leads_away_gives_the_first_weights_back():
    """Training pulls to 1, the held-out tasks are at 0: the first look was best."""
    learner = Constant()
    record = run(loop_of(max_iter=12), learner, 1.0, held_out(0.0))
    assert record.validation_scores[0] == max(record.validation_scores)
    assert learner.value.item() == pytest.approx(0.2, rel=1e-5)


def test_validation_when_it_does_not_gain_stops_after_patience():
    """Not before two fifths of the steps, since the rate is still high there."""
    loop = loop_of(max_iter=120, n_iter_no_change=2, lr=0.01)
    record = run(loop, Constant(), 1.0, held_out(0.0))
    assert len(record.loss_curve) == 50  # five of twelve chunks of ten steps
    assert len(record.validation_scores) == 5


def test_validation_runs_in_evaluation_mode_and_training_in_training_mode():
    """The guard of the inner loop and dropout depend on it."""
    learner = Constant()
    run(loop_of(max_iter=12), learner, 1.0, held_out(1.0))
    assert learner.modes == [True, False] * 12


def test_validation_score_is_minus_the_mean_loss():
    """Of the value after the chunk, against the held-out target."""
    record = run(loop_of(max_iter=1), Constant(), 1.0, held_out(3.0))
    assert record.validation_scores == pytest.approx([-((3 - 0.2) ** 2)], rel=1e-5)


class TwoNumbers(nn.Module):
    """Predict the sum of two learned numbers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Parameter(torch.zeros(())) for _ in range(2))

    def forward(self, X_support, Y_support, support_mask, X_query):
        return (self.first + self.second).expand(X_query.shape[:2])


class Freeze(Callback):
    """Freeze a weight after the second chunk."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            net.module_.second.requires_grad_(False)


@pytest.mark.parametrize("optimizer", [None, torch.optim.SGD])
def test_weight_that_a_callback_freezes_stays_where_it_is(optimizer):
    """It must not go on along its last gradient."""
    short, long = TwoNumbers(), TwoNumbers()
    run(loop_of(max_iter=2, optimizer=optimizer), short)
    callbacks = [("freeze", Freeze())]
    run(loop_of(max_iter=12, optimizer=optimizer, callbacks=callbacks), long)
    assert long.second == short.second and long.first > 1.5 * short.first


class Fragile(Constant):
    """Factor a matrix that has no factor once the learned number is large."""

    def forward(self, *episode):
        torch.linalg.cholesky((2 - self.value).reshape(1, 1))
        return super().forward(*episode)


@pytest.mark.parametrize("validated", [False, True])
def test_matrix_without_a_factor_is_divergence(validated):
    """It is how numbers that run away show in a Gaussian process."""
    learner = Fragile()
    validation = held_out(1.0) if validated else None
    loop = loop_of(max_iter=12, lr=1.5)
    with pytest.warns(DivergenceWarning, match="diverged within the first 2 steps"):
        run(loop, learner, validation=validation)
    assert learner.value.isfinite()


# ---------------------------------------------------------------- surroundings


def test_seeded_decides_torch_and_gives_the_global_state_back():
    """Nothing global may change."""
    before = torch.random.get_rng_state()
    draws = []
    for seed in (0, 0, 1):
        with seeded(seed, CPU):
            draws.append(torch.rand(3))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_thread_gives_the_number_back_after_an_error():
    """Small products are slower on many threads; the user's own are not."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="inside"), one_thread(CPU):
            assert torch.get_num_threads() == 1
            raise RuntimeError("inside")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_resolve_device_when_it_is_there_returns_it():
    """By name or as an object."""
    assert resolve_device("cpu") == resolve_device(CPU) == CPU
    assert resolve_device("auto").type in ("cpu", "cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_resolve_device_when_it_is_missing_raises_or_warns():
    """To ask for it is an error; to have been saved on it is not."""
    with pytest.raises(ValueError, match="'cuda' is not available .* device='auto'"):
        resolve_device("cuda")
    with pytest.warns(DeviceWarning, match="loaded on the CPU"):
        assert resolve_device("cuda", must_exist=False) == CPU


@pytest.mark.parametrize("device", ["", "gpu0", "cuda:x"])
def test_resolve_device_when_it_is_no_device_says_so(device):
    """torch itself raises a RuntimeError, which no one expects of a parameter."""
    with pytest.raises(ValueError, match=f"'auto', 'cpu' or 'cuda', got '{device}'"):
        resolve_device(device)
