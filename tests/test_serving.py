"""Adapting and predicting in chunks: the chunks must not show."""

import pickle

import numpy as np
import pytest
import torch
from small_estimators import class_tasks, regression_tasks, small
from torch import nn

from sklearn_meta import MAMLRegressor, ModelBasedMetaClassifier, serving
from sklearn_meta.exceptions import DivergenceWarning
from sklearn_meta.functional.likelihoods import Gaussian
from sklearn_meta.serving import adapt_in_chunks, move_state, select_tasks

CPU = torch.device("cpu")


class MeanLearner(nn.Module):
    """Predict a task's mean target plus the row, in a nested state; count calls."""

    def __init__(self):
        super().__init__()
        self.n_adapted, self.n_asked = [], []

    def adapt(self, X_support, Y_support, support_mask):
        self.n_adapted.append(tuple(X_support.shape[:2]))
        total = (Y_support * support_mask.unsqueeze(-1)).sum((1, 2))
        return {"inner": {"mean": total / support_mask.sum(1)}}

    def query(self, state, X_query):
        self.n_asked.append(tuple(X_query.shape[:2]))
        mean = state["inner"]["mean"].unsqueeze(1) + X_query[..., 0]
        return Gaussian(mean, torch.ones_like(mean))


class MatchingLearner(nn.Module):
    """Keep the support rows, and predict their sum."""

    def adapt(self, X_support, Y_support, support_mask):
        return {"rows": X_support}

    def query(self, state, X_query):
        return (
            state["rows"].sum((1, 2), keepdim=True)[..., 0].expand_as(X_query[..., 0])
        )


@pytest.fixture
def support(rng):
    """Seven ragged tasks with one feature, and the mean target of each."""
    sizes = np.array([3, 1, 5, 2, 8, 1, 4])
    X, Y = rng.normal(size=(sizes.sum(), 1)), rng.normal(size=(sizes.sum(), 1))
    means = [part.mean() for part in np.split(Y[:, 0], np.cumsum(sizes)[:-1])]
    return X, Y, sizes, np.array(means)


@pytest.mark.parametrize("max_rows", [1, 3, 7, 10_000])
def test_adapted_tasks_when_chunks_are_small_predict_the_same(
    support, max_rows, monkeypatch, rng
):
    """A bound on memory is no bound on what is right."""
    for limit in ("MAX_ROWS", "MAX_CACHED_ROWS", "MAX_ROWS_BY_TASK"):
        monkeypatch.setattr(serving, limit, max_rows)
    X, Y, sizes, means = support
    learner = MeanLearner()
    adapted = adapt_in_chunks(learner, X, Y, sizes, CPU)
    codes = rng.integers(0, 7, size=40)
    rows = rng.normal(size=(40, 1))
    mean, std = adapted.query(learner, rows, codes, CPU)
    np.testing.assert_allclose(mean, means[codes] + rows[:, 0], atol=1e-12)
    assert (std == 1).all()


@pytest.mark.parametrize("max_rows", [4, 20])
def test_chunks_when_bounded_hold_no_more_rows(support, max_rows, monkeypatch, rng):
    """Rows of one task are cut too; the support of one is not."""
    for limit in ("MAX_ROWS", "MAX_CACHED_ROWS", "MAX_ROWS_BY_TASK"):
        monkeypatch.setattr(serving, limit, max_rows)
    X, Y, sizes, _ = support
    learner = MeanLearner()
    adapted = adapt_in_chunks(learner, X, Y, sizes, CPU)
    assert all(n == 1 or n * size <= max_rows for n, size in learner.n_adapted)
    adapted.query(learner, rng.normal(size=(90, 1)), np.full(90, 4), CPU)
    assert all(n * size <= max_rows for n, size in learner.n_asked)


@pytest.mark.parametrize("view", [np.s_[::-1], np.s_[:, ::-1], np.s_[:]])
def test_one_task_when_its_arrays_are_odd_or_change_later_is_as_adapted(view, rng):
    """A state may hold support rows, so they must not be the caller's."""
    learner = MatchingLearner()
    X = rng.normal(size=(4, 2))[view]
    expected = X.sum()
    X.flags.writeable = False
    adapted = adapt_in_chunks(learner, X, np.zeros((4, 1)), np.array([4]), CPU)
    X.flags.writeable = True
    X[:] = 0
    (found,) = adapted.query(learner, np.zeros((3, 2))[view], np.zeros(3, int), CPU)
    np.testing.assert_allclose(found, np.full(3, expected))


