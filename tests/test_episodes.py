"""Episodes: drawn without repetition, fairly, and padded so that it does not show."""

from math import factorial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sklearn_meta.episodes import (
    ClassEpisodeSampler,
    RowEpisodeSampler,
    stack_rows,
    task_chunks,
)

CPU = torch.device("cpu")


@pytest.fixture
def generator():
    """A source of randomness, the same in every test."""
    return torch.Generator().manual_seed(0)


def row_sampler(sizes, n_support=(1, 3), n_queries=2):
    """Return a sampler over rows whose only feature is the row's number."""
    X = torch.arange(float(sum(sizes))).unsqueeze(1)
    return RowEpisodeSampler(X, -X, np.array(sizes), n_support, n_queries)


def test_sampler_of_some_tasks_draws_as_one_of_a_table_of_theirs(generator):
    """Tasks are held out without a copy of the table."""
    sizes, keep = [3, 9, 5, 4], np.array([True, False, True, True])
    some = row_sampler(sizes, (1, 6), 5).select(keep)
    X = some.X[np.repeat(keep, sizes)]
    alone = RowEpisodeSampler(X, -X, np.array(sizes)[keep], (1, 6), 5)
    state = generator.get_state()
    found = some.gather(some.sample(20, generator))
    expected = alone.gather(alone.sample(20, generator.set_state(state)))
    for part, other in zip(found, expected, strict=True):
        assert torch.equal(part, other)
    assert torch.equal(some.targets(), alone.Y) and some.X.data_ptr() != X.data_ptr()


def class_sampler(cell_sizes, per_task, n_ways=2, n_shots=(1, 2), n_queries=2):
    """Return a sampler over classes whose rows' only feature is their number."""
    X = torch.arange(float(sum(cell_sizes))).unsqueeze(1)
    sizes, counts = np.array(cell_sizes), np.array(per_task)
    return ClassEpisodeSampler(X, sizes, counts, n_ways, n_shots, n_queries)


# ---------------------------------------------------------------- rows


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 9), min_size=1, max_size=5),
    low=st.integers(1, 4),
    more=st.integers(0, 4),
    n_queries=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_row_episodes_of_ragged_tasks_keep_the_promises(
    sizes, low, more, n_queries, seed
):
    """No row on both sides, none of another task, at least one query."""
    sampler = row_sampler(sizes, (low, low + more), n_queries)
    rows = sampler.sample(8, torch.Generator().manual_seed(seed))
    task_of = np.repeat(range(len(sizes)), sizes)
    for support, s_mask, query, q_mask in zip(*rows, strict=True):
        support, query = support[s_mask].tolist(), query[q_mask].tolist()
        assert len({*support, *query}) == len(support) + len(query)
        assert len(set(task_of[support + query])) == 1
        size = sizes[task_of[query[0]]]
        assert 1 <= len(query) <= n_queries
        assert min(low, size - 1) <= len(support) <= min(low + more, size - 1)


def test_row_episodes_draw_tasks_equally_often_whatever_their_size(generator):
    """A large table must not outvote a small one."""
    rows = row_sampler([2, 4, 40]).sample(300, generator)
    starts = torch.tensor([2, 6])
    task = torch.bucketize(rows.query[:, 0].contiguous(), starts, right=True)
    assert torch.bincount(task).tolist() == [100, 100, 100]


def test_row_episodes_draw_every_number_of_shots(generator):
    """One model then serves all support sizes."""
    rows = row_sampler([20], (2, 5)).sample(2000, generator)
    counts = torch.bincount(rows.support_mask.sum(1), minlength=6)
    assert counts[:2].sum() == 0
    assert chisquare(counts[2:].numpy()).pvalue > 1e-3


def test_gather_of_rows_looks_up_features_and_targets(generator):
    """Targets of padding are zero, so that no loss can see them."""
    sampler = row_sampler([2, 9], (1, 4), 3)
    rows = sampler.sample(6, generator)
    episodes = sampler.gather(rows)
    real = episodes.support_mask
    assert not real.all()
    assert (episodes.X_support[real] == -episodes.Y_support[real]).all()
    assert (episodes.X_support[real][:, 0] == rows.support[real]).all()
    assert (episodes.Y_support[~real] == 0).all()
    assert (episodes.Y_query[~episodes.query_mask] == 0).all()


