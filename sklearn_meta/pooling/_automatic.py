"""The choice of a pooled model by its loss on tasks that it did not see."""

from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_meta.pooling._cross_fit import (
    SMALLEST_PROBABILITY,
    fit_member,
    folds_by_task,
    out_of_fold,
)
from sklearn_meta.tasks import TaskRows

RIDGE_PENALTIES = np.logspace(-1, 4, 8)
LOGISTIC_C = 0.3
MAX_TREES = 150
# the number of trees is chosen among multiples of it
TREE_STEP = 10
BOOSTING = (
    {"learning_rate": 0.1, "max_leaf_nodes": 31, "min_samples_leaf": 20},
    {"learning_rate": 0.1, "max_leaf_nodes": 6, "min_samples_leaf": 20},
)


class Candidate(NamedTuple):
    """An unfitted estimator and what it says of tasks that it did not see."""

    name: str
    estimator: Any
    said: np.ndarray


def choose_pooled(rows: TaskRows, classes: np.ndarray | None, seed: int) -> Candidate:
    """Return a linear model, gradient boosting or their mean, the best out of fold.

    Parameters
    ----------
    rows : TaskRows
        The meta-training rows.
    classes : ndarray of shape (n_classes,) or None
        The sorted labels; None for regression.
    seed : int
        Seed of what is random in fitting.

    Returns
    -------
    chosen : Candidate
        With the least squared error or log-loss on the rows of tasks left out.
    """
    linear = Candidate("linear", _linear(classes), np.empty(0))
    linear = linear._replace(said=out_of_fold(linear.estimator, rows, classes))
    boosting = _best_boosting(rows, classes, seed)
    parts = [(part.name, part.estimator) for part in (linear, boosting)]
    mean = Candidate(
        "mean",
        VotingRegressor(parts)
        if classes is None
        else VotingClassifier(parts, voting="soft"),
        (linear.said + boosting.said) / 2,
    )
    candidates = [linear, boosting, mean]
    losses = [_loss(candidate.said, rows.y, classes) for candidate in candidates]
    return candidates[int(np.argmin(losses))]


def _linear(classes: np.ndarray | None) -> Any:
    """Return a linear model of standardised features."""
    if classes is None:
        return make_pipeline(StandardScaler(), RidgeCV(RIDGE_PENALTIES))
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=LOGISTIC_C, max_iter=1000)
    )


def _best_boosting(rows: TaskRows, classes: np.ndarray | None, seed: int) -> Candidate:
    """Return gradient boosting of the size of trees and with as many as are best."""
    kind = (
        HistGradientBoostingRegressor
        if classes is None
        else HistGradientBoostingClassifier
    )
    folds = folds_by_task(rows)
    found = []
    for options in BOOSTING:
        estimator = kind(
            max_iter=MAX_TREES, early_stopping=False, random_state=seed, **options
        )
        stages = _staged_out_of_fold(estimator, rows, folds, classes)
        losses = [_loss(said, rows.y, classes) for said in stages]
        best = int(np.argmin(losses))
        estimator.set_params(max_iter=TREE_STEP * (best + 1))
        found.append((losses[best], estimator, stages[best]))
    _, estimator, said = min(found, key=lambda candidate: candidate[0])
    return Candidate("boosting", estimator, said)


def _staged_out_of_fold(
    estimator: Any, rows: TaskRows, folds: list, classes: np.ndarray | None
) -> np.ndarray:
    """Return what more and more trees say of tasks left out, (n_stages, n_rows, ...).

    All numbers of trees are tried at the cost of the largest.
    """
    n_stages = MAX_TREES // TREE_STEP
    stages = np.zeros(
        (n_stages, len(rows.y), *([] if classes is None else [len(classes)]))
    )
    for train, held_out in folds:
        model = fit_member(estimator, rows.X[train], rows.y[train])
        X = rows.X[held_out]
        if classes is None:
            stages[:, held_out] = list(_every(model.staged_predict(X)))
            continue
        # a fold may lack classes, even all but one
        columns = np.searchsorted(classes, model.classes_)
        staged = getattr(model, "staged_predict_proba", None)
        said = (
            [model.predict_proba(X)] * n_stages if staged is None else _every(staged(X))
        )
        for stage, proba in zip(stages, said, strict=True):
            stage[np.ix_(held_out, columns)] = proba
    return stages


def _every(stages: Any) -> Any:
    """Return every TREE_STEP-th stage."""
    return islice(stages, TREE_STEP - 1, None, TREE_STEP)


def _loss(said: np.ndarray, y: np.ndarray, classes: np.ndarray | None) -> float:
    """Return the mean squared error of (n_rows,) or log-loss of (n_rows, n_classes)."""
    if classes is None:
        return float(np.mean((said - y) ** 2))
    own = said[np.arange(len(y)), np.searchsorted(classes, y)]
    return float(-np.mean(np.log(own.clip(SMALLEST_PROBABILITY, 1))))
