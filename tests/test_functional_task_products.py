"""Products of rows with matrices that tasks share, or each task has."""

import pytest
import torch

from sklearn_meta.functional.task_products import (
    add_matmul_,
    add_product,
    add_product_,
    add_rows,
    affine,
    matmul,
    product,
)

N_TASKS, N_ROWS = 3, 5
each_widths = pytest.mark.parametrize("n_in, n_out", [(2, 4), (4, 2)])
each_axes = pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])


def numbers(*shape):
    """Random numbers in double precision, the same in every test."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def of_tasks(shared, *shape):
    """A tensor that tasks share, or one of each task, and the same for each task."""
    values = numbers(*shape) if shared else numbers(N_TASKS, *shape)
    return values, values.expand(N_TASKS, *shape)


@each_widths
@each_axes
def test_products_with_a_matrix_equal_those_of_each_task(n_in, n_out, shared):
    # A layer may be one for all tasks before the first step, and is each task's after.
    h, delta = numbers(N_TASKS, N_ROWS, n_in), numbers(N_TASKS, N_ROWS, n_out)
    weight, weights = of_tasks(shared, n_out, n_in)
    bias, biases = of_tasks(shared, n_out)
    expected = torch.einsum("tri,toi->tro", h, weights) + biases.unsqueeze(1)
    torch.testing.assert_close(affine(h, weight, bias), expected)
    back = torch.einsum("tro,toi->tri", delta, weights)
    torch.testing.assert_close(matmul(delta, weight), back)
    total = h.clone()
    add_matmul_(total, delta, weight)
    torch.testing.assert_close(total, h + back)


@each_widths
@each_axes
def test_sums_over_rows_take_the_shape_of_what_they_are_added_to(n_in, n_out, shared):
    # What tasks share gets the sum over tasks.
    h, delta = numbers(N_TASKS, N_ROWS, n_in), numbers(N_TASKS, N_ROWS, n_out)
    weight, _ = of_tasks(shared, n_out, n_in)
    bias, _ = of_tasks(shared, n_out)
    by_task = torch.einsum("tro,tri->toi", delta, h)
    torch.testing.assert_close(product(delta, h), by_task)
    expected = weight - 0.5 * (by_task.sum(0) if shared else by_task)
    torch.testing.assert_close(add_product(weight, delta, h, -0.5), expected)
    moved = weight.clone()
    add_product_(moved, delta, h, -0.5)
    torch.testing.assert_close(moved, expected)
    rows = delta.sum(1).sum(0) if shared else delta.sum(1)
    torch.testing.assert_close(add_rows(bias, delta, -0.5), bias - 0.5 * rows)
