"""Outer steps that a GPU repeats: the same fits as step by step, to the last bit.

Without a GPU its graphs are emulated, see `graph_emulator`.
"""

import contextlib
import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from graph_emulator import EmulatedGraphs
from small_estimators import TRAINED_ESTIMATORS, small, tasks_for
from test_checkpoint import TASKS, assert_same_fit, interrupt, regressor
from test_learners_common import LEARNERS
from test_training import Constant, Freeze, TwoNumbers, held_out, sampler_of
from test_training_gpu_laws import criterion_for, sampler_for

from sklearn_meta.exceptions import DeviceWarning, DivergenceWarning
from sklearn_meta.functional import squared_error
from sklearn_meta.functional.at_hand import is_at_hand
from sklearn_meta.learners.steady import steady_from
from sklearn_meta.training import OuterLoop, _graphs, _stream
from sklearn_meta.training._graphs import WARM_UP_STEPS, CUDAGraphs

N_STEPS = 7  # in chunks of 2, 2, 2 and 1


@pytest.fixture
def graphs(monkeypatch):
    """Emulate a GPU with graphs on the CPU; return those that fits have opened."""
    opened = []

    def open_one(device):
        opened.append(EmulatedGraphs(device))
        return opened[-1]

    monkeypatch.setitem(_graphs.GRAPHS, "cpu", open_one)
    # nothing looks at numbers, and nothing is computed in C
    monkeypatch.setattr(is_at_hand, "__code__", (lambda values: False).__code__)
    # few steps make several chunks
    monkeypatch.setattr(_stream, "MIN_CHUNKS", 3)
    exact = OuterLoop.rate
    # the rate of a graph is in single precision
    rounded = lambda self, step: float(np.float32(exact(self, step)))  # noqa: E731
    monkeypatch.setattr(OuterLoop, "rate", rounded)
    return opened


def train(learner, compile, sampler=None, validation=None, how=(), **settings):
    """Train a learner in a few steps; return the record and the weights."""
    settings = {"max_iter": N_STEPS, "lr": 1e-2} | settings
    settings = {"criterion": squared_error} | settings
    loop = OuterLoop(meta_batch_size=2, compile=compile, **settings)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    sampler = sampler or sampler_of(1.0)
    record = loop.run(learner, sampler, validation, generator, *how)
    return record, [p.detach().clone() for p in learner.parameters()]


def assert_same_training(first, second):
    """Check that two runs are alike, to the last bit."""
    (record, weights), (other, others) = first, second
    assert record.loss_curve == other.loss_curve
    assert record.validation_scores == other.validation_scores
    assert all(map(torch.equal, weights, others))
    rates = [r.optimizer_state["param_groups"][0]["lr"] for r in (record, other)]
    assert rates[0] == rates[1] and type(rates[0]) is float


def both(build, **how):
    """Train step by step and by a graph; return both."""
    return [train(build(), compile, **how) for compile in (False, "cudagraphs")]


# ---------------------------------------------------------------- the same as eager


@pytest.mark.parametrize("name", LEARNERS)
def test_learner_whose_steps_are_repeated_learns_the_same(name, graphs):
    """Each family has its own ways to leave something behind in Python."""

    def train_one(compile):
        torch.manual_seed(1)
        learner = LEARNERS[name]()
        criterion = criterion_for(name, learner)
        torch.manual_seed(2)
        return train(learner, compile, sampler_for(name), criterion=criterion)

    assert_same_training(train_one(False), train_one("cudagraphs"))
    assert (graphs[0].n_warm, graphs[0].n_captured) == (WARM_UP_STEPS, 1)
    assert graphs[0].n_replayed == N_STEPS - WARM_UP_STEPS


@pytest.mark.parametrize("estimator_class", TRAINED_ESTIMATORS)
def test_estimator_whose_steps_are_repeated_is_the_same(estimator_class, graphs):
    """Validation and early stopping lie between the chunks."""
    params = {"max_iter": N_STEPS, "early_stopping": True, "n_iter_no_change": 1}
    model = small(estimator_class, **params)
    tasks = tasks_for(model, n_tasks=10)
    eager = small(estimator_class, **params).fit(tasks)
    assert_same_fit(model.set_params(compile="cudagraphs").fit(tasks), eager)
    assert graphs[-1].n_replayed == model.n_iter_ - WARM_UP_STEPS > 0


