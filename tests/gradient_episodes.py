"""Small learners by gradient descent, ragged episodes for them, and their gradients."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sklearn_meta.functional import (
    build_mlp,
    categorical_nll,
    masked_task_mean,
    squared_error,
)

N_TASKS, N_SUPPORT, N_FEATURES, N_CLASSES = 3, 6, 2, 3


class Wrapped(nn.Module):
    """Hides a network's layers, so that it takes the vmap path."""

    def __init__(self, network):
        super().__init__()
        self.inside = network

    def forward(self, X):
        return self.inside(X).clone()  # more than layers, for all that is known


def make_episode(seed=0):
    """Return support rows, their mask and query rows of ragged tasks."""
    generator = torch.Generator().manual_seed(seed)
    shape = (N_TASKS, N_SUPPORT, N_FEATURES)
    X, Q = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    mask = torch.ones(shape[:2], dtype=torch.bool)
    mask[0, 4:] = False
    return X, mask, Q


def targets(rows):
    """Return a smooth target of every row."""
    return rows.sum(-1, keepdim=True).sin()


def classes():
    """Return one-hot labels that repeat in turn."""
    labels = torch.arange(N_SUPPORT) % N_CLASSES
    one_hot = torch.eye(N_CLASSES, dtype=torch.float64)[labels]
    return one_hot.expand(N_TASKS, -1, -1)


def regressor(family, *, network=None, wrap=False, **options):
    """Return a small learner of one output, in float64."""
    torch.manual_seed(0)
    network = network or build_mlp(N_FEATURES, (4,), 1, "tanh")
    network = Wrapped(network) if wrap else network
    return family(network.double(), **options).double()


def classifier(family, *, wrap=False, **options):
    """Return a small learner with a head of prototypes, in float64."""
    torch.manual_seed(0)
    network = build_mlp(N_FEATURES, (4,), 5, "tanh")
    network = Wrapped(network) if wrap else network
    options = {"head": "prototypes", "likelihood": "categorical"} | options
    return family(network.double(), **options).double()


def query_loss(learner, episode):
    """Return the mean loss of the query rows after adapting."""
    X, mask, Q = episode
    if learner.likelihood == "gaussian":
        rows = squared_error(learner(X, targets(X), mask, Q).mean, targets(Q))
    else:
        rows = categorical_nll(learner(X, classes(), mask, Q), classes())
    return masked_task_mean(rows, mask)


def gradient_of(learner, loss):
    """Return the gradient of a loss by all meta-parameters, as one vector."""
    params = list(learner.parameters())
    found = torch.autograd.grad(loss, params, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def assert_finite_differences(learner, loss, n_directions=3, step=1e-5):
    """Compare the gradient of ``loss()`` with differences along random directions."""
    gradient = gradient_of(learner, loss())
    params = list(learner.parameters())
    start = parameters_to_vector(params).detach()
    for seed in range(n_directions):
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(start.shape, generator=generator, dtype=start.dtype)
        values = []
        for sign in (1, -1):
            vector_to_parameters(start + sign * step * direction, params)
            values.append(loss().item())
        vector_to_parameters(start, params)
        expected = (values[0] - values[1]) / (2 * step)
        assert (gradient @ direction).item() == pytest.approx(expected, rel=1e-5)
