"""Seconds of a whole `fit`, of adapting and of predicting, beside loops over tasks.

The peers do one task after another, as the libraries of the field do, and get their
episodes as tensors, ready made; `fit` draws its own. All of them take turns in one
process, at one thread, and CPU time is what counts, so that a busy machine changes
little. learn2learn takes part if it can be imported, or if L2L_SRC names the folder of
its unpacked source (`pip download --no-deps --no-binary :all: learn2learn==0.2.0`), of
which only the Python files are used.
"""

import importlib
import os
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import report
import torch
from torch.nn import functional as F

from sklearn_meta import MAMLClassifier, MAMLRegressor
from sklearn_meta.functional import build_mlp

N_POOL = 300


@dataclass(frozen=True)
class Workload:
    """Shape of a meta-training: support rows may be a range, as in `n_shots`."""

    title: str
    n_features: int
    hidden: tuple
    n_ways: int  # 1 for regression
    n_shots: int | tuple
    n_queries: int
    batch: int
    inner_lr: float
    inner_steps: int
    first_order: bool = False

    @property
    def n_support(self):
        """Most support rows."""
        return self.n_ways * np.max(self.n_shots)

    @property
    def n_query(self):
        """Query rows."""
        return self.n_ways * self.n_queries


SINUSOID = (1, (40, 40), 1, 10, 10, 25, 0.01)
WORKLOADS = {
    "W1": Workload("sinusoid, 1 step, second order", *SINUSOID, 1),
    "W2": Workload("sinusoid, 5 steps, first order", *SINUSOID, 5, first_order=True),
    "W3": Workload("5 ways, 5 shots, 5 steps", 20, (64, 64), 5, 5, 15, 32, 0.05, 5),
    "W3r": Workload(
        "5 ways, 5 to 50 rows, 5 steps", 20, (64, 64), 5, (1, 10), 15, 32, 0.05, 5
    ),
}


def draw_task(workload, rng):
    """Return the rows and targets of one task."""
    n = workload.n_support + workload.n_query
    if workload.n_ways == 1:
        x = rng.uniform(-5, 5, (n, 1))
        return x, rng.uniform(0.1, 5) * np.sin(x[:, 0] + rng.uniform(0, np.pi))
    y = np.arange(n) % workload.n_ways
    centres = rng.normal(size=(workload.n_ways, workload.n_features))
    return centres[y] + rng.normal(size=(n, workload.n_features)), y


class Fit:
    """The public estimator: checks, scaling, sampling, training."""

    def __init__(self, workload, tasks, n_steps):
        self.n_steps = n_steps
        self.X = np.concatenate([X for X, _ in tasks])
        self.y = np.concatenate([y for _, y in tasks])
        self.tasks = np.repeat(np.arange(len(tasks)), [len(y) for _, y in tasks])
        variant = "fomaml" if workload.first_order else "maml"
        options = {
            "hidden_layer_sizes": workload.hidden,
            "variant": variant,
            "inner_lr": workload.inner_lr,
            "inner_steps": workload.inner_steps,
            "n_shots": workload.n_shots,
            "n_queries": workload.n_queries,
            "meta_batch_size": workload.batch,
            "early_stopping": False,
            "device": "cpu",
            "random_state": 0,
        }
        if workload.n_ways == 1:
            self.model = MAMLRegressor(**options)
        else:
            self.model = MAMLClassifier(label_mode="shared", **options)

    def run(self):
        """Fit, with as many outer steps."""
        self.model.set_params(max_iter=self.n_steps)
        self.model.fit(self.X, self.y, tasks=self.tasks)


class TaskLoop:
    """Meta-training as a loop over tasks, on episodes that lie ready."""

    def __init__(self, workload, tasks, n_steps):
        self.workload, self.n_steps = workload, n_steps
        rng = np.random.default_rng(0)
        torch.manual_seed(0)
        self.episodes = [self._split(*task, rng) for task in tasks]
        self.network = build_mlp(workload.n_features, workload.hidden, workload.n_ways)
        self.loss = F.mse_loss if workload.n_ways == 1 else F.cross_entropy
        self.parameters = list(self.network.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=1e-3)

    def _split(self, X, y, rng):
        """Return one episode of a task as tensors."""
        regression = self.workload.n_ways == 1
        X = torch.as_tensor(X, dtype=torch.float32)
        y = torch.as_tensor(y)
        y = y.float()[:, None] if regression else y
        low = self.workload.n_ways * np.min(self.workload.n_shots)
        n = int(rng.integers(low, self.workload.n_support + 1))
        order = torch.as_tensor(rng.permutation(len(X)))
        support, query = order[:n], order[-self.workload.n_query :]
        return X[support], y[support], X[query], y[query]

    def run(self):
        """Take as many outer steps."""
        size = self.workload.batch
        for step in range(self.n_steps):
            begin = step * size % (N_POOL - size + 1)
            self.optimizer.zero_grad()
            for episode in self.episodes[begin : begin + size]:
                (self.query_loss(*episode) / size).backward()
            self.optimizer.step()