def test_many_tasks_when_small_go_through_in_one_call(support, rng):
    """No Python loop over tasks."""
    X, Y, sizes, _ = support
    learner = MeanLearner()
    adapted = adapt_in_chunks(learner, X, Y, sizes, CPU)
    adapted.query(learner, rng.normal(size=(30, 1)), rng.integers(0, 7, 30), CPU)
    assert learner.n_adapted == [(7, 8)]
    assert len(learner.n_asked) == 1


def test_query_of_one_task_reads_its_state_only(support):
    """A single task does not pay for the others."""
    X, Y, sizes, means = support
    learner = MeanLearner()
    adapted = adapt_in_chunks(learner, X, Y, sizes, CPU)
    mean, _ = adapted.query(learner, np.zeros((2, 1)), np.array([3, 3]), CPU)
    assert learner.n_asked == [(1, 2)]
    np.testing.assert_allclose(mean, means[3])


def test_select_tasks_walks_the_tree():
    """A state is a tree of tensors, tasks first."""
    state = {"a": torch.arange(3), "b": {"c": torch.arange(6).reshape(3, 2)}}
    chosen = select_tasks(state, torch.tensor([2, 0]))
    assert chosen["a"].tolist() == [2, 0]
    assert chosen["b"]["c"].tolist() == [[4, 5], [0, 1]]
    with pytest.raises(TypeError, match="tree of tensors in dicts, got list"):
        select_tasks({"a": [1]}, torch.tensor([0]))


def test_move_state_keeps_what_is_no_tensor():
    """An optimizer's state has numbers and lists too."""
    state = {"state": {0: {"step": torch.tensor(1.0)}}, "groups": [{"lr": 0.1}]}
    moved = move_state(state, CPU)
    assert moved == state
    assert moved is not state


def test_nothing_builds_a_graph(support):
    """Serving must not keep the past alive."""
    X, Y, sizes, _ = support
    learner = MeanLearner()
    learner.shift = nn.Parameter(torch.tensor(1.0))
    plain = learner.adapt
    learner.adapt = lambda *parts: {
        "inner": {"mean": learner.shift * plain(*parts)["inner"]["mean"]}
    }
    adapted = adapt_in_chunks(learner, X, Y, sizes, CPU)
    assert not adapted.states[0]["inner"]["mean"].requires_grad


@pytest.mark.parametrize("max_bytes", [0, 9000])
@pytest.mark.parametrize("variant", ["maml", "metasgd"])
def test_adapt_when_states_would_fill_the_memory_then_predicts_the_same(
    variant, max_bytes, monkeypatch
):
    """Beyond the bound a task keeps its rows, and adapts again when it is asked."""
    tasks = regression_tasks(20)
    X, _, ids = tasks.to_flat()
    model = small(MAMLRegressor, variant=variant, adapt_steps=3)
    model.set_params(hidden_layer_sizes=(32,)).fit(tasks)
    expected = model.adapt_tasks(tasks).predict(X, tasks=ids)
    monkeypatch.setattr(serving, "MAX_ROWS_BY_TASK", 30)
    monkeypatch.setattr(serving, "MAX_CACHED_ROWS", 30)
    monkeypatch.setattr(serving, "MAX_STATE_BYTES", max_bytes)
    model.adapt_tasks(tasks)
    kept = [serving.SUPPORT not in state for state in model.adapted_.states]
    assert not all(kept) and any(kept) == (max_bytes > 0)
    np.testing.assert_allclose(model.predict(X, tasks=ids), expected, rtol=1e-10)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(loaded.predict(X, tasks=ids), expected, rtol=1e-10)


def test_adapt_when_states_are_not_kept_still_warns_of_divergence(monkeypatch):
    """Who is warned only when asking is warned too late."""
    monkeypatch.setattr(serving, "MAX_STATE_BYTES", 0)
    (X, y), *others = regression_tasks()
    model = small(MAMLRegressor, standardize=False).fit([(X, y), *others])
    with pytest.warns(DivergenceWarning, match="diverged on 1 of 2 tasks"):
        model.adapt_tasks([(X, y), (X * 1e4, y)])


def test_adapt_when_states_are_smaller_than_the_support_keeps_them(monkeypatch):
    """A mean of many rows takes less memory than the rows."""
    monkeypatch.setattr(serving, "MAX_STATE_BYTES", 0)
    tasks = class_tasks()
    model = small(ModelBasedMetaClassifier, hidden_size=2, n_heads=1).fit(tasks)
    model.adapt_tasks(tasks)
    assert all(serving.SUPPORT not in state for state in model.adapted_.states)
