"""What `speed.py` times: shapes of meta-training, and public estimators for them."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch import nn

from sklearn_meta import (
    DeepKernelRegressor,
    MAMLClassifier,
    MAMLRegressor,
    ModelBasedMetaRegressor,
    ProtoNetClassifier,
)
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
    inner_lr: float = 0.0
    inner_steps: int = 0
    first_order: bool = False
    has_targets: bool = True  # False where the place of a row is its label

    def with_batch(self, n_tasks):
        """Return the same with another number of tasks in a step."""
        return replace(self, batch=n_tasks)

    @property
    def n_support(self):
        """Most support rows."""
        return self.n_ways * np.max(self.n_shots)

    @property
    def n_query(self):
        """Query rows."""
        return self.n_ways * self.n_queries


SINUSOID = (1, (40, 40), 1, 10, 10, 25, 0.01)
BLOBS = (20, (64, 64), 5, 5, 15, 32)
WORKLOADS = {
    "W1": Workload("sinusoid, 1 step, second order", *SINUSOID, 1),
    "W2": Workload("sinusoid, 5 steps, first order", *SINUSOID, 5, first_order=True),
    "W3": Workload("5 ways, 5 shots, 5 steps", *BLOBS, 0.05, 5),
    "W3r": Workload(
        "5 ways, 5 to 50 rows, 5 steps", 20, (64, 64), 5, (1, 10), 15, 32, 0.05, 5
    ),
    "W4": Workload("prototypes, 5 ways, 5 shots", *BLOBS, has_targets=False),
    "W5": Workload("neural process, 25 + 25 rows", 1, (128,), 1, 25, 25, 16),
    "GP": Workload("deep-kernel process, 10 + 16 rows", 8, (64, 64), 1, 10, 16, 24),
}


def draw_task(workload, rng):
    """Return the rows and targets of one task."""
    n = workload.n_support + workload.n_query
    if workload.n_ways == 1:
        x = rng.uniform(-5, 5, (n, workload.n_features))
        return x, rng.uniform(0.1, 5) * np.sin(x[:, 0] + rng.uniform(0, np.pi))
    y = np.arange(n) % workload.n_ways
    centres = rng.normal(size=(workload.n_ways, workload.n_features))
    return centres[y] + rng.normal(size=(n, workload.n_features)), y


def draw_tasks(workload, seed, n_tasks=N_POOL):
    """Return tasks to learn from."""
    rng = np.random.default_rng(seed)
    return [draw_task(workload, rng) for _ in range(n_tasks)]


class AnyModule(nn.Module):
    """A perceptron that the package does not know as one."""

    def __init__(self, n_features, n_outputs, hidden):
        super().__init__()
        self.body = build_mlp(n_features, hidden, n_outputs)

    def forward(self, X):
        """Run the network."""
        return self.body(X).clone()  # without the copy it would be known


def build_model(name, workload, *, as_module=False, device="cpu", compile=False):
    """Return the public estimator of a workload."""
    options = {
        "n_shots": workload.n_shots,
        "n_queries": workload.n_queries,
        "meta_batch_size": workload.batch,
        "early_stopping": False,
        "device": device,
        "compile": compile,
        "random_state": 0,
    }
    if name == "W4":
        options |= {"embedding": "network", "label_mode": "task", "n_ways": 5}
        return ProtoNetClassifier(workload.hidden, **options)
    if name == "W5":
        width = workload.hidden[0]
        return ModelBasedMetaRegressor("cnp", hidden_size=width, **options)
    if name == "GP":
        options |= {"init": "random", "noise_levels": 1}  # as the peers
        return DeepKernelRegressor(workload.hidden, **options)
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
