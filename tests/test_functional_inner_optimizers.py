"""Rules of the inner loop follow torch's own optimizers and can be differentiated."""

import pytest
import torch

from sklearn_meta.functional.inner_loop import InnerPath, descend
from sklearn_meta.functional.inner_optimizers import INNER_OPTIMIZERS, Adam, Momentum


def _evaluate(at):
    """The loss sum (level - 3)^4 of two tasks, far from quadratic."""
    error = at["level"] - 3
    return (lambda: error.pow(4).sum(1)), (lambda: {"level": 4 * error.pow(3)})


def _torch_path(optimizer, start, n_steps):
    """Where an optimizer of torch ends on the same loss."""
    level = start.clone().requires_grad_()
    steps = optimizer([level])
    for _ in range(n_steps):
        steps.zero_grad()
        (level - 3).pow(4).sum().backward()
        steps.step()
    return level.detach()


@pytest.mark.parametrize(
    ("rule", "optimizer"),
    [
        (INNER_OPTIMIZERS["sgd"], lambda p: torch.optim.SGD(p, lr=0.01)),
        (Momentum(), lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9)),
        (Adam(offset=1e-12), lambda p: torch.optim.Adam(p, lr=0.01, eps=1e-12)),
        (
            Adam(mean_decay=0.0, offset=1e-12),
            lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.0, 0.999), eps=1e-12),
        ),
    ],
)
def test_descend_by_each_rule_ends_where_torch_does(rule, optimizer):
    # An independent answer; Adam's offset, which lies elsewhere, is made small.
    start = torch.tensor([[1.0, 2.5], [4.0, 3.5]], dtype=torch.float64)
    found, _ = descend(_evaluate, {"level": start}, 0.01, 7, rule=rule)
    torch.testing.assert_close(found["level"], _torch_path(optimizer, start, 7))


@pytest.mark.parametrize("name", INNER_OPTIMIZERS)
def test_gradient_through_each_rule_equals_finite_differences(name):
    # Law 2: second order goes through the memory of a rule too.
    def end(start):
        rule = INNER_OPTIMIZERS[name]
        return descend(_evaluate, {"level": start}, 0.05, 4, rule=rule)[0]["level"]

    start = torch.tensor([[1.5, 2.5]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(end, (start,))


def test_gradient_through_adam_at_a_zero_gradient_is_finite():
    # Silent units have one, and the root of Adam's paper has no derivative there.
    start = torch.full((1, 1), 3.0, requires_grad=True)
    end = descend(_evaluate, {"level": start}, 0.05, 2, rule=Adam())[0]["level"]
    assert torch.autograd.grad(end.sum(), start)[0].isfinite().all()


def test_path_with_rates_for_each_step_takes_them_in_turn():
    # MAML++; more steps than rates go on with the last one.
    path = InnerPath([0.5, {"level": torch.tensor(0.25)}])
    level, seen = {"level": torch.zeros(1, 1)}, []
    for _ in range(3):
        level = path.step(level, {"level": torch.ones(1, 1)})
        seen.append(level["level"].item())
    assert seen == [-0.5, -0.75, -1.0]


def test_descend_with_visitor_shows_every_step():
    # The multi-step loss asks for all of them; the last is the result.
    seen = []
    start = {"level": torch.zeros(1, 1)}
    end, _ = descend(_evaluate, start, 0.001, 3, visit=seen.append)
    assert len(seen) == 3 and seen[-1]["level"] is end["level"]