def test_sample_when_seeded_is_the_same_and_moves_on(generator):
    """The seed decides, and a second draw is another."""
    sampler = row_sampler([5, 6])
    first = sampler.sample(4, generator)
    again = sampler.sample(4, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(sampler.sample(4, generator).support, first.support)


def test_select_of_episodes_takes_all_four_parts(generator):
    """An outer step is a slice of a chunk."""
    rows = row_sampler([5, 6]).sample(6, generator)
    part = rows.select(slice(2, 4))
    for whole, piece in zip(rows, part, strict=True):
        assert torch.equal(piece, whole[2:4])


# ---------------------------------------------------------------- classes


@settings(max_examples=40, deadline=None)
@given(
    tasks=st.lists(
        st.lists(st.integers(2, 6), min_size=2, max_size=5), min_size=1, max_size=4
    ),
    n_ways=st.integers(2, 4),
    n_shots=st.tuples(st.integers(1, 3), st.integers(0, 3)),
    seed=st.integers(0, 99),
)
def test_class_episodes_of_ragged_tasks_keep_the_promises(tasks, n_ways, n_shots, seed):
    """Ways are distinct classes of one task; a label is the number of its way."""
    cells = [size for task in tasks for size in task]
    sampler = class_sampler(
        cells, [len(task) for task in tasks], n_ways, (n_shots[0], sum(n_shots)), 2
    )
    rows = sampler.sample(6, torch.Generator().manual_seed(seed))
    cell_of = np.repeat(range(len(cells)), cells)
    task_of = np.repeat(range(len(tasks)), [len(task) for task in tasks])[cell_of]
    for support, s_mask, query, q_mask in zip(*rows, strict=True):
        way = np.arange(len(support)) // (len(support) // sampler.n_ways)
        support_cells = cell_of[support[s_mask]]
        assert not set(support[s_mask].tolist()) & set(query[q_mask].tolist())
        pairs = set(zip(way[s_mask], support_cells, strict=True))
        task = set(task_of[support[s_mask]]) | set(task_of[query[q_mask]])
        assert len(task) == 1
        n_own = min(n_ways, len(tasks[task.pop()]))
        assert len(pairs) == n_own == len(set(support_cells))
        assert set(cell_of[query[q_mask]]) == set(support_cells)


def test_class_episodes_permute_the_labels_afresh(generator):
    """Sorted labels would tell the classes apart before any support is seen."""
    sampler = class_sampler([4, 4, 4], [3], n_ways=3)
    rows = sampler.sample(3000, generator)
    first_way = rows.query[:, 0] // 4
    assert chisquare(torch.bincount(first_way).numpy()).pvalue > 1e-3
    orders = (rows.query[:, ::2] // 4).unique(dim=0)
    assert len(orders) == factorial(3)


def test_class_episodes_label_rows_by_way(generator):
    """Of both sides alike, and padding has no label."""
    sampler = class_sampler([2, 5, 6, 3, 3], [3, 2], n_ways=3, n_shots=(1, 4))
    rows = sampler.sample(20, generator)
    episodes = sampler.gather(rows)
    cell_of = torch.arange(5).repeat_interleave(torch.tensor([2, 5, 6, 3, 3]))
    for e in range(20):
        s, q = episodes.support_mask[e], episodes.query_mask[e]
        assert (episodes.Y_support[e][~s] == 0).all()
        assert (episodes.Y_support[e][s].sum(1) == 1).all()
        way = dict(
            zip(
                cell_of[rows.support[e][s]].tolist(),
                episodes.Y_support[e][s].argmax(1).tolist(),
                strict=True,
            )
        )
        expected = [way[cell] for cell in cell_of[rows.query[e][q]].tolist()]
        assert episodes.Y_query[e][q].argmax(1).tolist() == expected


def test_class_episodes_give_all_classes_of_an_episode_the_same_shots(generator):
    """N-way K-shot, with K drawn anew for each episode."""
    sampler = class_sampler([9, 9, 9], [3], n_ways=3, n_shots=(1, 4))
    rows = sampler.sample(60, generator)
    shots = rows.support_mask.reshape(60, 3, 4).sum(2)
    assert (shots == shots[:, :1]).all()
    assert set(shots[:, 0].tolist()) == {1, 2, 3, 4}


# ---------------------------------------------------------------- stacks and chunks


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_stack_rows_and_mask_give_the_rows_back(sizes):
    """Padding is zero and marked."""
    rows = np.arange(1.0, 2 * sum(sizes) + 1).reshape(-1, 2)
    stack, mask = stack_rows(rows, np.array(sizes), CPU, torch.float64)
    assert stack.shape == (len(sizes), max(sizes), 2)
    assert mask.sum(1).tolist() == sizes
    np.testing.assert_array_equal(stack[mask].numpy(), rows)
    assert (stack[~mask] == 0).all()


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=20),
    max_rows=st.integers(1, 60),
)
def test_task_chunks_hold_each_task_once_within_the_bound(sizes, max_rows):
    """Memory is bounded by padded rows, and no task is lost."""
    sizes = np.array(sizes)
    chunks = task_chunks(sizes, max_rows)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(len(sizes)))
    for chunk in chunks:
        assert len(chunk) == 1 or len(chunk) * sizes[chunk].max() <= max_rows


def test_task_chunks_put_tasks_of_similar_size_together():
    """A large task beside small ones would be mostly padding."""
    chunks = task_chunks(np.array([1, 100, 1, 100]), 200)
    assert [sorted(chunk.tolist()) for chunk in chunks] == [[0, 2], [1, 3]]
