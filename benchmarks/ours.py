"""The estimators of the package as methods, each with its default settings.

A line of ``ESTIMATORS``, or of ``RELATIVES``, is all that another one takes.
"""

import embedded
import numpy as np
from columns import preprocessing
from episode_scores import COVERAGE, Normal
from held_out import GROWING, NEW, REGRESSION, SHARED
from method import Method
from practitioners.own_models import SoftmaxSVC
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVR

import sklearn_meta
from sklearn_meta import Task, TaskCollection

ALL_KINDS = (REGRESSION, SHARED, NEW)
CLASSES = (SHARED, NEW)
_BOOSTING = HistGradientBoostingRegressor(random_state=0)

# name: class without "Regressor" or "Classifier", settings, kinds of collections
ESTIMATORS = {
    "stacking": ("MetaStacking", {}, ALL_KINDS),
    "stacking, fast": ("MetaStacking", {"preset": "fast"}, ALL_KINDS),
    "stacking, thorough": ("MetaStacking", {"preset": "thorough"}, ALL_KINDS),
    "stacking, first rows": ("MetaStacking", {"order": "first"}, (REGRESSION,)),
    "deep kernel": ("DeepKernel", {}, ALL_KINDS),
    "ridge head": ("RidgeHead", {}, ALL_KINDS),
    "pooled, shift": ("Pooled", {"correction": "shift"}, (REGRESSION, SHARED)),
    "transformer": ("ModelBasedMeta", {}, (REGRESSION, SHARED)),
    "transformer on boosting": (
        "ModelBasedMeta",
        {"pooled_estimator": _BOOSTING},
        (REGRESSION,),
    ),
    "MAML": ("MAML", {}, ALL_KINDS),
    "Meta-SGD": ("MAML", {"variant": "metasgd"}, (REGRESSION,)),
    "ProtoNet": ("ProtoNet", {}, CLASSES),
    "ensemble of forests": ("TaskEnsemble", {}, (REGRESSION, SHARED)),
    "ensemble of SVMs": ("TaskEnsemble", {"estimator": SVR()}, (REGRESSION,)),
    "ensemble of SVCs": ("TaskEnsemble", {"estimator": SoftmaxSVC(C=1.0)}, (SHARED,)),
}

# the same for what the field has besides: a group of its own
RELATIVES = {
    "FOMAML": ("MAML", {"variant": "fomaml"}, ALL_KINDS),
    "ANIL": ("MAML", {"variant": "anil"}, ALL_KINDS),
    "Meta-SGD on classes": ("MAML", {"variant": "metasgd"}, CLASSES),
    "MAML++": ("MAML", {"variant": "maml++"}, ALL_KINDS),
    "Reptile": ("MAML", {"variant": "reptile"}, ALL_KINDS),
    "iMAML": ("MAML", {"variant": "imaml"}, ALL_KINDS),
    "CNP": ("ModelBasedMeta", {"architecture": "cnp"}, ALL_KINDS),
    "attentive": ("ModelBasedMeta", {"architecture": "attentive"}, ALL_KINDS),
    "transformer on classes": ("ModelBasedMeta", {}, (NEW,)),
    "hypernetwork": ("ModelBasedMeta", {"architecture": "hypernetwork"}, ALL_KINDS),
    "recurrent": ("ModelBasedMeta", {"architecture": "recurrent"}, ALL_KINDS),
    "latent CNP": (
        "ModelBasedMeta",
        {"architecture": "cnp", "latent_size": 8},
        (REGRESSION, SHARED),
    ),
    "ProtoNet, network": ("ProtoNet", {"embedding": "network"}, (NEW,)),
}


def methods(kind):
    """Return our methods for one kind of collections, those that the package has."""
    return _of_kind(ESTIMATORS, kind)


def relatives(kind):
    """Return the other methods of the field, and estimators on learned columns."""
    return _of_kind(RELATIVES, kind) | embedded.methods(kind)


def _of_kind(table, kind):
    """Return the methods of a table that one kind of collections can have."""
    suffix = "Regressor" if kind == REGRESSION else "Classifier"
    return {
        name: MetaLearner(getattr(sklearn_meta, stem + suffix), settings)
        for name, (stem, settings, kinds) in table.items()
        if kind in kinds and hasattr(sklearn_meta, stem + suffix)
    }


def names():
    """Return the names of all that is not a practitioner's method."""
    return {name for kind in ALL_KINDS for name in methods(kind) | relatives(kind)}


class MetaLearner(Method):
    """One of our estimators at the end of a stock Pipeline.

    Parameters
    ----------
    estimator : class
        The estimator's class.
    settings : dict
        What differs from its defaults.
    """

    def __init__(self, estimator, settings):
        self.estimator, self.settings = estimator, settings

    def suits(self, split, k):
        """Return whether rows have an order, if that is what it goes by."""
        return "order" not in self.settings or split.name in GROWING

    def fit(self, split):
        """Learn across the training tasks, from their raw columns."""
        model = self.estimator(**self.settings, random_state=split.repeat)
        X, y = split.X.iloc[split.train], split.y[split.train]
        if split.kind == NEW:
            # as a collection: only learned from; one table is adapted to as well
            self.model = model.fit(TaskCollection([Task(X.to_numpy(), y)]))
            self.columns = split.X.to_numpy()
            return
        pipeline = make_pipeline(preprocessing(), model)
        step = pipeline.steps[-1][0]
        pipeline.fit(X, y, **{f"{step}__tasks": split.task[split.train]})
        self.columns, self.model = pipeline[:-1].transform(split.X), pipeline[-1]

    def predict(self, split, k):
        """Adapt to the supports and predict the query rows of each episode."""
        episodes = split.episodes[k]
        if split.kind == NEW:
            return [self._classify_new(split, *e) for e in episodes]
        supports, queries = zip(*episodes, strict=True)
        rows = np.concatenate(supports)
        self.model.adapt_tasks(self.columns[rows], split.y[rows], split.task[rows])
        rows = np.concatenate(queries)
        predict = self._targets if split.kind == REGRESSION else self._classes
        parts = predict(split, rows)
        ends = np.cumsum([len(q) for q in queries])[:-1]
        pieces = zip(*(np.split(part, ends) for part in parts), strict=True)
        if split.kind == REGRESSION:
            return [Normal(*piece) for piece in pieces]
        return [p for (p,) in pieces]

    def _targets(self, split, rows):
        """Return mean, std, interval and log density of rows."""
        X, tasks = self.columns[rows], split.task[rows]
        mean, std = self.model.predict(X, return_std=True, tasks=tasks)
        levels = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]
        ends = self.model.predict_quantiles(X, levels, tasks=tasks)
        log_density = self.model.log_density(X, split.y[rows], tasks=tasks)
        return mean, std, *ends.T, log_density

    def _classes(self, split, rows):
        """Return probabilities of rows, a column per class of the split."""
        p = np.zeros((len(rows), split.n_classes))
        X, tasks = self.columns[rows], split.task[rows]
        p[:, self.model.classes_] = self.model.predict_proba(X, tasks=tasks)
        return (p,)

    def _classify_new(self, split, support, query):
        """Return probabilities of the query rows of new classes."""
        self.model.adapt(self.columns[support], split.y[support])
        return self.model.predict_proba(self.columns[query])
