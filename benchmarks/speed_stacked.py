"""Peers of `speed.py` that take all tasks of a step at once."""

import importlib

import numpy as np
import torch
from speed_peers import TaskLoop
from speed_workloads import N_POOL
from torch import nn

from sklearn_meta.functional import build_mlp


class KernelStack(TaskLoop):
    """A deep-kernel process on stacked tensors, differentiated by autograd."""

    def build(self):
        """Return networks of linear features, coordinates, mean and noise."""
        d, hidden = self.workload.n_features, self.workload.hidden
        widths = {"linear": 16, "place": 8, "mean": 1, "noise": 1}
        nets = {name: build_mlp(d, hidden, n, "gelu") for name, n in widths.items()}
        network = nn.ModuleDict(nets)
        network["scales"] = nn.ParameterDict(
            {
                "column": torch.full((d,), -1.5),
                "length": torch.ones(d),
                "constant": torch.tensor(-0.7),
                "smooth": torch.tensor(-1.0),
                "noise": torch.tensor(-1.0),
            }
        )
        return network

    def run(self):
        """Take as many outer steps."""
        size = self.workload.batch
        for step in range(self.n_steps):
            begin = step * size % (N_POOL - size + 1)
            stack = zip(*self.episodes[begin : begin + size], strict=True)
            self.optimizer.zero_grad()
            self.query_loss(*map(torch.stack, stack)).backward()
            self.optimizer.step()

    def query_loss(self, X, y, X_query, y_query):
        """Negative log-likelihood of the query rows, given the support."""
        rows, query = self._describe(X), self._describe(X_query)
        noise, query_noise = self._noise(X), self._noise(X_query)
        covariance = self._kernel(rows, rows) + torch.diag_embed(noise)
        factor = torch.linalg.cholesky(covariance)
        residual = y - self.network["mean"](X)
        between = self._kernel(rows, query)
        white = torch.linalg.solve_triangular(factor, between, upper=False)
        values = torch.linalg.solve_triangular(factor, residual, upper=False)
        mean = self.network["mean"](X_query) + (white * values).sum(-2).unsqueeze(-1)
        prior = query[0].square().sum(-1) + (2 * self._scale("smooth")).exp()
        variance = (prior - white.square().sum(-2)).clamp_min(1e-6) + query_noise
        error = (y_query - mean).squeeze(-1).square()
        return 0.5 * (variance.log() + error / variance).mean()

    def _scale(self, name):
        return self.network["scales"][name]

    def _describe(self, X):
        """Linear features and coordinates of rows."""
        constant = self._scale("constant").exp().expand(*X.shape[:-1], 1)
        columns = X * self._scale("column").exp()
        linear = [constant, columns, 0.3 * self.network["linear"](X)]
        place = [X / self._scale("length").exp(), 0.5 * self.network["place"](X)]
        return torch.cat(linear, -1), torch.cat(place, -1)

    def _kernel(self, a, b):
        """Covariances of the function at two sets of rows."""
        smooth = torch.exp(
            2 * self._scale("smooth") - 0.5 * torch.cdist(a[1], b[1]) ** 2
        )
        return a[0] @ b[0].mT + smooth

    def _noise(self, X):
        """Variance of the noise of rows."""
        spread = self.network["noise"](X).squeeze(-1)
        return (2 * self._scale("noise") + spread).exp() + 1e-4


class KernelLoop(KernelStack):
    """The same, one task after the other."""

    run = TaskLoop.run


class Jax(TaskLoop):
    """The gradient of the mean over tasks of what `vmap` adapts, compiled by `jit`."""

    def __init__(self, workload, tasks, n_steps):
        super().__init__(workload, tasks, n_steps)
        self.jax = importlib.import_module("jax")
        optimizers = importlib.import_module("jax.example_libraries.optimizers")
        start, self.update, self.weights = optimizers.adam(1e-3)
        arrays = [p.detach().numpy() for p in self.parameters]
        layers = zip(arrays[0::2], arrays[1::2], strict=True)
        self.state = start([(weight.T.copy(), bias) for weight, bias in layers])
        parts = zip(*self.episodes, strict=True)
        self.stacks = [np.stack([p.numpy() for p in part]) for part in parts]
        self.step = self.jax.jit(self._step)
        self.serve = self.jax.jit(self.jax.vmap(self._outputs, (None, 0, 0, 0)))

    def run(self):
        """Take as many outer steps."""
        size = self.workload.batch
        for step in range(self.n_steps):
            begin = step * size % (N_POOL - size + 1)
            stack = [part[begin : begin + size] for part in self.stacks]
            self.state = self.step(step, self.state, *stack)
        self.jax.block_until_ready(self.state)

    def _step(self, step, state, *stack):
        """The state of the optimizer after a step."""
        jax, weights = self.jax, self.weights(state)
        over_tasks = jax.vmap(self._query_loss, in_axes=(None, 0, 0, 0, 0))
        gradient = jax.grad(lambda w: over_tasks(w, *stack).mean())(weights)
        return self.update(step, gradient, state)

    def predict(self, X, y, X_query):
        """Outputs of the query rows of all tasks, (n_tasks, n_query, n_outputs)."""
        return np.asarray(self.serve(self.weights(self.state), X, y, X_query))

    def _query_loss(self, weights, X, y, X_query, y_query):
        """Loss of one task's query rows after the inner steps."""
        return self._loss(self._outputs(weights, X, y, X_query), y_query)

    def _outputs(self, weights, X, y, X_query):
        """Outputs of one task's query rows after the inner steps."""
        jax, rate = self.jax, self.workload.inner_lr
        slope = jax.grad(lambda w: self._loss(self._run(w, X), y))
        for _ in range(self.workload.inner_steps):
            gradient = slope(weights)
            if self.workload.first_order:
                gradient = jax.lax.stop_gradient(gradient)
            weights = jax.tree.map(lambda w, g: w - rate * g, weights, gradient)
        return self._run(weights, X_query)

    def _run(self, weights, X):
        """Outputs of rows."""
        *hidden, (weight, bias) = weights
        for w, b in hidden:
            X = self.jax.nn.relu(X @ w + b)
        return X @ weight + bias

    def _loss(self, outputs, y):
        """Squared error or cross-entropy of rows."""
        if self.workload.n_ways == 1:
            return ((outputs - y) ** 2).mean()
        classes = self.jax.nn.one_hot(y, self.workload.n_ways)
        return -(self.jax.nn.log_softmax(outputs) * classes).sum(-1).mean()
