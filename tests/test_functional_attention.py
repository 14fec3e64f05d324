"""Attention and pooling equal formulas written out row by row."""

import pytest
import torch

from sklearn_meta.functional import attend, masked_mean_pool

N_TASKS, N_QUERY, N_SUPPORT, N_COLUMNS = 3, 4, 5, 6


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    sizes = (N_QUERY, N_SUPPORT, N_SUPPORT)
    return [
        torch.randn(N_TASKS, n, N_COLUMNS, generator=generator, dtype=torch.float64)
        for n in sizes
    ]


@pytest.fixture
def mask():
    return torch.arange(N_SUPPORT) < torch.tensor([5, 3, 1])[:, None]


def _one_query(query, keys, values, n_heads):
    """Attention of one query to real rows only, head by head."""
    parts = []
    width = len(query) // n_heads
    for head in range(n_heads):
        own = slice(head * width, (head + 1) * width)
        scores = keys[:, own] @ query[own] / width**0.5
        parts.append(scores.softmax(0) @ values[:, own])
    return torch.cat(parts)


@pytest.mark.parametrize("n_heads", [1, 2, 3])
def test_attend_equals_written_out_formula(rows, mask, n_heads):
    # Independent of the fused kernel, of padding and of head layout.
    queries, keys, values = rows
    attended = attend(queries, keys, values, mask, n_heads)
    for i, size in enumerate((5, 3, 1)):
        for j in range(N_QUERY):
            expected = _one_query(
                queries[i, j], keys[i, :size], values[i, :size], n_heads
            )
            torch.testing.assert_close(attended[i, j], expected)


def test_attend_to_empty_support_gives_zeros_and_finite_gradients(rows, mask):
    # A softmax over nothing is NaN, forward and backward.
    rows = [values.requires_grad_() for values in rows]
    mask[1] = False
    attended = attend(*rows, mask, 2)
    assert attended[1].abs().max() == 0
    for gradient in torch.autograd.grad(attended.sum(), rows):
        assert gradient.isfinite().all()
        assert gradient[1].abs().max() == 0


def test_attend_to_support_without_rows_gives_zeros(rows, mask):
    # n_support = 0 for all tasks: there is not even padding to look at.
    queries, keys, values = rows
    attended = attend(queries, keys[:, :0], values[:, :0], mask[:, :0], 2)
    assert attended.shape == queries.shape and attended.abs().max() == 0


def test_attend_to_permuted_support_is_unchanged(rows, mask):
    # Law 1: row order does not matter.
    queries, keys, values = rows
    order = torch.tensor([4, 2, 0, 1, 3])
    again = attend(queries, keys[:, order], values[:, order], mask[:, order], 2)
    torch.testing.assert_close(again, attend(queries, keys, values, mask, 2))


def test_masked_mean_pool_equals_mean_of_real_rows(rows, mask):
    # Padding neither adds to the sum nor to the count; nothing gives zeros.
    values = rows[1]
    mask[2] = False
    pooled = masked_mean_pool(values, mask)
    torch.testing.assert_close(pooled[0], values[0].mean(0))
    torch.testing.assert_close(pooled[1], values[1, :3].mean(0))
    assert pooled[2].abs().max() == 0