class Autograd(TaskLoop):
    """The plain loop: `autograd.grad`, with a graph where it is second order."""

    def query_loss(self, X, y, X_query, y_query):
        """Loss of the query rows after the inner steps."""
        names = [name for name, _ in self.network.named_parameters()]
        params = self.parameters
        for _ in range(self.workload.inner_steps):
            loss = self.loss(self._outputs(names, params, X), y)
            first_order = self.workload.first_order
            found = torch.autograd.grad(loss, params, create_graph=not first_order)
            rate = self.workload.inner_lr
            params = [p - rate * g for p, g in zip(params, found, strict=True)]
        return self.loss(self._outputs(names, params, X_query), y_query)

    def _outputs(self, names, params, X):
        """The network's outputs, layer by layer."""
        for weight, bias in zip(params[0::2], params[1::2], strict=True):
            X = F.linear(X, weight, bias)
            if weight is not params[-2]:
                X = X.relu()
        return X


class Learn2Learn(TaskLoop):
    """The loop of learn2learn's examples."""

    def __init__(self, workload, tasks, n_steps):
        super().__init__(workload, tasks, n_steps)
        maml = import_learn2learn()
        self.maml = maml.MAML(
            self.network, lr=workload.inner_lr, first_order=workload.first_order
        )

    def query_loss(self, X, y, X_query, y_query):
        """Loss of the query rows after the inner steps."""
        clone = self.maml.clone()
        for _ in range(self.workload.inner_steps):
            clone.adapt(self.loss(clone(X), y))
        return self.loss(clone(X_query), y_query)


def import_learn2learn():
    """Return learn2learn's module of MAML, past the parts that need compilers."""
    folder = Path(os.environ.get("L2L_SRC", "learn2learn-0.2.0")) / "learn2learn"
    if folder.is_dir() and "learn2learn" not in sys.modules:
        for name, path in [
            ("learn2learn", folder),
            ("learn2learn.algorithms", folder / "algorithms"),
        ]:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [str(path)]
        importlib.import_module("learn2learn.utils")
    return importlib.import_module("learn2learn.algorithms.maml")


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


def training_row(workload, peers, args):
    """Return a row of the table: milliseconds a step, and ratios to `fit`."""
    rng = np.random.default_rng(args.seed)
    tasks = [draw_task(workload, rng) for _ in range(N_POOL)]
    n_steps = 24 if args.quick else args.steps
    own = Fit(workload, tasks, n_steps)
    others = [peer(workload, tasks, max(1, n_steps // 25)) for peer in peers]
    runs = [own, *others]
    seconds = in_turns([run.run for run in runs], args.rounds)
    steps = 1e3 * seconds / [run.n_steps for run in runs]
    ratios = np.median(steps[:, 1:] / steps[:, :1], axis=0)
    cells = [workload.title, n_steps, *(f"{ms:.2f}" for ms in np.median(steps, axis=0))]
    return [*cells, *(f"**{ratio:.1f}**" for ratio in ratios)]


def serving_rows(args):
    """Return rows for `adapt` and `predict`, input checks included."""
    workload = WORKLOADS["W3"]
    rng = np.random.default_rng(args.seed)
    tasks = [draw_task(workload, rng) for _ in range(N_POOL)]
    fit = Fit(workload, tasks, 24)
    fit.run()
    model, n = fit.model, workload.n_support
    X, y = tasks[0]
    many = [draw_task(workload, rng) for _ in range(1000)]
    X_query = np.concatenate([X[n:] for X, _ in many])
    ids = np.repeat(np.arange(len(many)), workload.n_query)
    calls = {
        "1 task": lambda: model.adapt(X[:n], y[:n]).predict(X[n:]),
        "1000 tasks": lambda: model.adapt_tasks(
            [(X[:n], y[:n]) for X, y in many]
        ).predict(X_query, tasks=ids),
    }
    for title, call in calls.items():
        call()
        repeats = 20 if title == "1 task" else 1
        seconds = [cpu_seconds(call, repeats) for _ in range(args.rounds)]
        yield [title, f"{1e3 * np.median(seconds):.2f}", f"{1e3 * min(seconds):.2f}"]


def main():
    """Run the workloads that are asked for and write the tables."""
    parser = report.command_line(__doc__)
    parser.add_argument("--only", nargs="+", default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600, help="outer steps of fit")
    args = parser.parse_args()
    args.rounds = 2 if args.quick else args.rounds
    torch.set_num_threads(1)
    peers = {"autograd loop": Autograd, "learn2learn": Learn2Learn}
    try:
        import_learn2learn()
    except ImportError:
        del peers["learn2learn"]
    rows = []
    for name in args.only:
        rows.append([name, *training_row(WORKLOADS[name], peers.values(), args)])
        report.progress(" | ".join(map(str, rows[-1])))
    times = [f"{who}, ms" for who in ("fit", *peers)]
    ratios = [f"{who} / fit" for who in peers]
    training = report.markdown_table(
        ["", "workload", "outer steps of fit", *times, *ratios], rows
    )
    serving = report.markdown_table(
        ["adapt and predict", "median, ms", "least, ms"], serving_rows(args)
    )
    text = (
        f"CPU time of an outer step, median of {args.rounds} rounds in turns; ratios "
        "within a round. `fit` counts as a whole, with its checks and its sampling; "
        "the loops over tasks get ready-made tensors."
    )
    served = (
        "5 ways, 5 shots, 5 steps, 75 query rows a task, in float64, all checks in."
    )
    report.write("speed", "Speed", [text, training, served, serving], quick=args.quick)


if __name__ == "__main__":
    main()
