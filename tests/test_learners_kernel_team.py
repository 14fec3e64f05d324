"""Gaussian process learners of one shape, all at once."""

import pytest
import torch
from torch import nn

from sklearn_meta.learners import KernelLearner
from sklearn_meta.learners.kernel_team import team_of, team_shape

OPTIONS = [
    {},
    {"hidden_layer_sizes": ()},
    {"hidden_layer_sizes": (), "mean": "zero"},
    {"mean": "zero", "feature_dropout": 0.5},
    {"mean": "zero", "noise": "constant"},
    {"noise": "constant", "activation": "tanh", "hidden_layer_sizes": (5,)},
]


def build(n_members=3, **options):
    """Return learners with different weights."""
    torch.manual_seed(0)
    learners = [KernelLearner(4, **options).double().eval() for _ in range(n_members)]
    with torch.no_grad():
        for learner in learners:
            for parameter in learner.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    return learners


def draw_task(n_members=3):
    """Return the same ragged support for all members, and query rows."""
    X = torch.randn(n_members, 6, 4, dtype=torch.float64)
    mask = (torch.arange(6) < 5).expand(n_members, -1)
    query = torch.randn(n_members, 9, 4, dtype=torch.float64)
    return X, X.sum(-1, keepdim=True), mask, query


@pytest.mark.parametrize("options", OPTIONS)
def test_team_says_what_its_members_say(options):
    """Each member reads its own task."""
    learners, (X, Y, mask, query) = build(**options), draw_task()
    with torch.no_grad():
        team = team_of(learners)
        together = team.query(team.adapt(X, Y, mask), query)
        for i, learner in enumerate(learners):
            own = (part[i : i + 1] for part in (X, Y, mask, query))
            for part, expected in zip(together, learner(*own), strict=True):
                torch.testing.assert_close(part[i], expected[0], rtol=1e-10, atol=1e-12)


def test_team_of_when_a_weight_changes_is_built_again():
    """A member that goes on learning must not be served as it was."""
    learners = build()
    team = team_of(learners)
    assert team_of(learners) is team
    with torch.no_grad():
        learners[1].log_noise += 1
    assert team_of(learners) is not team
    assert team_of(learners[:2]) is not team_of(learners)


def test_team_shape_tells_what_cannot_go_together():
    """Networks of the user's own are called one by one."""
    shapes = {team_shape(build(1, **options)[0]) for options in OPTIONS}
    assert len(shapes) == len(OPTIONS)
    # dropout does not matter to what is served
    assert team_shape(build(1, feature_dropout=0.3)[0]) in shapes
    own = KernelLearner(4, network=nn.Linear(4, 8))
    assert team_shape(own) is None
