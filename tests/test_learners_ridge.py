"""The ridge head of many tasks, beyond what every learner must do."""

import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct
from torch import nn

from sklearn_meta.functional import bounded_std
from sklearn_meta.learners import RidgeLearner
from sklearn_meta.learners.ridge import _SPEED

N_SUPPORT, N_FEATURES = 5, 3


@pytest.fixture
def episode():
    """One task: X, Y, mask and query rows."""
    generator = torch.Generator().manual_seed(0)
    X, Q = torch.randn(
        2, 1, N_SUPPORT, N_FEATURES, generator=generator, dtype=torch.float64
    )
    Y = torch.randn(1, N_SUPPORT, 1, generator=generator, dtype=torch.float64)
    return X, Y, torch.ones(1, N_SUPPORT, dtype=torch.bool), Q


def linear(**options):
    """Return a learner of the rows themselves."""
    network = nn.Linear(N_FEATURES, N_FEATURES)
    with torch.no_grad():
        network.weight.copy_(torch.eye(N_FEATURES))
        network.bias.zero_()
    return RidgeLearner(network, **options).double()


def test_regression_is_that_of_a_linear_gaussian_process(episode):
    # ridge regression with its uncertainty is a GP with a linear kernel
    X, Y, mask, Q = episode
    learner = linear()
    noise = bounded_std(_SPEED * learner.raw_noise, learner.std_floor).item()
    penalty = 1 + 1e-3  # the prior variance of the weights is the noise's over it
    scale = (noise**2 / penalty / N_FEATURES) ** 0.5
    kernel = DotProduct(sigma_0=N_FEATURES**0.5, sigma_0_bounds="fixed") * scale**2
    process = GaussianProcessRegressor(kernel, alpha=noise**2, optimizer=None)
    mean, std = process.fit(X[0], Y[0, :, 0]).predict(Q[0], return_std=True)
    found = learner(X, Y, mask, Q)
    torch.testing.assert_close(found.mean[0], torch.tensor(mean))
    total = torch.tensor((std**2 + noise**2) ** 0.5)
    torch.testing.assert_close(found.std[0], total)


def test_penalty_follows_the_number_of_real_rows(episode):
    # padding must not count
    X, Y, mask, _ = episode
    learner = linear()
    with torch.no_grad():
        learner.log_penalty_slope.fill_(0.1)
    mask[0, 3:] = False
    penalty = learner.adapt(X, Y, mask)["penalty"]
    torch.testing.assert_close(penalty, torch.tensor([3 + 1e-3], dtype=torch.float64))


def test_classes_of_an_uninformative_support_are_alike(episode):
    # local classes start from equal probabilities of those present
    X, _, mask, Q = episode
    Y = torch.eye(3, dtype=torch.float64)[torch.tensor([[0, 1, 0, 1, 1]])]
    learner = linear(likelihood="categorical")
    with torch.no_grad():
        learner.log_penalty.fill_(2.0)
    proba = learner(X, Y, mask, Q).softmax(-1)
    expected = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).expand_as(proba)
    torch.testing.assert_close(proba, expected, rtol=1e-6, atol=1e-6)


def test_shared_classes_of_an_uninformative_support_keep_the_offset(episode):
    # what the pooled model says is where the head starts
    X, _, mask, Q = episode
    Y = torch.eye(2, dtype=torch.float64)[torch.tensor([[0, 1, 0, 1, 1]])]
    learner = linear(likelihood="categorical", n_shared_classes=2, n_offsets=2)
    with torch.no_grad():
        learner.log_penalty.fill_(2.0)
    torch.testing.assert_close(learner(X, Y, mask, Q), Q[..., -2:], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": "poisson"}, "likelihood must be"),
        ({"n_shared_classes": 2}, "needs likelihood='categorical'"),
        ({"likelihood": "categorical", "n_offsets": 2}, "n_offsets must be 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    # a learner of something else would come out
    with pytest.raises(ValueError, match=message):
        linear(**options)


def test_width_that_cannot_be_read_is_asked_for():
    # the head of all tasks needs it
    with pytest.raises(ValueError, match="Pass embedding_size"):
        RidgeLearner(nn.Tanh())
    assert RidgeLearner(nn.Tanh(), embedding_size=4).head.in_features == 4
