"""Any estimator on columns: standardised, whitened by PCA, or learned across tasks."""

from functools import lru_cache

import numpy as np
from episode_scores import Normal
from held_out import NEW, REGRESSION
from method import Method
from practitioners.own_models import SoftmaxSVC
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import SVR

from sklearn_meta import MetaEmbedding, Task, TaskCollection

# share of the variance that is whitened: the rest is mostly rounding
PCA_SHARE = 0.99

# what is fitted on the support of each episode, with scikit-learn's defaults
ESTIMATORS = {
    REGRESSION: {
        "ridge": Ridge(),
        "SVR": SVR(),
        "forest": RandomForestRegressor(random_state=0),
    },
    NEW: {
        "logistic": LogisticRegression(max_iter=1000),
        "SVC": SoftmaxSVC(C=1.0),
        "forest": RandomForestClassifier(random_state=0),
    },
}


def standardised(split):
    """Return the columns as any practitioner has them."""
    return split.linear


def whitened(split):
    """Return principal components of the training rows, all of variance 1."""
    pca = PCA(PCA_SHARE, whiten=True).fit(split.linear[split.train])
    return pca.transform(split.linear)


@lru_cache(maxsize=1)
def learned(split):
    """Return what `MetaEmbedding` learned, with its defaults, from training tasks.

    The seconds of a fit are counted for the first method that asks.
    """
    embedding, rows = MetaEmbedding(random_state=split.repeat), split.train
    if split.kind == NEW:
        X = split.X.to_numpy()
        return embedding.fit(TaskCollection([Task(X[rows], split.y[rows])])).transform(
            X
        )
    X = split.linear
    return embedding.fit(X[rows], split.y[rows], split.task[rows]).transform(X)


FEATURES = {"standardised": standardised, "PCA": whitened, "MetaEmbedding": learned}


class OnColumns(Method):
    """A clone of an estimator for each support, on one kind of columns.

    Parameters
    ----------
    estimator : estimator
        What is fitted on a support.
    features : callable
        From a split to the columns of all its rows.
    """

    def __init__(self, estimator, features):
        self.estimator, self.features = estimator, features

    def fit(self, split):
        """Learn the columns."""
        self.columns = self.features(split)

    def predict(self, split, k):
        """Predict the query rows of each episode."""
        return [self._one(split, *episode) for episode in split.episodes[k]]

    def _one(self, split, support, query):
        model = clone(self.estimator).fit(self.columns[support], split.y[support])
        if split.kind == REGRESSION:
            return Normal(model.predict(self.columns[query]))
        return model.predict_proba(self.columns[query])


def methods(kind):
    """Return each estimator on the columns that were learned, by name."""
    return {
        f"MetaEmbedding, {name}": OnColumns(estimator, learned)
        for name, estimator in ESTIMATORS.get(kind, {}).items()
    }


def first_episodes(split, n_episodes):
    """Return at most so many episodes for each number of support rows."""
    split.episodes = {k: e[:n_episodes] for k, e in split.episodes.items()}
    return split


def errors_in(table, kind):
    """Return one number per episode: nRMSE, or accuracy."""
    return np.asarray(table["nRMSE" if kind == REGRESSION else "accuracy"])
