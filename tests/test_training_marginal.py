"""The marginal likelihood as an outer loop."""

import numpy as np
import pytest
import torch

from sklearn_meta.episodes import RowEpisodeSampler
from sklearn_meta.exceptions import DivergenceWarning
from sklearn_meta.learners import KernelLearner
from sklearn_meta.training import MarginalLikelihood
from sklearn_meta.training._marginal import MAX_ROWS, MAX_TASKS, _choose_tasks


def levels(sizes, seed=0):
    """Tasks that differ in level, as a sampler."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(sum(sizes), 2))
    y = np.repeat(rng.normal(size=len(sizes)), sizes) + 0.5 * rng.normal(size=len(X))
    table = (torch.tensor(part, dtype=torch.float32) for part in (X, y[:, None]))
    return RowEpisodeSampler(*table, np.array(sizes), (1, 5), 5)


def run(sampler, n_steps=60, learner=None, seed=0, state=None):
    """Return the record and the learner."""
    learner = learner or KernelLearner(2, hidden_layer_sizes=())
    generator = torch.Generator().manual_seed(seed)
    loop = MarginalLikelihood(n_steps)
    return loop.run(learner, sampler, None, generator, state), learner


def test_loss_falls_and_is_recorded_for_every_step():
    # One number a step, from a bad start to a better end.
    record, _ = run(levels([10] * 30))
    assert len(record.loss_curve) == 60
    assert record.loss_curve[-1] < record.loss_curve[0] - 0.1
    assert record.validation_scores is None


def test_run_when_resumed_goes_on_where_it_stopped():
    # The optimizer remembers its moments: 50 steps in two runs are 50 steps.
    sampler = levels([10] * 5)  # small enough to be drawn whole
    _, straight = run(sampler, 50)
    record, halves = run(sampler, 25)
    _, halves = run(sampler, 25, halves, seed=0, state=record.optimizer_state)
    for one, two in zip(straight.parameters(), halves.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


def test_tasks_of_few_rows_enter_only_if_there_are_no_others():
    # Two rows hardly tell how rows vary together.
    generator = torch.Generator().manual_seed(0)
    assert sorted(_choose_tasks(torch.tensor([2, 9, 4, 3]), generator)) == [1, 2]
    assert sorted(_choose_tasks(torch.tensor([2, 3, 3]), generator)) == [1, 2]
    assert len(_choose_tasks(torch.full((400,), 5), generator)) == MAX_TASKS


def test_run_on_large_tasks_draws_some_rows_of_each(monkeypatch):
    # A factorisation is cubic in the rows.
    seen = []
    learner = KernelLearner(2, hidden_layer_sizes=())
    loss = learner.marginal_loss
    monkeypatch.setattr(
        learner, "marginal_loss", lambda X, *rest: seen.append(X) or loss(X, *rest)
    )
    run(levels([200, 10]), 30, learner)
    assert {X.shape for X in seen} == {(2, MAX_ROWS, 2)}
    assert not torch.equal(seen[0], seen[-1])


def test_run_that_leaves_the_finite_numbers_keeps_the_sound_ones():
    # Features beyond what squares can hold.
    sampler = levels([10] * 5)
    sampler.X *= 1e30
    with pytest.warns(DivergenceWarning, match="last sound hyper-parameters"):
        _, learner = run(sampler)
    assert all(p.isfinite().all() for p in learner.parameters())
