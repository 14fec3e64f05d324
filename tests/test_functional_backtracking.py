"""Steps that lead up are taken back."""

import pytest
import torch

from sklearn_meta.functional import descend, descend_with_backtracking

SLOPES = torch.tensor([1.0, 3.0, 1e3], dtype=torch.float64)


def evaluate(params):
    """Losses slope * |level|^2 of three tasks, and their gradients."""
    level = params["level"]
    slopes = SLOPES[:, None]
    return (
        lambda: (slopes * level**2).sum(1),
        lambda: {"level": (2 * slopes * level).detach()},
    )


@pytest.fixture
def start():
    return {"level": torch.ones(3, 2, dtype=torch.float64), "other": torch.zeros(3, 1)}


def test_descend_with_backtracking_when_no_step_leads_up_is_plain_descent(start):
    # Where the rate is small enough nothing may differ.
    moving = {"level": start["level"]}
    plain, _ = descend(evaluate, moving, 1e-4, 5)
    found, diverged = descend_with_backtracking(evaluate, start, 1e-4, 5)
    torch.testing.assert_close(found["level"], plain["level"], rtol=0, atol=0)
    assert torch.equal(found["other"], start["other"]) and not diverged.any()


def test_descend_with_backtracking_when_steps_are_many_solves_every_task(start):
    # Plain descent at this rate leaves the numbers in the last two tasks.
    found, diverged = descend_with_backtracking(evaluate, start, 0.4, 200)
    assert found["level"].abs().max() < 1e-6 and not diverged.any()


def test_descend_with_backtracking_never_raises_a_loss(start):
    # Every iterate that is visited, and not the last one only.
    losses = [evaluate(start)[0]()]
    descend_with_backtracking(
        evaluate, start, 0.4, 30, visit=lambda p: losses.append(evaluate(p)[0]())
    )
    assert len(losses) == 31
    assert (torch.stack(losses).diff(dim=0) <= 1e-12).all()


@pytest.mark.parametrize("rate", [1e6, 1e300])
def test_descend_with_backtracking_when_all_steps_lead_up_says_so(start, rate):
    # The task then stays where it was; no infinity gets out.
    found, diverged = descend_with_backtracking(evaluate, start, rate, 3)
    assert diverged.all() and torch.equal(found["level"], start["level"])


def test_descend_with_backtracking_without_steps_stays(start):
    # Law 1.
    found, diverged = descend_with_backtracking(evaluate, start, 1.0, 0)
    assert torch.equal(found["level"], start["level"]) and not diverged.any()
