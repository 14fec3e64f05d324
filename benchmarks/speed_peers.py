"""The loops over tasks that `speed.py` compares with, on episodes that lie ready.

Each takes one task after the other, as the libraries of the field do, with a fused Adam
and tensors that are made beforehand; that is kinder than their own examples.
"""

import importlib
import os
import sys
import types
from pathlib import Path

import numpy as np
import torch
from speed_workloads import N_POOL
from torch.nn import functional as F

from sklearn_meta.functional import build_mlp


class TaskLoop:
    """Meta-training as a loop over tasks."""

    def __init__(self, workload, tasks, n_steps, device="cpu"):
        self.workload, self.n_steps, self.device = workload, n_steps, device
        rng = np.random.default_rng(0)
        torch.manual_seed(0)
        self.episodes = [self._split(*task, rng) for task in tasks]
        self.loss = F.mse_loss if workload.n_ways == 1 else F.cross_entropy
        self.network = self.build().to(device)
        self.parameters = list(self.network.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=1e-3, fused=True)

    def build(self):
        """Return the network."""
        workload = self.workload
        return build_mlp(workload.n_features, workload.hidden, workload.n_ways)

    def _split(self, X, y, rng):
        """Return one episode of a task as tensors."""
        regression = self.workload.n_ways == 1
        X = torch.as_tensor(X, dtype=torch.float32)
        y = torch.as_tensor(y)
        y = y.float()[:, None] if regression else y
        low = self.workload.n_ways * np.min(self.workload.n_shots)
        n = int(rng.integers(low, self.workload.n_support + 1))
        order = torch.as_tensor(self.draw_order(len(X), rng))
        support, query = order[:n], order[-self.workload.n_query :]
        parts = X[support], y[support], X[query], y[query]
        return tuple(part.to(self.device) for part in parts)

    def draw_order(self, n_rows, rng):
        """Return row numbers in the order in which an episode takes them."""
        return rng.permutation(n_rows)

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

    def __init__(self, workload, tasks, n_steps, device="cpu"):
        super().__init__(workload, tasks, n_steps, device)
        self.maml = import_learn2learn("algorithms.maml").MAML(
            self.network, lr=workload.inner_lr, first_order=workload.first_order
        )

    def adapted(self, X, y, **options):
        """Return the network after the inner steps."""
        clone = self.maml.clone(**options)
        for _ in range(self.workload.inner_steps):
            clone.adapt(self.loss(clone(X), y))
        return clone

    def query_loss(self, X, y, X_query, y_query):
        """Loss of the query rows after the inner steps."""
        return self.loss(self.adapted(X, y)(X_query), y_query)


class Higher(TaskLoop):
    """The loop of higher's examples."""

    def __init__(self, workload, tasks, n_steps, device="cpu"):
        super().__init__(workload, tasks, n_steps, device)
        self.library = importlib.import_module("higher")
        self.inner = torch.optim.SGD(self.network.parameters(), lr=workload.inner_lr)

    def query_loss(self, X, y, X_query, y_query):
        """Loss of the query rows after the inner steps."""
        options = {
            "copy_initial_weights": False,
            "track_higher_grads": not self.workload.first_order,
        }
        with self.library.innerloop_ctx(self.network, self.inner, **options) as pair:
            network, optimizer = pair
            for _ in range(self.workload.inner_steps):
                optimizer.step(self.loss(network(X), y))
            loss = self.loss(network(X_query), y_query)
        if not self.workload.first_order:
            return loss
        # first order: the gradient at the adapted weights is the one at the start
        found = torch.autograd.grad(loss, list(network.parameters()))
        pairs = zip(found, self.parameters, strict=True)
        return sum((gradient * p).sum() for gradient, p in pairs)


