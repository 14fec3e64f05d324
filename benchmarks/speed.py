"""Seconds of a whole `fit`, of adapting and of predicting, beside loops over tasks.

The peers (`speed_peers.py`) do one task after another, as the libraries of the field
do, and get their episodes as tensors, ready made; `fit` draws its own. All of them take
turns in one process, at one thread, and CPU time is what counts, so that a busy machine
changes little.

The loop by autograd always takes part. learn2learn does if it can be imported, or if
L2L_SRC names the folder of its unpacked source (`pip download --no-deps --no-binary
:all: learn2learn==0.2.0`), of which only the Python files are used; higher after `pip
install higher`.
"""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import report
import speed_peers as peers
import torch
from speed_peers import N_POOL, Workload, draw_task
from torch import nn

from sklearn_meta import (
    MAMLClassifier,
    MAMLRegressor,
    ModelBasedMetaRegressor,
    ProtoNetClassifier,
)
from sklearn_meta.functional import build_mlp

SINUSOID = (1, (40, 40), 1, 10, 10, 25, 0.01)
BLOBS = (20, (64, 64), 5, 5, 15, 32)
WORKLOADS = {
    "W1": Workload("sinusoid, 1 step, second order", *SINUSOID, 1),
    "W2": Workload("sinusoid, 5 steps, first order", *SINUSOID, 5, first_order=True),
    "W3": Workload("5 ways, 5 shots, 5 steps", *BLOBS, 0.05, 5),
    "W3r": Workload(
        "5 ways, 5 to 50 rows, 5 steps", 20, (64, 64), 5, (1, 10), 15, 32, 0.05, 5
    ),
    "W4": Workload("prototypes, 5 ways, 5 shots", *BLOBS),
    "W5": Workload("neural process, 25 + 25 rows", 1, (128,), 1, 25, 25, 16),
}
GRADIENT_LOOPS = {
    "autograd loop": peers.Autograd,
    "learn2learn": peers.Learn2Learn,
    "higher": peers.Higher,
}
LOOPS = {
    "W4": {
        "autograd loop": peers.PrototypeLoop,
        "learn2learn": peers.Learn2LearnPrototypes,
    },
    "W5": {"autograd loop": peers.ProcessLoop},
}


class AnyModule(nn.Module):
    """A perceptron that the package does not know as one."""

    def __init__(self, n_features, n_outputs, hidden):
        super().__init__()
        self.body = build_mlp(n_features, hidden, n_outputs)

    def forward(self, X):
        """Run the network."""
        return self.body(X)


def build_model(name, workload, *, as_module=False):
    """Return the public estimator of a workload."""
    options = {
        "n_shots": workload.n_shots,
        "n_queries": workload.n_queries,
        "meta_batch_size": workload.batch,
        "early_stopping": False,
        "device": "cpu",
        "random_state": 0,
    }
    if name == "W4":
        options |= {"embedding": "network", "label_mode": "task", "n_ways": 5}
        return ProtoNetClassifier(workload.hidden, **options)
    if name == "W5":
        width = workload.hidden[0]
        return ModelBasedMetaRegressor("cnp", hidden_size=width, **options)
    options |= {
        "hidden_layer_sizes": workload.hidden,
        "variant": "fomaml" if workload.first_order else "maml",
        "inner_lr": workload.inner_lr,
        "inner_steps": workload.inner_steps,
    }
    if as_module:
        module = partial(AnyModule, hidden=workload.hidden)
        options |= {"module": module, "hidden_layer_sizes": ()}
    if workload.n_ways == 1:
        return MAMLRegressor(**options)
    return MAMLClassifier(label_mode="shared", **options)


class Fit:
    """The public estimator: checks, scaling, sampling, training."""

    def __init__(self, model, tasks, n_steps):
        self.model, self.n_steps = model, n_steps
        self.X = np.concatenate([X for X, _ in tasks])
        self.y = np.concatenate([y for _, y in tasks])
        self.tasks = np.repeat(np.arange(len(tasks)), [len(y) for _, y in tasks])

    def run(self):
        """Fit, with as many outer steps."""
        self.model.set_params(max_iter=self.n_steps)
        self.model.fit(self.X, self.y, tasks=self.tasks)


