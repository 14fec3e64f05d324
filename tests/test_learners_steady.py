"""Which losses are the same in every outer step."""

import pytest
from test_learners_common import LEARNERS
from torch import nn

from sklearn_meta.learners import GradientLearner, MultiStepLearner
from sklearn_meta.learners.steady import steady_from, steady_since


@pytest.mark.parametrize("name", LEARNERS)
def test_learner_of_the_package_is_steady_from_the_start_or_a_known_step(name):
    """One without a mark would never have a graph."""
    learner = LEARNERS[name]()
    expected = 0.15 if isinstance(learner, MultiStepLearner) else 0.0
    assert steady_since(learner) == expected


def test_loss_that_is_overwritten_needs_a_mark_of_its_own():
    """That of the parent says nothing about it."""

    class Own(GradientLearner):
        def training_loss(self, *episodes, criterion, progress=0.0):
            return progress

    own = Own(nn.Linear(1, 1))
    assert steady_since(own) is None
    Own.training_loss = steady_from(0.5)(Own.training_loss)
    assert steady_since(own) == 0.5
