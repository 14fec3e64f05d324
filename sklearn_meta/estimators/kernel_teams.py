"""Gaussian process members of a mixture, adapted to one task and asked all at once.

With one task and few rows, calls cost more than arithmetic. Members of one shape go
through a :class:`~sklearn_meta.learners.KernelTeam`, in which each member's task is the
same support as that member reads it.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sklearn_meta.estimators.kernel import DeepKernelRegressor
from sklearn_meta.learners.kernel_team import team_of, team_shape
from sklearn_meta.serving import AdaptedTasks, adapt_to_stack
from sklearn_meta.tasks import TaskRows
from sklearn_meta.training import one_thread

__all__ = ["adapt_members", "predict_members"]

# all rows of a team go through it at once; with more, calls no longer matter
MAX_TEAM_ROWS = 4096
_FIRST = np.zeros(1, int)


def adapt_members(models: Sequence[Any], rows: Sequence[TaskRows]) -> list[Any]:
    """Return copies of fitted members, adapted to tasks.

    Parameters
    ----------
    models : sequence of estimator
        Fitted members.
    rows : sequence of TaskRows
        The same support rows, with the columns that each member reads.

    Returns
    -------
    adapted : list of estimator
        In the order of the models.
    """
    adapted = [copy.copy(model) for model in models]
    is_one_task = len(rows[0].sizes) == 1
    for places in _teams(models, [own.X for own in rows], is_one_task):
        if len(places) == 1:
            adapted[places[0]]._adapt_to(rows[places[0]])
        else:
            _adapt_team([adapted[p] for p in places], [rows[p] for p in places])
    return adapted


def predict_members(
    models: Sequence[Any], X: Sequence[np.ndarray], codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what adapted regressors say of rows, in the unit of the target.

    Parameters
    ----------
    models : sequence of estimator
        Adapted members.
    X : sequence of ndarray of shape (n_rows, n_columns)
        The rows, with the columns that each member reads.
    codes : ndarray of shape (n_rows,)
        The position of each row's task.

    Returns
    -------
    means, stds : ndarray of shape (n_members, n_rows)
        Of their Gaussians.
    """
    said = np.empty((2, len(models), len(codes)))
    is_one_task = models[0].task_names_ is None or len(models[0].task_names_) == 1
    for places in _teams(models, X, is_one_task):
        if len(places) == 1:
            said[:, places[0]] = models[places[0]]._mean_and_std(X[places[0]], codes)
        else:
            own = [models[p] for p in places], [X[p] for p in places]
            said[:, places] = _ask_team(*own)
    return said[0], said[1]


def _teams(
    models: Sequence[Any], X: Sequence[np.ndarray], is_one_task: bool
) -> list[list[int]]:
    """Return the places of members that go together; most go by themselves.

    X holds the rows (n_rows, n_columns) that each member reads.
    """
    teams: dict[Any, list[int]] = {}
    for place, (model, own) in enumerate(zip(models, X, strict=True)):
        shape = None
        if is_one_task and isinstance(model, DeepKernelRegressor):
            shape = team_shape(model.learner_)
        key = place if shape is None else (shape, own.shape, model.device_)
        teams.setdefault(key, []).append(place)
    few = [len(own) * len(models) <= MAX_TEAM_ROWS for own in X]
    return [
        part
        for places in teams.values()
        for part in ([places] if few[places[0]] else [[p] for p in places])
    ]


def _adapt_team(models: list[Any], rows: list[TaskRows]) -> None:
    """Adapt members of one shape to one task, each as it reads the task."""
    rows = [m._usable_support(own) for m, own in zip(models, rows, strict=True)]
    encoded = [m._encode_support(own) for m, own in zip(models, rows, strict=True)]
    device = models[0].device_
    with one_thread(device):
        together = adapt_to_stack(
            team_of([model.learner_ for model in models]),
            np.concatenate([m._scale(r.X) for m, r in zip(models, rows, strict=True)]),
            np.concatenate([targets for targets, _ in encoded]),
            np.repeat(rows[0].sizes, len(models)),
            device,
        )
    names, parts = zip(*together.items(), strict=True)
    # views: copies of all parts for each member would take as long as the mathematics
    states = zip(*(part.chunk(len(models)) for part in parts), strict=True)
    for model, own, (_, attributes), state in zip(
        models, rows, encoded, states, strict=True
    ):
        own_state = dict(zip(names, state, strict=True))
        model._keep_adapted(AdaptedTasks([own_state], _FIRST, _FIRST), attributes, own)


def _ask_team(models: list[Any], X: list[np.ndarray]) -> np.ndarray:
    """Return means and standard deviations, (2, n_members, n_rows)."""
    states = [model.adapted_.states[0] for model in models]
    joined = {name: torch.cat([s[name] for s in states]) for name in states[0]}
    slots = np.arange(len(models))
    together = AdaptedTasks([joined], np.zeros_like(slots), slots)
    device = models[0].device_
    with one_thread(device):
        parts = together.query(
            team_of([model.learner_ for model in models]),
            np.concatenate([m._scale(own) for m, own in zip(models, X, strict=True)]),
            np.repeat(slots, len(X[0])),
            device,
        )
    means, stds = (np.split(part, len(models)) for part in parts)
    said = [m._in_target_unit(*s) for m, *s in zip(models, means, stds, X, strict=True)]
    return np.stack(said, axis=1)
