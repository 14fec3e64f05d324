"""The closed-form embedding and the folds it is cross-fitted on."""

import numpy as np
import pytest

from sklearn_meta import whitening
from sklearn_meta.targets import LocalClasses
from sklearn_meta.whitening import (
    VIEWS,
    ClassWhitening,
    View,
    cross_fit,
    cross_fit_folds,
)


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


@pytest.mark.parametrize("in_units", [False, True])
def test_whitening_without_shrinkage_makes_covariances_diagonal(
    table, monkeypatch, in_units
):
    # definition: whiten within classes, then turn to the axes between them
    monkeypatch.setattr(whitening, "VIEWS", {"bare": View(in_units, 0.0)})
    monkeypatch.setattr(whitening, "BETWEEN_PSEUDO_CLASSES", 0)
    X, classes = table
    units = np.array([1.0, 5.0, 0.1])
    fitted = ClassWhitening.of(X, classes, np.ones(6, bool), units)
    found = fitted.transform(X, ["bare"]) * np.sqrt(1 + fitted.spread.mean())
    np.testing.assert_allclose(_within(found, classes.row_cell), np.eye(3), atol=1e-9)
    means = np.array([found[classes.row_cell == c].mean(0) for c in range(6)])
    np.testing.assert_allclose(np.cov(means.T), np.diag(fitted.spread[0]), atol=1e-8)


def test_whitening_pulled_all_the_way_keeps_to_the_units(table, monkeypatch):
    # where nothing is believed of a covariance, the units say what matters
    monkeypatch.setattr(whitening, "VIEWS", {"pulled": View(True, 1.0)})
    X, classes = table
    units = np.array([1.0, 5.0, 0.1])
    fitted = ClassWhitening.of(X, classes, np.ones(6, bool), units)
    white, plain = (fitted.transform(X[:9], [form]) for form in ("pulled", "plain"))
    ratio = np.linalg.norm(white, axis=1) / np.linalg.norm(plain, axis=1)
    np.testing.assert_allclose(ratio, ratio[0])


def test_whitened_rows_have_a_mean_square_of_about_one(table):
    # learners start from numbers that suppose it
    X, classes = table
    fitted = ClassWhitening.of(X, classes, np.ones(6, bool))
    for form in [*VIEWS, "white/between"]:
        assert 0.4 < np.mean(fitted.transform(X, [form]) ** 2) < 2.5


def test_whitening_gives_weight_to_directions_that_separate(rng, monkeypatch):
    # a feature that is noise must count less than one that tells classes apart
    monkeypatch.setattr(whitening, "BETWEEN_PSEUDO_CLASSES", 0)
    y = np.repeat(np.arange(40), 50)
    X = rng.normal(size=(2000, 2))
    X[:, 0] += 5 * rng.normal(size=40)[y]
    classes = LocalClasses.of(y, np.zeros(2000, int))
    fitted = ClassWhitening.of(X, classes, np.ones(40, bool))
    moved = fitted.transform(fitted.center + np.eye(2), ["white/between"])
    gain = np.linalg.norm(moved, axis=1)
    assert gain[0] > 2 * gain[1]


def test_transform_to_an_unknown_form_raises(table):
    # a misspelt form must not pass for another one
    X, classes = table
    fitted = ClassWhitening.of(X, classes, np.ones(6, bool))
    with pytest.raises(ValueError, match="between"):
        fitted.transform(X, ["between"])


def test_spread_is_the_same_in_all_rows_and_that_of_class_means(table):
    # what a head must know besides the whitened row
    X, classes = table
    fitted = ClassWhitening.of(X, classes, np.ones(6, bool))
    white, spread = np.hsplit(fitted.transform(X, ["white", "white/spread"]), 2)
    assert (spread == spread[0]).all()
    means = np.array([white[classes.row_cell == c].mean(0) for c in range(6)])
    largest = means.var(0).argmax()
    assert spread[0].argmax() == largest


def test_whitening_of_rows_that_do_not_differ_stays_finite():
    # constant columns and single rows must not make a singular matrix
    classes = LocalClasses.of(np.repeat([0, 1], 3), np.zeros(6, int))
    fitted = ClassWhitening.of(np.ones((6, 2)), classes, np.ones(2, bool))
    assert np.isfinite(fitted.transform(np.ones((6, 2)), list(VIEWS))).all()


def test_whitening_ignores_the_cells_that_are_held_out(table):
    # otherwise held-out classes would look as well separated as seen ones
    X, classes = table
    seen = np.array([True, True, True, True, False, False])
    moved = X + 100.0 * ~seen[classes.row_cell][:, None]
    before, after = (ClassWhitening.of(rows, classes, seen) for rows in (X, moved))
    np.testing.assert_array_equal(before.axes, after.axes)


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
