"""The emulator of CUDA graphs repeats what a GPU would, and no more."""

import numpy as np
import pytest
import torch
from graph_emulator import EmulatedGraphs


def captured(step):
    """What repeats a step."""
    return EmulatedGraphs(torch.device("cpu")).capture(step)


def test_capture_computes_nothing():
    """A GPU only notes what it is asked; draws are not used up either."""
    x, draws = torch.zeros(2), torch.get_rng_state()
    captured(lambda: x.add_(torch.rand(2)))
    assert torch.equal(x, torch.zeros(2))
    assert torch.equal(torch.get_rng_state(), draws)


def test_replay_works_on_the_memory_as_it_is_and_with_new_draws():
    """Through views, gradients and tensors that the step made itself."""
    weight, data, out = torch.ones(3, requires_grad=True), torch.zeros(3), []

    def step():
        weight.grad = None
        (weight * data.view(3, 1).squeeze(1)).sum().backward()
        out[:] = [weight.grad + 0, torch.rand(2)]

    replay = captured(step)
    data.copy_(torch.tensor([1.0, 2.0, 3.0]))
    replay()
    draws = out[1].clone()
    assert torch.equal(out[0], data)
    replay()
    assert not torch.equal(out[1], draws)


def test_replay_knows_nothing_of_python_and_numpy():
    """Both ran once, when the step was recorded."""
    calls, data, total = [], torch.ones(2), torch.zeros(2)

    def step():
        calls.append(1)
        total.add_(len(calls))
        np.add(data.numpy(), 1, out=data.numpy())

    replay = captured(step)
    replay()
    replay()
    assert len(calls) == 1
    assert total.tolist() == data.tolist() == [2.0, 2.0]


LOOKS = {
    "number": lambda x: x.sum().item(),
    "condition": lambda x: bool(x.any()),
    "positions": lambda x: x[x > 0],
    "constant": lambda x: x + torch.tensor(1.0),
    "factor": lambda x: torch.linalg.cholesky(torch.diag(x)),
    "solution": lambda x: torch.linalg.solve(torch.diag(x), x),
}


@pytest.mark.parametrize("look", LOOKS)
def test_step_that_looks_or_brings_something_cannot_be_captured(look):
    """It would wait for the GPU, or copy from memory that the GPU does not see."""
    x = torch.ones(2)
    with pytest.raises(RuntimeError, match="not permitted while a step is recorded"):
        captured(lambda: LOOKS[look](x))
