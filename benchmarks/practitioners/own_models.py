"""A model of its own for each new task, fitted to its support alone."""

import numpy as np
from episode_scores import Normal
from held_out import REGRESSION, SHARED
from method import Method
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.svm import SVC

# pseudo-rows of the training frequencies, where labels are shared
PRIOR_ROWS = 2


class OwnModel(Method):
    """A clone of an estimator for each support."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, split):
        """Learn nothing but class frequencies."""
        if split.kind != REGRESSION:
            counts = np.bincount(split.y[split.train], minlength=split.n_classes)
            self.frequencies = counts / counts.sum()

    def predict(self, split, k):
        """Predict the query rows of each episode."""
        if split.kind == REGRESSION:
            return [self._targets(split, *e) for e in split.episodes[k]]
        if split.kind == SHARED:
            return [self._shared(split, *e, k) for e in split.episodes[k]]
        return [
            self._fit_on(split, e.support).predict_proba(split.linear[e.query])
            for e in split.episodes[k]
        ]

    def _fit_on(self, split, support):
        return clone(self.estimator).fit(split.linear[support], split.y[support])

    def _targets(self, split, support, query):
        return Normal(self._fit_on(split, support).predict(split.linear[query]))

    def _shared(self, split, support, query, k):
        """Blend with training frequencies: a class may be missing from the support."""
        own = np.zeros((len(query), split.n_classes))
        if len(np.unique(split.y[support])) == 1:
            own[:, split.y[support[0]]] = 1
        else:
            model = self._fit_on(split, support)
            own[:, model.classes_] = model.predict_proba(split.linear[query])
        return (k * own + PRIOR_ROWS * self.frequencies) / (k + PRIOR_ROWS)


class OwnGaussianProcess(Method):
    """A Gaussian process for each support, kernel by marginal likelihood."""

    least_shots = 5

    def suits(self, split, k):
        """Return whether there are rows enough to choose a kernel."""
        return k >= self.least_shots

    def fit(self, split):
        """Learn nothing."""

    def predict(self, split, k):
        """Predict the query rows of each episode."""
        length = np.sqrt(split.linear.shape[1])
        kernel = ConstantKernel(1.0, (1e-2, 10)) * RBF(length, (0.3, 30))
        process = GaussianProcessRegressor(
            kernel + WhiteKernel(0.3, (1e-3, 2)), random_state=0
        )
        return [self._one(clone(process), split, *e) for e in split.episodes[k]]

    def _one(self, process, split, support, query):
        level = split.y[support].mean()
        process.fit(split.linear[support], split.y[support] - level)
        mean, std = process.predict(split.linear[query], return_std=True)
        return Normal(mean + level, std)


class SoftmaxSVC(ClassifierMixin, BaseEstimator):
    """SVC with probabilities from its decision values: supports are too small to cut.

    Parameters
    ----------
    C : float, default=3.0
        As in ``SVC``.
    """

    def __init__(self, C=3.0):
        self.C = C

    def fit(self, X, y):
        """Fit the SVC."""
        self.model_ = SVC(C=self.C).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        """Return a softmax of twice the decision values."""
        values = self.model_.decision_function(X)
        if values.ndim == 1:
            values = np.column_stack([-values, values]) / 2
        return softmax(2 * values, axis=1)


class Centroid(ClassifierMixin, BaseEstimator):
    """Nearest class mean, with the probabilities of unit noise in every column."""

    def fit(self, X, y):
        """Take the mean of each class."""
        self.classes_ = np.unique(y)
        self.means_ = np.array([X[y == c].mean(0) for c in self.classes_])
        return self

    def predict_proba(self, X):
        """Return a softmax of half the squared distances."""
        distances = ((X[:, None] - self.means_) ** 2).sum(-1)
        return softmax(-distances / 2, axis=1)
