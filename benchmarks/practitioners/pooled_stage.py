"""The pooled models of a split, on which several methods are built.

Boosting of the best of three settings, ridge or logistic regression, and their mean;
each with predictions of training rows by models that did not see the rows' tasks.
"""

import time
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from episode_scores import clip_probabilities
from held_out import REGRESSION
from sklearn.base import clone
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold

MAX_ROWS = 25_000
N_FOLDS = 4
# learning rate, leaves, rows of a leaf, L2 penalty, trees: from busy to calm
BOOSTING = (
    (0.1, 31, 20, 0.0, 100),
    (0.06, 8, 20, 1.0, 150),
    (0.05, 4, 40, 5.0, 120),
)


class PooledModel(NamedTuple):
    """Predictions of a pooled model, with a column per class or one of targets."""

    out_of_fold: np.ndarray  # of the rows it was fitted to
    predicted: np.ndarray  # of all rows


class PooledStage(NamedTuple):
    """The pooled models of a split."""

    rows: np.ndarray
    models: dict
    booster: object
    seconds: float


def boosting(split, settings):
    """Return gradient boosting with one of the settings."""
    regression = split.kind == REGRESSION
    kind = (
        HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    )
    rate, n_leaves, leaf_rows, penalty, n_trees = settings
    return kind(
        categorical_features=split.tree[1] if split.tree[1].any() else None,
        learning_rate=rate,
        max_leaf_nodes=n_leaves,
        min_samples_leaf=leaf_rows,
        l2_regularization=penalty,
        max_iter=n_trees,
        early_stopping=False,
        random_state=0,
    )


def linear_model(split):
    """Return ridge or logistic regression."""
    if split.kind == REGRESSION:
        return RidgeCV(np.logspace(-1, 4, 8))
    return LogisticRegression(C=0.3, max_iter=1000)


@lru_cache(maxsize=1)
def pooled_stage(split):
    """Fit boosting and a linear model, and choose among them and their mean."""
    start = time.process_time()
    rows = split.some_rows(MAX_ROWS)
    target = encoded(split, rows)
    boosters = [boosting(split, settings) for settings in BOOSTING]
    held_out = [out_of_fold(b, split.tree[0], split, rows) for b in boosters]
    booster, said = min(
        zip(boosters, held_out, strict=True), key=lambda pair: loss(pair[1], target)
    )
    line = linear_model(split)
    models = {
        "boosting": _refitted(booster, split.tree[0], split, rows, said),
        "linear": _refitted(
            line,
            split.linear,
            split,
            rows,
            out_of_fold(line, split.linear, split, rows),
        ),
    }
    pairs = zip(*models.values(), strict=True)
    models["mean"] = PooledModel(*(np.mean(pair, axis=0) for pair in pairs))
    models["best"] = min(models.values(), key=lambda m: loss(m.out_of_fold, target))
    return PooledStage(rows, models, booster, time.process_time() - start)


def loss(predicted, target):
    """Return the squared error, or the log-loss where targets are one-hot classes."""
    if target.shape[1] == 1:
        return np.mean((predicted - target) ** 2)
    return -np.mean(np.log((predicted * target).sum(1)))


def encoded(split, rows):
    """Return targets of shape (n_rows, 1), or one-hot classes."""
    if split.kind == REGRESSION:
        return split.y[rows][:, None]
    return np.eye(split.n_classes)[split.y[rows]]


def ask(model, columns, split):
    """Return predictions with a column per class of the split, or one of targets."""
    if split.kind == REGRESSION:
        return model.predict(columns)[:, None]
    probabilities = np.zeros((len(columns), split.n_classes))
    probabilities[:, model.classes_] = model.predict_proba(columns)
    return clip_probabilities(probabilities)


def out_of_fold(model, columns, split, rows):
    """Return predictions of rows whose task the model was not fitted to."""
    predicted = np.empty((len(rows), max(1, split.n_classes)))
    folds = GroupKFold(N_FOLDS).split(rows, groups=split.task[rows])
    for fit, ask_for in folds:
        fitted = clone(model).fit(columns[rows[fit]], split.y[rows[fit]])
        predicted[ask_for] = ask(fitted, columns[rows[ask_for]], split)
    return predicted


def _refitted(model, columns, split, rows, held_out):
    """Return out-of-fold predictions, and those of the model of all rows."""
    fitted = clone(model).fit(columns[rows], split.y[rows])
    return PooledModel(held_out, ask(fitted, columns, split))
