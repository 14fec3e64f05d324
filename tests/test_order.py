"""Episodes whose support is the first rows of a task, for tables that grow in time."""

import numpy as np
import pytest
import torch
from sklearn.base import is_classifier
from small_estimators import TRAINED_ESTIMATORS, class_tasks, regression_tasks, small

from sklearn_meta import (
    MetaStackingClassifier,
    MetaStackingRegressor,
    TaskEnsembleRegressor,
)
from sklearn_meta.episodes import ClassEpisodeSampler, RowEpisodeSampler
from sklearn_meta.estimators.episode_rows import draw_episodes
from sklearn_meta.held_out import class_folds, task_folds
from sklearn_meta.tasks import TaskRows

SEED = torch.Generator().manual_seed(0)
SIZES = np.array([4, 9, 2])
START_OF_ROW = np.repeat(np.cumsum(SIZES) - SIZES, SIZES)


def test_row_episodes_when_first_split_tasks_in_time():
    """Queries are later rows of the same task; a small task gives fewer of both."""
    X = torch.zeros(SIZES.sum(), 1)
    sampler = RowEpisodeSampler(X, X, SIZES, (3, 3), 4, order="first")
    rows = sampler.sample(30, SEED)
    for support, is_support, query, is_query in zip(*rows, strict=True):
        own, later = support[is_support], query[is_query]
        start = START_OF_ROW[own[0]]
        np.testing.assert_array_equal(own, start + np.arange(len(own)))
        assert (later > own.max()).all()
        assert (START_OF_ROW[later] == start).all()
        assert len(own) == min(3, SIZES[np.unique(START_OF_ROW) == start][0] - 1)


def test_row_episodes_when_first_pad_with_rows_that_exist():
    """The last task has nothing behind it that could be looked up."""
    X = torch.arange(15.0).reshape(-1, 1)
    sampler = RowEpisodeSampler(X, X, SIZES, (1, 8), 8, order="first")
    episodes = sampler.gather(sampler.sample(30, SEED))
    assert episodes.X_support.isfinite().all()


def test_class_episodes_when_first_take_the_first_rows_of_classes():
    """Shots are counted per class."""
    X = torch.arange(12.0).reshape(-1, 1)
    sampler = ClassEpisodeSampler(
        X, np.array([3, 4, 5]), np.array([3]), 2, (2, 2), 1, order="first"
    )
    rows = sampler.sample(20, SEED)
    assert set(rows.support.flatten().tolist()) == {0, 1, 3, 4, 7, 8}
    assert not np.isin(rows.query[rows.query_mask], [0, 1, 3, 4, 7, 8]).any()


def test_folds_when_first_judge_by_the_first_rows():
    """Weights of a mixture must come from supports like those it will get."""
    n = 8
    y = np.tile(np.arange(2), 6 * n // 2)
    rows = TaskRows(np.zeros((6 * n, 1)), y, np.full(6, n), list(range(6)))
    rng = np.random.RandomState(0)
    for fold in task_folds(rows, 3, [1, 3], 4, rng, "first"):
        for episodes in fold.episodes:
            assert (episodes.support % n < episodes.n_shots).all()
            assert (episodes.query % n >= episodes.n_shots).all()
    for fold in class_folds(rows, [1, 2], 2, 4, rng, "first"):
        for episodes in fold.episodes:
            assert (episodes.support % n < 2 * episodes.n_shots).all()
            assert (episodes.query % n >= 2 * episodes.n_shots).all()


def test_draw_episodes_when_first_takes_the_first_rows():
    """Ensembles learn their prior from the same kind of supports."""
    rows = TaskRows(np.zeros((15, 1)), np.zeros(15), SIZES, [0, 1, 2])
    draws = draw_episodes(rows, (1, 1), 0, "first")
    assert set(draws.support.flatten()) == set(np.cumsum(SIZES) - SIZES)


@pytest.mark.parametrize(
    "estimator", [small(e, order="first") for e in TRAINED_ESTIMATORS], ids=repr
)
def test_fit_when_first_learns_something_else(estimator):
    """No estimator with the parameter may leave it unread."""
    tasks = class_tasks(12) if is_classifier(estimator) else regression_tasks(12)
    first = estimator.fit(tasks).loss_curve_
    usual = estimator.set_params(order="random").fit(tasks).loss_curve_
    assert first != usual


@pytest.mark.parametrize(
    "estimator",
    [MetaStackingClassifier(), MetaStackingRegressor(), TaskEnsembleRegressor()],
    ids=repr,
)
def test_order_when_unknown_says_what_is_known(estimator):
    """A slip must not mean "random"."""
    tasks = class_tasks(4) if is_classifier(estimator) else regression_tasks(4)
    with pytest.raises(ValueError, match="'order' parameter"):
        estimator.set_params(order="last").fit(tasks)


@pytest.mark.parametrize("label_mode", ["shared", "task"])
def test_members_of_a_mixture_are_given_its_order(label_mode):
    """But for members that draw no episodes."""
    mixture = MetaStackingClassifier(order="first")
    mixture.label_mode_ = label_mode
    orders = [m.order for _, m in mixture._default_members() if hasattr(m, "order")]
    assert orders
    assert set(orders) == {"first"}