def test_run_in_bfloat16_by_a_graph_is_the_same(graphs):
    """Weights are cast in every step: kept copies would be those of the recording."""

    def train_one(compile):
        torch.manual_seed(1)
        criterion = criterion_for("cnp", learner := LEARNERS["cnp"]())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return train(learner, compile, sampler_for("cnp"), criterion=criterion)

    assert_same_training(train_one(False), train_one("cudagraphs"))


def test_run_that_stops_early_by_a_graph_stops_at_the_same_step(graphs):
    """Training pulls to 1, the held-out tasks are at 0."""
    how = {"max_iter": 40, "n_iter_no_change": 1, "lr_schedule": "constant"}
    first, second = both(Constant, validation=held_out(0.0), **how)
    assert_same_training(first, second)
    assert 3 < len(second[0].loss_curve) < 40


def test_fit_by_a_graph_when_interrupted_and_started_again_is_the_same(
    graphs, tmp_path
):
    """A step is recorded anew, from the weights and moments of the checkpoint."""
    plain = regressor().fit(TASKS)
    interrupt(tmp_path, epoch=1, compile="cudagraphs")
    model = regressor(compile="cudagraphs", checkpoint=tmp_path).fit(TASKS)
    assert_same_fit(model, plain)
    assert [each.n_captured for each in graphs] == [1, 1]


def test_fit_by_a_graph_goes_on_from_the_last_one_as_without(graphs):
    """Moments and counts of steps are those of the optimizer, wherever it ran."""
    models = [regressor(warm_start=True, compile=c) for c in (False, "cudagraphs")]
    first, second = (model.fit(TASKS).fit(TASKS) for model in models)
    assert_same_fit(first, second)


def test_chunk_that_is_interrupted_by_a_graph_counts_as_far_as_it_came(
    graphs, monkeypatch
):
    """What was repeated until then is in the weights, and so in the losses."""
    whole, _ = train(Constant(), False)
    replay = EmulatedGraphs.capture

    def capture(self, step):
        take = replay(self, step)

        def interrupted():
            if self.n_replayed == 2:
                raise KeyboardInterrupt
            take()

        return interrupted

    monkeypatch.setattr(EmulatedGraphs, "capture", capture)
    record, _ = train(Constant(), "cudagraphs")
    assert record.interrupted
    assert record.loss_curve == whole.loss_curve[: WARM_UP_STEPS + 2]


def test_divergence_in_a_graph_gives_the_sound_weights_back(graphs):
    """Weights are put back in place, where a graph finds them too."""
    how = {"lr": 1e25, "lr_schedule": "constant", "max_iter": 40}
    with pytest.warns(DivergenceWarning, match="within the first 13 steps"):
        (record, weights), (other, others) = both(Constant, **how)
    np.testing.assert_array_equal(record.loss_curve, other.loss_curve)
    assert torch.equal(*weights, *others) and weights[0].isfinite()
    assert graphs[0].n_replayed == 13 - WARM_UP_STEPS


def test_weight_that_a_callback_freezes_is_frozen_in_a_graph(graphs):
    """What was recorded before would go on to move it."""
    how = {"max_iter": 24, "callbacks": [("freeze", Freeze())]}
    first, second = both(TwoNumbers, **how)
    assert_same_training(first, second)
    assert graphs[0].n_captured == 2 and graphs[0].n_warm == 2 * WARM_UP_STEPS


# ---------------------------------------------------------------- steps that change


def annealed(steady=None):
    """A learner whose loss Python scales by the steps that are done, up to 0.6."""

    def training_loss(self, *episodes, criterion, progress=0.0):
        prediction = self(*episodes[:4])
        return (1 + min(progress, 0.6)) * criterion(prediction, episodes[4]).mean()

    if steady is not None:
        training_loss = steady_from(steady)(training_loss)
    return type("Annealed", (Constant,), {"training_loss": training_loss})()


def test_loss_that_changes_at_first_is_recorded_once_it_is_steady(graphs):
    """MAML++ is of this kind."""
    assert_same_training(*both(lambda: annealed(steady=0.6)))
    assert graphs[0].n_replayed == 2  # of steps 5 and 6 of 0 to 6


def test_loss_that_is_recorded_too_early_is_another_one(graphs):
    """The emulator repeats the numbers of Python, as a GPU does."""
    (first, _), (second, _) = both(lambda: annealed(steady=0.0))
    same = np.equal(first.loss_curve, second.loss_curve)
    assert same.tolist() == [True] * (WARM_UP_STEPS + 1) + [False] * 3


