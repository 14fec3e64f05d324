"""Models of new classes, fitted to the support; some are tuned on training classes."""

from typing import NamedTuple

import numpy as np
from episode_scores import score_classes
from held_out import CLASS_QUERIES, N_WAYS, draw_ways
from method import Method
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

PENALTIES = (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SHRINKAGE = 0.1
N_FOLDS, FOLD_EPISODES = 3, 4


class OnFeatures(Method):
    """A clone of an estimator for each support, on one kind of features.

    Parameters
    ----------
    estimator : estimator
        The classifier.
    features : callable
        From a split and the rows to learn from to the columns of all rows.
    least_shots : int, default=1
        Fewest support rows per class that it can be fitted to.
    """

    def __init__(self, estimator, features, least_shots=1):
        self.estimator, self.features = estimator, features
        self.least_shots = least_shots

    def suits(self, split, k):
        """Return whether the support is large enough."""
        return k >= self.least_shots

    def fit(self, split):
        """Learn the features' scale."""
        self.columns = self.features(split, split.train)

    def predict(self, split, k):
        """Predict the query rows of each episode, columns in the order of classes."""
        model = self._model(k)
        return [
            _probabilities(model, self.columns, split.y, e) for e in split.episodes[k]
        ]

    def _model(self, k):
        """Return the unfitted model for a number of support rows."""
        return self.estimator


class TunedLogistic(OnFeatures):
    """Logistic regression whose penalty is chosen per number of support rows.

    Training classes are split in three; features are scaled without a third of them,
    and the log-loss of that third's rows decides, in episodes that also have others.
    """

    def __init__(self, features):
        super().__init__(LogisticRegression(max_iter=2000), features)

    def fit(self, split):
        """Choose the penalty for each number of support rows."""
        super().fit(split)
        folds = list(_folds(split))
        self.penalty = {
            k: min(PENALTIES, key=lambda c, k=k: self._loss(split, folds, k, c))
            for k in split.episodes
        }

    def _model(self, k):
        return clone(self.estimator).set_params(C=self.penalty[k])

    def _loss(self, split, folds, k, penalty):
        """Return the log-loss of rows of held-out training classes."""
        model = clone(self.estimator).set_params(C=penalty)
        losses = []
        for fold in folds:
            columns = self.features(split, fold.known)
            for episode in fold.episodes[k]:
                p = _probabilities(model, columns, split.y, episode)
                target = _places(split.y, episode)
                counted = np.isin(split.y[episode.query], fold.held)
                losses.append(score_classes(p[counted], target[counted])[0])
        return np.mean(losses)


class Fold(NamedTuple):
    """Training classes that are held out, the other rows, and episodes of both."""

    held: np.ndarray
    known: np.ndarray
    episodes: dict


def _folds(split):
    """Yield folds of the training classes."""
    rng = np.random.default_rng([split.repeat, 1])
    classes = rng.permutation(np.unique(split.y[split.train]))
    rows = {c: np.flatnonzero(split.y == c) for c in classes}
    for held in np.array_split(classes, N_FOLDS):
        others = np.setdiff1d(classes, held)
        known = split.train[np.isin(split.y[split.train], others)]
        episodes = {
            k: [_draw(held, others, rows, k, rng) for _ in range(FOLD_EPISODES)]
            for k in split.episodes
        }
        yield Fold(held, known, episodes)


def _draw(held, others, rows, k, rng):
    """Draw an episode of held-out classes, filled up with others."""
    held = rng.permutation(held)[:N_WAYS]
    ways = np.concatenate([held, rng.permutation(others)[: N_WAYS - len(held)]])
    return draw_ways(ways, rows, k, rng, CLASS_QUERIES)


def _probabilities(estimator, columns, y, episode):
    """Fit to the support and return probabilities of the query rows."""
    model = clone(estimator).fit(columns[episode.support], y[episode.support])
    return model.predict_proba(columns[episode.query])


def _places(y, episode):
    """Return the place of each query row's class among those of the support."""
    return np.searchsorted(np.unique(y[episode.support]), y[episode.query])


def unscaled(split, rows):
    """Return the columns as they are."""
    return split.X.to_numpy(float)


def scaled(split, rows):
    """Return standardised columns."""
    X = split.X.to_numpy(float)
    spread = X[rows].std(0)
    return ((X - X[rows].mean(0)) / np.where(spread > 0, spread, 1))[:, spread > 0]


def whitened(split, rows):
    """Return columns whose covariance within classes is one."""
    X, y = scaled(split, rows), split.y[rows]
    within = np.mean([np.cov(X[rows][y == c].T) for c in np.unique(y)], axis=0)
    ridge = SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    values, vectors = np.linalg.eigh((1 - SHRINKAGE) * within + ridge)
    return X @ (vectors / np.sqrt(values))