class TorchOpt(TaskLoop):
    """The loop of TorchOpt's examples; it has no first order."""

    def __init__(self, workload, tasks, n_steps, device="cpu"):
        super().__init__(workload, tasks, n_steps, device)
        self.library = importlib.import_module("torchopt")
        self.inner = self.library.MetaSGD(self.network, lr=workload.inner_lr)

    def query_loss(self, X, y, X_query, y_query):
        """Loss of the query rows after the inner steps."""
        parts = (self.network, self.inner)
        before = [
            self.library.extract_state_dict(part, by="reference") for part in parts
        ]
        for _ in range(self.workload.inner_steps):
            self.inner.step(self.loss(self.network(X), y))
        loss = self.loss(self.network(X_query), y_query)
        for part, state in zip(parts, before, strict=True):
            self.library.recover_state_dict(part, state)
        return loss


class PrototypeLoop(TaskLoop):
    """Prototypical networks, one episode after the other."""

    def build(self):
        """Return the embedding."""
        *hidden, width = self.workload.hidden
        return build_mlp(self.workload.n_features, hidden, width)

    def draw_order(self, n_rows, rng):
        """Return the rows as they are, in which the classes take turns."""
        return np.arange(n_rows)

    def query_loss(self, X, y, X_query, y_query):
        """Loss of the query rows by their squared distances to class means."""
        Z = self.network(X)
        ways = range(self.workload.n_ways)
        means = torch.stack([Z[y == way].mean(0) for way in ways])
        distances = torch.cdist(self.network(X_query), means).square()
        return self.loss(-distances, y_query)


class Learn2LearnPrototypes(PrototypeLoop):
    """The same with learn2learn's classifier."""

    def __init__(self, workload, tasks, n_steps, device="cpu"):
        super().__init__(workload, tasks, n_steps, device)
        self.classifier = import_learn2learn("nn.protonet").PrototypicalClassifier()

    def query_loss(self, X, y, X_query, y_query):
        """Loss of the query rows by their squared distances to class means."""
        self.classifier.fit_(self.network(X), y)
        return self.loss(self.classifier(self.network(X_query)), y_query)


class ProcessLoop(TaskLoop):
    """Conditional neural processes, one task after the other."""

    def build(self):
        """Return the encoder and the decoder."""
        width = self.workload.hidden[0]
        encoder = build_mlp(self.workload.n_features + 1, (width, width), width)
        decoder = build_mlp(self.workload.n_features + width, (width, width), 2)
        return torch.nn.ModuleList([encoder, decoder])

    def query_loss(self, X, y, X_query, y_query):
        """Likelihood of the query rows, given the mean of the embedded support."""
        encoder, decoder = self.network
        context = encoder(torch.cat([X, y], -1)).mean(0, keepdim=True)
        rows = torch.cat([X_query, context.expand(len(X_query), -1)], -1)
        mean, raw = decoder(rows).chunk(2, -1)
        spread = 0.1 + 0.9 * F.softplus(raw)
        return -torch.distributions.Normal(mean, spread).log_prob(y_query).mean()


def import_learn2learn(name):
    """Return a module of learn2learn, past the parts that need compilers."""
    folder = Path(os.environ.get("L2L_SRC", "learn2learn-0.2.0")) / "learn2learn"
    if folder.is_dir() and "learn2learn" not in sys.modules:
        for part in ("", ".algorithms", ".nn"):
            package = types.ModuleType(f"learn2learn{part}")
            package.__path__ = [str(folder / part.removeprefix("."))]
            sys.modules[package.__name__] = package
        importlib.import_module("learn2learn.utils")
    return importlib.import_module(f"learn2learn.{name}")


LIBRARIES = {
    "learn2learn": lambda: import_learn2learn("algorithms.maml"),
    "higher": lambda: importlib.import_module("higher"),
    "TorchOpt": lambda: importlib.import_module("torchopt"),
    "JAX": lambda: importlib.import_module("jax"),
}


def installed(peers):
    """Return those of the loops, by name, whose libraries can be imported."""
    found = {}
    for name, peer in peers.items():
        try:
            LIBRARIES.get(name, lambda: None)()
        except ImportError:
            continue
        found[name] = peer
    return found