class Staged:
    """Loss and gradient of a fitted learner on one stack of episodes: no framework."""

    def __init__(self, fit, n_steps):
        self.n_steps = n_steps
        fit.run()
        model = fit.model
        self.learner = model.learner_.float().train()
        rows = model._check_rows(fit.X, fit.y, fit.tasks, reset=False)
        sampler = model._sampler(rows, model.device_)
        generator = torch.Generator().manual_seed(0)
        self.episodes = sampler.gather(sampler.sample(model.meta_batch_size, generator))
        self.criterion = model._criterion()

    def run(self):
        """Take as many gradients."""
        for _ in range(self.n_steps):
            self.learner.zero_grad()
            loss = self.learner.training_loss(
                *self.episodes, criterion=self.criterion, progress=0.0
            )
            loss.backward()


def cpu_seconds(function, repeats=1):
    """Return the CPU time of a call."""
    start = time.process_time()
    for _ in range(repeats):
        function()
    return (time.process_time() - start) / repeats


def in_turns(functions, rounds):
    """Return the CPU times of functions that take turns, (rounds, n_functions)."""
    for function in functions:
        function()
    return np.array(
        [[cpu_seconds(function) for function in functions] for _ in range(rounds)]
    )


def step_times(name, loops, args, *, as_module=False):
    """Return ms of an outer step of fit and of each loop, (rounds, 1 + n_loops)."""
    workload = WORKLOADS[name]
    rng = np.random.default_rng(args.seed)
    tasks = [draw_task(workload, rng) for _ in range(N_POOL)]
    n_steps = args.steps // 5 if as_module else args.steps
    own = Fit(build_model(name, workload, as_module=as_module), tasks, n_steps)
    runs = [own, *(loop(workload, tasks, max(1, n_steps // 25)) for loop in loops)]
    seconds = in_turns([run.run for run in runs], args.rounds)
    return 1e3 * seconds / [run.n_steps for run in runs]


def training_row(name, args, *, as_module=False):
    """Return a row of the table: milliseconds a step, and ratios to `fit`."""
    loops = peers.installed(LOOPS.get(name, GRADIENT_LOOPS))
    steps = step_times(name, loops.values(), args, as_module=as_module)
    ratios = dict(
        zip(loops, np.median(steps[:, 1:] / steps[:, :1], axis=0), strict=True)
    )
    times = dict(zip(loops, np.median(steps[:, 1:], axis=0), strict=True))
    title = WORKLOADS[name].title + (", any nn.Module" if as_module else "")
    columns = peers.installed(GRADIENT_LOOPS)
    cells = [f"{times[c]:.2f}" if c in times else "" for c in columns]
    cells += [f"**{ratios[c]:.1f}**" if c in ratios else "" for c in columns]
    return [name, title, f"{np.median(steps[:, 0]):.2f}", *cells]


def framework_rows(args):
    """Return rows for what an outer step takes beyond its loss and gradient."""
    for name in ("W1", "W3"):
        workload = WORKLOADS[name]
        rng = np.random.default_rng(args.seed)
        tasks = [draw_task(workload, rng) for _ in range(N_POOL)]
        fit = Fit(build_model(name, workload), tasks, args.steps)
        short = Fit(build_model(name, workload), tasks, 12)
        runs = [fit, short, Staged(Fit(short.model, tasks, 12), args.steps)]
        seconds = in_turns([run.run for run in runs], args.rounds)
        # from two lengths: what is paid once for a fit is no cost of a step
        step = (seconds[:, 0] - seconds[:, 1]) / (fit.n_steps - short.n_steps)
        staged = seconds[:, 2] / args.steps
        ms = 1e3 * np.median([step, staged, step - staged], axis=1)
        once = 1e3 * np.median(seconds[:, 1] - short.n_steps * step)
        yield [name, *(f"{value:.3f}" for value in ms), f"{once:.0f}"]


def serving_rows(args):
    """Return rows for `adapt` and `predict`, input checks included."""
    workload = WORKLOADS["W3"]
    rng = np.random.default_rng(args.seed)
    tasks = [draw_task(workload, rng) for _ in range(N_POOL)]
    fit = Fit(build_model("W3", workload), tasks, 24)
    fit.run()
    model, n = fit.model, workload.n_support
    X, y = tasks[0]
    many = [draw_task(workload, rng) for _ in range(1000)]
    X_query = np.concatenate([X[n:] for X, _ in many])
    ids = np.repeat(np.arange(len(many)), workload.n_query)
    support = [(X[:n], y[:n]) for X, y in many]
    calls = {
        "1 task": lambda: model.adapt(X[:n], y[:n]).predict(X[n:]),
        "1000 tasks": lambda: model.adapt_tasks(support).predict(X_query, tasks=ids),
    }
    if "learn2learn" in peers.installed(GRADIENT_LOOPS):
        calls["1 task, learn2learn"] = partial(serve_one, workload, tasks)
    for title, call in calls.items():
        call()
        repeats = 1 if "1000" in title else 20
        seconds = [cpu_seconds(call, repeats) for _ in range(args.rounds)]
        yield [title, f"{1e3 * np.median(seconds):.2f}", f"{1e3 * min(seconds):.2f}"]


def serve_one(workload, tasks):
    """Adapt learn2learn's network to the first task, and predict its query rows."""
    loop = serve_one.loops.setdefault(
        workload, peers.Learn2Learn(workload, tasks[:1], 1)
    )
    X, y, X_query, _ = loop.episodes[0]
    network = loop.adapted(X, y, first_order=True)
    with torch.no_grad():
        return network(X_query)


serve_one.loops = {}


def memory(batch, seed):
    """Print how far a fit of W3 with so many tasks a step raises the peak, in MiB."""
    workload = WORKLOADS["W3"]
    rng = np.random.default_rng(seed)
    tasks = [draw_task(workload, rng) for _ in range(N_POOL)]
    fit = Fit(build_model("W3", workload), tasks, 12)
    fit.model.set_params(meta_batch_size=1)
    fit.run()
    fit.model.set_params(meta_batch_size=batch)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak until now
    before = peak_memory()
    fit.run()
    print(peak_memory() - before)


def peak_memory():
    """Return the most memory that the process has had, in MiB."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def memory_rows(args):
    """Return rows for the memory of large meta-batches, each in its own process."""
    for batch in (32, 512):
        command = [sys.executable, __file__, "--memory", str(batch)]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        yield [batch, f"{float(found.stdout):.0f}"]


def main():
    """Run the workloads that are asked for and write the tables."""
    parser = report.command_line(__doc__)
    parser.add_argument("--only", nargs="+", default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600, help="outer steps of fit")
    parser.add_argument("--memory", type=int, help="measure a meta-batch, and no more")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory:
        memory(args.memory, args.seed)
        return
    if args.quick:
        args.rounds, args.steps = 2, 25
    rows = []
    for name, as_module in [
        *((n, False) for n in args.only),
        ("W1", True),
        ("W3", True),
    ]:
        rows.append(training_row(name, args, as_module=as_module))
        report.progress(" | ".join(rows[-1]))
    report.write("speed", "Speed", sections(rows, args), quick=args.quick)


def sections(rows, args):
    """Return the texts and tables of the report."""
    names = list(peers.installed(GRADIENT_LOOPS))
    header = ["", "workload", "fit, ms", *(f"{name}, ms" for name in names)]
    training = report.markdown_table([*header, *(f"{n} / fit" for n in names)], rows)
    framework = report.markdown_table(
        ["", "step of fit, ms", "loss and gradient", "framework", "once for a fit"],
        framework_rows(args),
    )
    serving = report.markdown_table(
        ["adapt and predict", "median, ms", "least, ms"], serving_rows(args)
    )
    memories = report.markdown_table(
        ["tasks a step of W3", "MiB above a fit with 1"], memory_rows(args)
    )
    return [
        f"CPU time of one of {args.steps} outer steps, median of {args.rounds} rounds "
        "in turns; ratios within a round. `fit` counts as a whole, with its checks and "
        "its sampling; the loops over tasks get ready-made tensors.",
        training,
        "What a step takes beyond the loss and its gradient on an episode stack that "
        "lies ready: sampling, gathering, clipping, the optimizer, history.",
        framework,
        "5 ways, 5 shots, 5 steps, 75 query rows a task, in float64 with all checks; "
        "learn2learn in float32, without any.",
        serving,
        "Peak memory of the process.",
        memories,
    ]


if __name__ == "__main__":
    main()