class Looking(Constant):
    """Look at a number, for which a GPU has to be waited for."""

    def forward(self, *episode):
        prediction = super().forward(*episode)
        return -prediction if bool((prediction > 1e9).any()) else prediction


def test_step_that_cannot_be_recorded_is_taken_with_a_warning(graphs):
    """The failed recording leaves nothing behind."""
    first = train(Looking(), False)
    message = "goes on without: a step cannot be recorded: _local_scalar_dense is not"
    with pytest.warns(DeviceWarning, match=message):
        second = train(Looking(), "cudagraphs")
    assert_same_training(first, second)
    assert graphs[0].n_warm == N_STEPS


# ---------------------------------------------------------------- no graphs at all


class Alone:
    """The only one of several processes."""

    is_main = True

    def share(self, rows):
        return rows, torch.tensor(1.0)

    def sum_step(self, loss, parameters):
        return loss


OBSTACLES = {
    "several processes": (Constant, {"how": (None, None, Alone())}),
    "larger than memory": (
        Constant,
        {"how": (None, None, None, lambda number: sampler_of(1.0))},
    ),
    "SGD may count .* Leave optimizer": (Constant, {"optimizer": torch.optim.SGD}),
    "AdamW may count": (Constant, {"optimizer_params": {"amsgrad": True}}),
    "training_loss of Annealed .* Mark it with": (annealed, {}),
}


@pytest.mark.parametrize("reason", OBSTACLES)
def test_fit_that_cannot_have_a_graph_says_why_and_goes_on(reason, graphs):
    """Nobody waits for a speed that does not come."""
    build, how = OBSTACLES[reason]
    first = train(build(), False, **how)
    with pytest.warns(DeviceWarning, match=f"'cudagraphs' is not used.*{reason}"):
        second = train(build(), "cudagraphs", **how)
    assert_same_training(first, second)
    assert graphs == []


def test_fit_on_the_cpu_says_that_there_are_no_graphs():
    """It is the device that most fits run on."""
    plain = regressor().fit(TASKS)
    with pytest.warns(DeviceWarning, match="needs an NVIDIA GPU, .* device is 'cpu'"):
        model = regressor(compile="cudagraphs", device="cpu").fit(TASKS)
    assert_same_fit(model, plain)


@pytest.mark.parametrize("value", [True, "inductor", None])
def test_compile_of_a_learner_with_steps_of_its_own_is_false_or_graphs(value):
    """`torch.compile` has no forward pass of it to compile."""
    with pytest.raises(ValueError, match="'compile' parameter of MAMLRegressor"):
        regressor(compile=value).fit(TASKS)


# ---------------------------------------------------------------- a real one


class Stream:
    """A stream of torch, which notes who waits for whom."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")


def test_steps_lie_between_the_work_before_and_after_them(monkeypatch):
    """On another stream than all else, where one of them can be recorded."""
    log = []

    @contextlib.contextmanager
    def record(graph, stream):
        log.append(f"record on {stream.name}")
        yield

    inspect.signature(torch.cuda.graph).bind(None, stream=None)  # as it is called
    fakes = {
        "Stream": lambda device: Stream("side", log),
        "current_stream": lambda device: Stream("main", log),
        "stream": contextlib.nullcontext,
        "device": contextlib.nullcontext,
        "CUDAGraph": lambda: SimpleNamespace(replay="replay"),
        "graph": record,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    graphs = CUDAGraphs(torch.device("cuda"))
    graphs.warm_up(lambda: log.append("step"))
    assert graphs.capture(lambda: log.append("step")) == "replay"
    warm = ["side waits for main", "step", "main waits for side"]
    assert log == [*warm, "record on side", "step"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["maml", "prototypes_euclidean", "cnp", "kernel"])
def test_gpu_that_repeats_steps_learns_the_same(name):
    """Only its own roundings differ; a warning that it cannot would be an error."""

    def train_one(compile):
        torch.manual_seed(1)
        learner, sampler = LEARNERS[name]().cuda(), sampler_for(name)
        sampler.X = sampler.X.cuda()
        if hasattr(sampler, "Y"):
            sampler.Y = sampler.Y.cuda()
        how = {"max_iter": 60, "criterion": criterion_for(name, learner)}
        return train(learner, compile, sampler, **how)

    (first, weights), (second, others) = map(train_one, (False, "cudagraphs"))
    np.testing.assert_allclose(second.loss_curve, first.loss_curve, rtol=1e-3)
    for weight, other in zip(weights, others, strict=True):
        torch.testing.assert_close(other, weight, rtol=1e-3, atol=1e-4)
