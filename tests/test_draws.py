"""Draws: every choice equally likely, however many are drawn at once."""

from itertools import permutations
from math import factorial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sklearn_meta.draws import (
    draw_shots_log_uniform,
    draw_without_replacement,
    shuffled_cycle,
)


@pytest.fixture
def generator():
    """A source of randomness, the same in every test."""
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("size", "n_draws"), [(4, 2), (3, 3), (5, 1), (2, 4), (9, 2)])
def test_draws_when_counted_are_uniform_over_ordered_choices(size, n_draws, generator):
    """Every ordered choice of distinct numbers is as likely as any other."""
    # up to 4 numbers per draw an urn is shuffled, beyond it is drawn from
    n_urns, taken = 6000, min(size, n_draws)
    draws, valid = draw_without_replacement(
        torch.full((n_urns,), size), n_draws, generator
    )
    assert valid.sum() == n_urns * taken
    choices = list(permutations(range(size), taken))
    assert len(choices) == factorial(size) // factorial(size - taken)
    place = {choice: i for i, choice in enumerate(choices)}
    found = [place[tuple(row)] for row in draws[:, :taken].tolist()]
    counts = np.bincount(found, minlength=len(choices))
    assert len(choices) == 1 or chisquare(counts).pvalue > 1e-3


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    n_draws=st.integers(1, 10),
    seed=st.integers(0, 99),
)
def test_draws_are_distinct_and_below_the_size(sizes, n_draws, seed):
    """Small urns give all they have; the rest is marked and zero."""
    draws, valid = draw_without_replacement(
        torch.tensor(sizes), n_draws, torch.Generator().manual_seed(seed)
    )
    for size, row, real in zip(sizes, draws, valid, strict=True):
        n_real = min(size, n_draws)
        assert real.tolist() == [True] * n_real + [False] * (n_draws - n_real)
        drawn = row[real].tolist()
        assert len(set(drawn)) == n_real and max(drawn) < size
        assert (row[~real] == 0).all()


def test_shuffled_cycle_is_whole_passes_in_random_order(generator):
    """Each task comes equally often, and in no fixed order."""
    order = shuffled_cycle(5, 500, generator).reshape(100, 5)
    assert (order.sort(1).values == torch.arange(5)).all()
    counts = np.bincount(order[:, 0].numpy(), minlength=5)
    assert chisquare(counts).pvalue > 1e-3


def test_draws_from_a_large_urn_do_not_depend_on_the_others(generator):
    """Small and large urns are drawn from in two ways, and may come together."""
    sizes = torch.tensor([3, 2**32, 50, 1]).repeat(40)
    draws, valid = draw_without_replacement(sizes, 5, generator)
    assert (draws < sizes.unsqueeze(1)).all() and valid.sum(1)[:4].tolist() == [
        3,
        5,
        5,
        1,
    ]
    assert draws[1::4].max() > 2**31
    assert all(len(set(row)) == 5 for row in draws[2::4].tolist())


def test_draw_shots_log_uniform_gives_each_octave_as_often(generator):
    """One row must not be an exception where up to thirty may be drawn."""
    shots = draw_shots_log_uniform((1, 31), 4000, generator)
    assert shots.min() == 1 and shots.max() == 31
    octaves = torch.bincount(shots.double().log2().long(), minlength=5) / 4000
    torch.testing.assert_close(octaves, torch.full((5,), 0.2), atol=0.03, rtol=0)
