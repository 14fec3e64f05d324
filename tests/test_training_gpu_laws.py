"""What an outer step asks of a GPU, checked without one."""

import copy

import numpy as np
import pytest
import torch
from fake_gpu import FakeGPU
from test_learners_common import (
    LEARNERS,
    LOCAL_CLASSIFIERS,
    N_CLASSES,
    N_FEATURES,
    REGRESSORS,
)

from sklearn_meta.episodes import ClassEpisodeSampler, RowEpisodeSampler
from sklearn_meta.functional import (
    categorical_nll,
    gaussian_nll,
    squared_error_with_noise,
)
from sklearn_meta.learners import GradientLearner
from sklearn_meta.training import _graphs, _outer_loop
from sklearn_meta.training._outer_loop import OuterLoop
from sklearn_meta.training._precision import Precision
from sklearn_meta.training._stream import EpisodeStream

N_STEPS, N_EPISODES = 2, 2
# They look at a number once for each chunk of tasks that adapts: to put a task back
# that diverged takes what is not kept otherwise.
LOOK_ONCE = {
    name
    for name, build in LEARNERS.items()
    if type(learner := build()) is GradientLearner and learner.engine != "vmap"
}


@pytest.fixture
def gpu(monkeypatch):
    """Give a fake GPU; torch's automatic precision does not know its name."""

    def precision(learner, device):
        return Precision(learner, torch.device("cpu"))

    monkeypatch.setattr(_outer_loop, "Precision", precision)
    return FakeGPU()


def sampler_for(name):
    """A sampler of ragged tasks for a learner."""
    X = torch.randn(75, N_FEATURES)
    if name in LOCAL_CLASSIFIERS:
        options = {"n_ways": N_CLASSES, "n_shots": (1, 5), "n_queries": 5}
        return ClassEpisodeSampler(X, np.full(5, 15), np.array([5]), **options)
    labels = torch.arange(75) % N_CLASSES
    Y = X[:, :1] if name in REGRESSORS else torch.eye(N_CLASSES)[labels]
    return RowEpisodeSampler(X, Y, np.array([20, 10, 30, 15]), (1, 5), 10)


def _on(gpu, sampler):
    """The sampler with its table on a GPU."""
    sampler = copy.copy(sampler)
    sampler.X = gpu.tensor(sampler.X)
    if hasattr(sampler, "Y"):
        sampler.Y = gpu.tensor(sampler.Y)
    return sampler


def criterion_for(name, learner):
    if name not in REGRESSORS:
        return categorical_nll
    is_maml = isinstance(learner, GradientLearner)
    return squared_error_with_noise if is_maml else gaussian_nll


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in LEARNERS),
        ("maml", {"optimizer": torch.optim.SGD}),
        ("maml", {"max_grad_norm": None}),
    ],
)
def test_outer_step_neither_waits_for_a_gpu_nor_mixes_devices(name, options, gpu):
    learner, sampler = gpu.module(LEARNERS[name]()), sampler_for(name)
    criterion = criterion_for(name, learner)
    loop = OuterLoop(criterion, N_STEPS, N_EPISODES, lr=1e-3, **options)
    generator = torch.Generator().manual_seed(0)
    drawn = sampler.sample(N_STEPS * N_EPISODES, generator)
    rows = type(drawn)(*map(gpu.tensor, drawn))
    stream = EpisodeStream(_on(gpu, sampler), N_STEPS, N_EPISODES, generator)
    with gpu.mode:
        net = loop._build_net(learner, stream, None).initialize()
        net.datasets = stream, None
        net.parameters_ = list(learner.parameters())
        with gpu.watch():
            for episodes, weight in net._shared_episodes(rows):
                loss = net._outer_step(episodes, weight)
    assert loss.device == rows.support.device


class Watched:
    """In place of CUDA graphs: watch the steps that would be recorded."""

    def __init__(self, gpu):
        self.gpu, self.n_captured = gpu, 0

    def warm_up(self, step):
        with self.gpu.watch():
            step()

    def capture(self, step):
        self.n_captured += 1
        return lambda: self.warm_up(step)


@pytest.mark.parametrize("name", ["maml", "kernel", "cnp", "latent", "protomaml"])
def test_step_that_reads_from_memory_neither_waits_nor_mixes_devices(
    name, gpu, monkeypatch
):
    """Neither the number of the step nor its rate is known to Python."""
    graphs, rates, update = Watched(gpu), [], torch._fused_adamw_

    def fused(*tensors, lr, **options):  # there is no fake of it for such a rate
        rates.append(lr)
        update(*tensors, lr=0.0, **options)

    monkeypatch.setattr(torch, "_fused_adamw_", fused)
    monkeypatch.setitem(_graphs.GRAPHS, "meta", lambda device: graphs)
    learner, sampler = gpu.module(LEARNERS[name]()), sampler_for(name)
    how = {"lr": 1e-3, "compile": "cudagraphs"}
    loop = OuterLoop(criterion_for(name, learner), 5, N_EPISODES, **how)
    generator = torch.Generator().manual_seed(0)
    drawn = sampler.sample(5 * N_EPISODES, generator)
    rows = type(drawn)(*map(gpu.tensor, drawn))
    stream = EpisodeStream(_on(gpu, sampler), 5, N_EPISODES, generator)
    with gpu.mode:
        net = loop._build_net(learner, stream, None).initialize()
        net.datasets = stream, None
        net.parameters_ = list(learner.parameters())
        losses = list(net._losses_of(rows))
    found = [number.device for number in (*losses, *rates)]
    assert found == [rows.support.device] * 10
    assert graphs.n_captured == 1


@pytest.mark.parametrize("name", [name for name in LEARNERS if name not in LOOK_ONCE])
def test_serving_neither_waits_for_a_gpu_nor_mixes_devices(name, gpu):
    learner, sampler = gpu.module(LEARNERS[name]()).eval(), _on(gpu, sampler_for(name))
    drawn = sampler_for(name).sample(N_EPISODES, torch.Generator().manual_seed(0))
    rows = type(drawn)(*map(gpu.tensor, drawn))
    with gpu.mode, torch.no_grad(), gpu.watch():
        X, Y, mask, X_query, *_ = sampler.gather(rows)
        prediction = learner.query(learner.adapt(X, Y, mask), X_query)
    parts = [prediction] if torch.is_tensor(prediction) else prediction
    assert all(part.device == X.device for part in parts)


@pytest.mark.parametrize("broken", ["number", "copy", "other device", "factor"])
def test_fake_gpu_refuses_what_makes_a_real_one_wait(broken, gpu):
    steps = {
        "number": lambda x: bool(x.sum() > 0),
        "copy": lambda x: torch.eye(3).to(x.device),
        "other device": lambda x: x @ torch.eye(3),
        "factor": lambda x: torch.linalg.cholesky(x),
    }
    x = gpu.tensor(torch.eye(3))
    with gpu.mode, gpu.watch():
        x + x
        with pytest.raises((RuntimeError, AssertionError)):
            steps[broken](x)
