"""Folds and the episodes on which members of a mixture are judged."""

import numpy as np
import pytest

from sklearn_meta.held_out import class_folds, row_folds, shot_grid, task_folds
from sklearn_meta.tasks import TaskRows


def numbered_rows(sizes, y=None, names=True):
    """Return rows whose only feature is their own number."""
    n_rows = sum(sizes)
    y = np.arange(n_rows) if y is None else y
    names = [f"t{i}" for i in range(len(sizes))] if names else None
    return TaskRows(np.arange(n_rows)[:, None], y, np.array(sizes), names)


def rng():
    return np.random.RandomState(0)


def test_task_folds_when_made_then_each_task_is_held_out_once():
    # a member must not be judged on a task that it saw
    rows = numbered_rows([4, 5, 6, 7, 8])
    folds = task_folds(rows, 3, [1, 2], 3, rng())
    held = [name for fold in folds for name in fold.held_out.names]
    assert sorted(held) == rows.names
    for fold in folds:
        assert not set(fold.train.names) & set(fold.held_out.names)
        for episodes in fold.episodes:
            used = np.concatenate([episodes.support, episodes.query])
            assert set(used) <= set(fold.held_out.X.ravel())


def test_task_folds_when_asked_for_shots_then_supports_have_them():
    # weights of K shots must be judged on K shots, with queries apart from them
    for fold in task_folds(numbered_rows([9] * 6), 3, [1, 4], 3, rng()):
        for n_shots, episodes in zip([1, 4], fold.episodes, strict=True):
            assert (episodes.sizes == n_shots).all()
            assert np.bincount(episodes.episode).max() == 3
            supports = np.split(episodes.support, np.cumsum(episodes.sizes)[:-1])
            for i, support in enumerate(supports):
                assert not set(support) & set(episodes.query[episodes.episode == i])


def test_task_folds_when_tasks_are_large_then_queries_do_not_depend_on_shots():
    # only then do two numbers of shots differ by the shots alone
    for fold in task_folds(numbered_rows([30] * 4), 2, [1, 10], 5, rng()):
        few, many = fold.episodes
        np.testing.assert_array_equal(few.query, many.query)


def test_task_folds_when_tasks_are_small_then_shots_are_what_they_allow():
    # no episode without a query, no number of shots that some fold cannot draw
    folds = task_folds(numbered_rows([3, 3, 12, 3]), 4, [1, 5, 10], 5, rng())
    for fold in folds:
        assert [e.n_shots for e in fold.episodes] == [1, 2]


@pytest.mark.parametrize("sizes", [[9, 9, 9, 9], [3, 30, 12, 5]])
def test_task_folds_when_weights_are_summed_then_episodes_count_alike(sizes):
    # a large task must not outvote a small one
    for fold in task_folds(numbered_rows(sizes), 2, [1, 2], 50, rng()):
        for episodes in fold.episodes:
            share = np.bincount(episodes.episode, episodes.weight)
            np.testing.assert_allclose(share, 1 / len(share))


def test_class_folds_when_made_then_only_held_out_classes_are_scored():
    # how well seen classes are told apart says little about new ones
    y = np.repeat(np.arange(8), 10)
    rows = numbered_rows([80], y, names=False)
    for fold in class_folds(rows, [1, 5], 5, 4, rng()):
        seen = set(fold.train.y)
        for episodes in fold.episodes:
            assert not seen & set(y[episodes.query])
            assert seen & set(y[episodes.support])
            assert len(set(y[episodes.support[: episodes.sizes[0]]])) == 5


def test_class_folds_when_shots_are_drawn_then_per_class():
    # shots of labels local to the task are per class
    rows = numbered_rows([40], np.repeat(np.arange(4), 10), names=False)
    for fold in class_folds(rows, [3], 4, 4, rng()):
        (episodes,) = fold.episodes
        assert (episodes.sizes == 12).all()
        assert not set(episodes.support[:12]) & set(episodes.query[:4])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_class_folds_when_classes_are_few_then_none(n_classes):
    # two must stay on both sides
    y = np.repeat(np.arange(n_classes), 10)
    assert class_folds(numbered_rows([len(y)], y, names=False), [1], 5, 4, rng()) == []


def test_row_folds_when_one_table_then_support_is_the_rest():
    # a table has no tasks to hold out: its rows are
    folds = row_folds(numbered_rows([12], names=False), 3, False, rng())
    for fold in folds:
        (episodes,) = fold.episodes
        assert episodes.n_shots == 8
        assert sorted([*episodes.support, *episodes.query]) == list(range(12))


def test_row_folds_when_a_class_is_rare_then_none():
    # a fold without a class could not judge it
    y = np.array([0] * 10 + [1] * 2)
    assert row_folds(numbered_rows([12], y, names=False), 3, True, rng()) == []


def test_shot_grid_when_range_is_wide_then_its_ends_are_in():
    # weights beyond the grid would be guesses
    assert shot_grid(1, 20) == [1, 5, 10, 20]
    assert shot_grid(2, 3) == [2, 3]
