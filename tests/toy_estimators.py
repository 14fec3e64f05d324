"""Small estimators that adapt, for tests that need to know the answer by hand."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LinearRegression
from sklearn.utils.validation import check_is_fitted

from sklearn_meta.tasks import as_task_collection, is_task_sequence


def flat(X, y, tasks):
    """Return a sequence of tasks as flat rows with ids."""
    if is_task_sequence(X):
        return as_task_collection(X, caller="toy").to_flat()
    return X, y, tasks


class Toy(BaseEstimator):
    """`fit`, `adapt` and `adapt_tasks`, on top of what a toy learns of a task."""

    __metadata_request__fit = {"tasks": True}
    __metadata_request__predict = {"tasks": True}
    __metadata_request__predict_proba = {"tasks": True}

    def adapt(self, X_support, y_support):
        return self.adapt_tasks(X_support, y_support, np.zeros(len(X_support)))

    def adapt_tasks(self, X, y, tasks):
        check_is_fitted(self)
        X, y, tasks = np.asarray(X), np.asarray(y), np.asarray(tasks)
        known = {i: self._learn(X[tasks == i], y[tasks == i]) for i in set(tasks)}
        self.known_ = known
        self.n_adapt_calls_ = getattr(self, "n_adapt_calls_", 0) + 1
        return self

    def _states(self, X, tasks):
        return [self.known_[i] for i in (np.zeros(len(X)) if tasks is None else tasks)]


class ShiftRegressor(RegressorMixin, Toy):
    """One line for all tasks, and a shift for each, shrunken by `prior_rows`."""

    def __init__(self, prior_rows=0.0):
        self.prior_rows = prior_rows

    def fit(self, X, y=None, tasks=None):
        X, y, tasks = flat(X, y, tasks)
        self.n_tasks_ = 0 if tasks is None else len(set(tasks))
        self.line_ = LinearRegression().fit(X, y)
        return self

    def _learn(self, X, y):
        return (y - self.line_.predict(X)).sum() / (len(y) + self.prior_rows)

    def predict(self, X, return_std=False, tasks=None):
        X = np.asarray(X)
        mean = self.line_.predict(X) + np.array(self._states(X, tasks))
        return (mean, np.ones(len(X))) if return_std else mean


class CentroidClassifier(ClassifierMixin, Toy):
    """The nearest centre of a class in the support rows of the task."""

    def __init__(self, temperature=1.0):
        self.temperature = temperature

    def fit(self, X, y=None, tasks=None):
        X, y, tasks = flat(X, y, tasks)
        self.n_tasks_ = 0 if tasks is None else len(set(tasks))
        self.classes_ = np.unique(y)
        return self

    def _learn(self, X, y):
        centres = [X[y == c].mean(0) if c in y else X.mean(0) for c in self.classes_]
        return np.array(centres)

    def predict_proba(self, X, tasks=None):
        X = np.asarray(X)
        centres = np.array(self._states(X, tasks))  # (n_rows, n_classes, n_features)
        score = -((X[:, None] - centres) ** 2).sum(2) / self.temperature
        weight = np.exp(score - score.max(1, keepdims=True))
        return weight / weight.sum(1, keepdims=True)

    def predict(self, X, tasks=None):
        return self.classes_[self.predict_proba(X, tasks).argmax(1)]


class AdaptOnlyRegressor(ShiftRegressor):
    """A regressor that knows `adapt` but not `adapt_tasks`."""

    adapt_tasks = property()

    def adapt(self, X_support, y_support):
        self.known_ = {0: self._learn(np.asarray(X_support), np.asarray(y_support))}
        return self
