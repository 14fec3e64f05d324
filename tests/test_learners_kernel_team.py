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
    {"noise": "constant", "noise_levels": 3},
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


def check_team(learners):
    """Assert that a team says what each of its members says of its own task."""
    X, Y, mask, query = draw_task()
    with torch.no_grad():
        team = team_of(learners)
        together = team.query(team.adapt(X, Y, mask), query)
        for i, learner in enumerate(learners):
            own = (part[i : i + 1] for part in (X, Y, mask, query))
            for part, expected in zip(together, learner(*own), strict=True):
                torch.testing.assert_close(part[i], expected[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS)
def test_team_says_what_its_members_say(options):
    """Each member reads its own task."""
    check_team(build(**options))


def test_team_when_members_learn_different_moments_says_what_they_say():
    """A mean of zero and a constant noise are those of a network that says zero."""
    kinds = [{}, {"mean": "zero"}, {"noise": "constant"}]
    learners = [build(1, **options)[0] for options in kinds]
    assert len({team_shape(learner) for learner in learners}) == 1
    check_team(learners)


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
    shapes = [team_shape(build(1, **options)[0]) for options in OPTIONS]
    # dropout, and which moments are learned, do not matter to what is served
    assert shapes[3] == shapes[0]
    assert len(set(shapes)) == len(OPTIONS) - 1
    own = KernelLearner(4, network=nn.Linear(4, 8))
    assert team_shape(own) is None
