"""Members of a mixture that adapt to one task together."""

import copy
import pickle

import numpy as np
import pytest
from small_estimators import regression_tasks

from sklearn_meta import DeepKernelRegressor, MetaStackingRegressor, PooledRegressor
from sklearn_meta.estimators import kernel_teams

FEW_STEPS = {"max_iter": 4, "hidden_layer_sizes": (5,), "pooled_estimator": "auto"}


@pytest.fixture(scope="module")
def fitted():
    members = [
        ("pooled", PooledRegressor()),
        ("kernel", DeepKernelRegressor(**FEW_STEPS)),
        ("zero", DeepKernelRegressor(mean="zero", **FEW_STEPS)),
        ("cold", DeepKernelRegressor(init="random", **FEW_STEPS)),
    ]
    model = MetaStackingRegressor(members, random_state=0).fit(regression_tasks(12))
    model.weights_[:] = 1 / len(members)  # so that all of them matter
    return model


def test_adapt_to_one_task_equals_adapt_to_many(fitted):
    """Many tasks go through members one by one."""
    tasks = regression_tasks(3, seed=1)
    X, y, ids = tasks.to_flat()
    mean, std = fitted.adapt_tasks(X, y, ids).predict(X, tasks=ids, return_std=True)
    for task, name in zip(tasks, tasks.names, strict=True):
        own = fitted.adapt(*task).predict(task.X, return_std=True)
        np.testing.assert_allclose(own[0], mean[ids == name], rtol=1e-9)
        np.testing.assert_allclose(own[1], std[ids == name], rtol=1e-9)


def test_teams_when_rows_are_many_go_one_by_one(fitted, monkeypatch):
    """Then the arithmetic is what takes time, and memory."""
    X, y = regression_tasks(1, seed=1)[0]
    expected = fitted.adapt(X, y).predict(X)
    calls = []
    whole = kernel_teams._adapt_team
    monkeypatch.setattr(
        kernel_teams,
        "_adapt_team",
        lambda *args: calls.append(len(args[0])) or whole(*args),
    )
    fitted.adapt(X, y)
    assert calls == [9]  # three members of three folds each
    monkeypatch.setattr(kernel_teams, "MAX_TEAM_ROWS", 10)
    np.testing.assert_allclose(fitted.adapt(X, y).predict(X), expected, rtol=1e-9)
    assert len(calls) == 1


def test_pickle_of_a_member_leaves_the_states_of_its_team_behind(fitted):
    """Adapted, they are views of one tensor; a file is to hold a member's own part."""
    X, y = regression_tasks(1, seed=1)[0]
    models, member, _ = fitted.adapt(X, y).adapted_
    model = models[member.tolist().index(1)]
    alone = copy.copy(model)
    own = {name: part.clone() for name, part in model.adapted_.states[0].items()}
    alone.adapted_ = model.adapted_._replace(states=[own])
    assert len(pickle.dumps(model)) == len(pickle.dumps(alone))
