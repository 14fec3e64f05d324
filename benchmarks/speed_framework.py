"""The table of `speed.py` about what a step takes beyond its mathematics."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from skorch import NeuralNetClassifier
from speed_timing import cpu_seconds, in_turns
from speed_workloads import WORKLOADS, Fit, build_model, draw_tasks
from torch.nn import functional as F

from sklearn_meta.functional import build_mlp

# of the stock loop: batches of a pass over the rows, and rows of a batch
N_BATCHES, BATCH_SIZE = 100, 128


def framework_rows(args):
    """Return what an outer step takes, measured in a process of its own.

    The collector of garbage walks through what peers have imported, at our steps too.
    """
    script = str(Path(__file__).with_name("speed.py"))
    command = [sys.executable, script, "--framework", "--only", *args.only]
    for name in ("rounds", "steps", "seed"):
        command += [f"--{name}", str(getattr(args, name))]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


def measure(args):
    """Yield what an outer step takes beyond its mathematics."""
    for name in args.only:
        workload, times = WORKLOADS[name], []
        tasks = draw_tasks(workload, args.seed)
        fits = [Null(build_model(name, workload), tasks, n) for n in (args.steps, 1)]
        rows = BareRows(workload, tasks, args.seed)
        for fit in fits:
            fit.run()
        for _ in range(2 * args.rounds):
            step, start = (cpu_seconds(fit.run) / fit.n_steps for fit in fits)
            update, look_up = fits[0].update_seconds(), rows.seconds()
            times.append([step, update, look_up, step - update - look_up, start])
        yield [name, *(f"{1e3 * t:.3f}" for t in np.median(times, axis=0))]
    stock = stock_seconds(2 * args.rounds)
    yield ["stock skorch", "", "", "", f"{1e3 * stock:.3f}", ""]


class Null(Fit):
    """The same without mathematics: loss and gradient are known beforehand."""

    def __init__(self, model, tasks, n_steps):
        super().__init__(model, tasks, n_steps)
        self.build = model._build_learner
        model._build_learner = self._build_null

    def _build_null(self, *shape):
        """Return the learner of the estimator, which knows its loss."""
        learner = self.build(*shape)
        bases = (KnownLoss, type(learner))
        learner.__class__ = type("NullLearner", bases, {})
        return learner

    def update_seconds(self, n_steps=200):
        """Return the CPU time of an update of the weights by AdamW."""
        weights = [p.detach().float() for p in self.model.learner_.parameters()]
        moments = [[torch.zeros_like(w) for w in weights] for _ in range(3)]
        counts = [torch.ones(()) for _ in weights]
        options = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 1e-3}
        options |= {"eps": 1e-8, "amsgrad": False, "maximize": False}
        start = time.process_time()
        for _ in range(n_steps):
            torch._fused_adamw_(weights, *moments, [], counts, **options)
        return (time.process_time() - start) / n_steps


class BareRows:
    """Looks up the rows and targets of outer steps whose row numbers are given."""

    n_steps = 200

    def __init__(self, workload, tasks, seed):
        rng = np.random.default_rng(seed)
        sizes = np.array([len(y) for _, y in tasks])
        starts = np.cumsum(sizes) - sizes
        chosen = rng.integers(len(tasks), size=(self.n_steps, workload.batch))
        order = rng.permuted(np.tile(np.arange(sizes[0]), (*chosen.shape, 1)), axis=-1)
        n_drawn = workload.n_support + workload.n_query
        self.rows = starts[chosen][..., None] + order[..., :n_drawn]
        n_columns = [workload.n_features]
        if workload.has_targets:
            n_columns.append(workload.n_ways)
        self.tables = [np.zeros((sizes.sum(), n), np.float32) for n in n_columns]

    def seconds(self):
        """Return the CPU time of a step's rows."""
        start = time.process_time()
        for rows in self.rows:
            for table in self.tables:
                table.take(rows, axis=0)
        return (time.process_time() - start) / self.n_steps


class KnownLoss:
    """Gives a learner a loss that takes no time, with a gradient of zero."""

    def training_loss(self, *episodes, criterion, progress):
        """Return the same loss at each step."""
        if not hasattr(self, "loss"):
            learned = [p for p in self.parameters() if p.requires_grad]
            self.loss = ZeroLoss.apply(*learned)
        return self.loss


class ZeroLoss(torch.autograd.Function):
    """Zero, whose gradient the outer loop takes from ``known``."""

    @staticmethod
    def forward(ctx, *learned):
        """Return zero."""
        ctx.known = [(p, torch.zeros_like(p)) for p in learned]
        return torch.zeros(())


def stock_seconds(rounds):
    """Return what a batch of a skorch net takes beyond slices of the same rows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_BATCHES * BATCH_SIZE, 20)).astype(np.float32)
    y = rng.integers(0, 5, len(X))
    net = NeuralNetClassifier(
        build_mlp(20, (64, 64), 5),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        max_epochs=1,
        batch_size=BATCH_SIZE,
        train_split=None,
        verbose=0,
    ).initialize()
    slices = SlicedRows(X, y)
    seconds = in_turns([lambda: net.partial_fit(X, y), slices.run], rounds)
    return np.median(seconds[:, 0] - seconds[:, 1]) / N_BATCHES


class SlicedRows:
    """The plain loop over slices of rows."""

    def __init__(self, X, y):
        self.X, self.y = torch.as_tensor(X), torch.as_tensor(y)
        self.network = build_mlp(20, (64, 64), 5)
        self.optimizer = torch.optim.Adam(self.network.parameters())

    def run(self):
        """Pass over the rows."""
        parts = zip(self.X.split(BATCH_SIZE), self.y.split(BATCH_SIZE), strict=True)
        for X, y in parts:
            self.optimizer.zero_grad()
            F.cross_entropy(self.network(X), y).backward()
            self.optimizer.step()
