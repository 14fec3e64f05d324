"""The closed-form embedding and the folds it is cross-fitted on."""

import numpy as np
import pytest

from sklearn_meta import whitening
from sklearn_meta.targets import LocalClasses
from sklearn_meta.whitening import ClassWhitening, cross_fit, cross_fit_folds


@pytest.fixture
def table(rng):
    """Rows of 6 classes whose within-class covariance is far from the identity."""
    y = np.repeat(np.arange(6), 200)
    mixing = rng.normal(size=(3, 3))
    X = 3 * rng.normal(size=(6, 3))[y] + rng.normal(size=(1200, 3)) @ mixing
    return X, LocalClasses.of(y, np.zeros(1200, int))


def _within(Z, cells):
    centred = (
        Z - np.array([Z[cells == c].mean(0) for c in range(cells.max() + 1)])[cells]
    )
    return centred.T @ centred / (len(Z) - cells.max() - 1)


def test_whitening_without_shrinkage_makes_covariances_diagonal(table, monkeypatch):
    # definition: whiten within classes, then turn to the axes between them
    monkeypatch.setattr(whitening, "WITHIN_SHRINKAGE", 0.0)
    monkeypatch.setattr(whitening, "BETWEEN_SHRINKAGE", 0.0)
    X, classes = table
    found = ClassWhitening.of(X, classes, np.ones(6, bool)).transform(X)[:, 6:]
    covariance = _within(found, classes.row_cell)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(
        covariance / np.outer(scale, scale), np.eye(3), atol=1e-9
    )
    means = np.array([found[classes.row_cell == c].mean(0) for c in range(6)])
    between = np.cov(means.T)
    assert np.abs(between - np.diag(np.diag(between))).max() < 1e-9 * between.max()


def test_whitening_gives_weight_to_directions_that_separate(rng, monkeypatch):
    # a feature that is noise must count less than one that tells classes apart
    monkeypatch.setattr(whitening, "BETWEEN_SHRINKAGE", 0.0)
    y = np.repeat(np.arange(8), 50)
    X = rng.normal(size=(400, 2))
    X[:, 0] += 5 * rng.normal(size=8)[y]
    classes = LocalClasses.of(y, np.zeros(400, int))
    fitted = ClassWhitening.of(X, classes, np.ones(8, bool))
    gain = np.linalg.norm(fitted.components, axis=1)
    assert gain[0] > 2 * gain[1]


def test_whitening_of_rows_that_do_not_differ_stays_finite():
    # constant columns and single rows must not make a singular matrix
    classes = LocalClasses.of(np.repeat([0, 1], 3), np.zeros(6, int))
    fitted = ClassWhitening.of(np.ones((6, 2)), classes, np.ones(2, bool))
    assert np.isfinite(fitted.transform(np.ones((6, 2)))).all()


def test_whitening_ignores_the_cells_that_are_held_out(table):
    # otherwise held-out classes would look as well separated as seen ones
    X, classes = table
    seen = np.array([True, True, True, True, False, False])
    moved = X + 100.0 * ~seen[classes.row_cell][:, None]
    before, after = (ClassWhitening.of(rows, classes, seen) for rows in (X, moved))
    np.testing.assert_array_equal(before.components, after.components)


@pytest.mark.parametrize("n_classes", [4, 5, 9, 30])
def test_cross_fit_folds_of_one_table_hold_out_and_keep_two(n_classes):
    # an episode needs two held-out classes, the statistics two seen ones
    cells = LocalClasses.of(np.arange(n_classes), np.zeros(n_classes, int))
    folds = cross_fit_folds(cells, np.random.RandomState(0))
    assert folds.sum(1).min() >= 2
    assert (~folds).sum(1).min() >= 2


def test_cross_fit_folds_of_many_tasks_hold_out_whole_tasks_once():
    # classes of one task share rows' quirks, so a task is on one side
    tasks = np.repeat(np.arange(9), 3)
    cells = LocalClasses.of(np.arange(27), tasks)
    folds = cross_fit_folds(cells, np.random.RandomState(0))
    np.testing.assert_array_equal(folds.sum(0), 1)
    per_task = folds.reshape(4, 9, 3)
    assert (per_task.all(2) | ~per_task.any(2)).all()


def test_cross_fit_embeds_a_class_by_statistics_that_never_saw_it(table):
    # what the head learns from must look as new classes will
    X, classes = table
    held_out = np.array([[False, False, True, True, False, False]])
    fitted = cross_fit(X, classes, held_out)
    expected = ClassWhitening.of(X, classes, ~held_out[0]).transform(X)
    np.testing.assert_array_equal(fitted.X, expected)
    np.testing.assert_array_equal(fitted.is_scored, held_out[0])
    assert fitted.per_task.tolist() == [6]


def test_cross_fit_without_held_out_classes_scores_all_of_them(table):
    # two or three classes: nothing can be held out, and episodes must still count
    X, classes = table
    assert cross_fit(X, classes, np.zeros((1, 6), bool)).is_scored.all()
