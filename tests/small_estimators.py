"""Every public estimator with a budget that tests can afford, and tasks to learn from.

A new estimator is added to `ALL_ESTIMATORS`; it then gets every common check, every law
and every bad input.
"""

import numpy as np
from sklearn.base import is_classifier
from sklearn.linear_model import LogisticRegression, Ridge

from sklearn_meta import (
    DeepKernelClassifier,
    DeepKernelRegressor,
    MAMLClassifier,
    MAMLRegressor,
    MetaStackingClassifier,
    MetaStackingRegressor,
    ModelBasedMetaClassifier,
    ModelBasedMetaRegressor,
    PooledClassifier,
    PooledRegressor,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    TaskCollection,
    TaskEnsembleClassifier,
    TaskEnsembleRegressor,
)

# those that train a learner in an outer loop
TRAINED_ESTIMATORS = [
    DeepKernelClassifier,
    DeepKernelRegressor,
    MAMLClassifier,
    MAMLRegressor,
    ModelBasedMetaClassifier,
    ModelBasedMetaRegressor,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
]

ALL_ESTIMATORS = [
    *TRAINED_ESTIMATORS,
    MetaStackingClassifier,
    MetaStackingRegressor,
    PooledClassifier,
    PooledRegressor,
    TaskEnsembleClassifier,
    TaskEnsembleRegressor,
]

LOGISTIC = LogisticRegression(max_iter=1000)

# other ways to adapt than the default one, each held to the laws too
VARIANTS = [
    (DeepKernelRegressor, {"hidden_layer_sizes": ()}),
    (DeepKernelRegressor, {"init": "random", "noise": "constant"}),
    (DeepKernelRegressor, {"mean": "zero", "feature_dropout": 0.5}),
    (DeepKernelRegressor, {"pooled_estimator": Ridge()}),
    (DeepKernelRegressor, {"pooled_estimator": Ridge(), "hidden_layer_sizes": ()}),
    (MetaStackingClassifier, {"label_mode": "shared"}),
    (MetaStackingClassifier, {"label_mode": "task"}),
    (MAMLClassifier, {"label_mode": "task"}),
    (MAMLClassifier, {"variant": "anil", "label_mode": "shared"}),
    (MAMLRegressor, {"variant": "metasgd"}),
    (MAMLRegressor, {"variant": "fomaml"}),
    (MAMLRegressor, {"variant": "maml++"}),
    (MAMLRegressor, {"variant": "imaml", "inner_optimizer": "momentum"}),
    (MAMLRegressor, {"variant": "reptile", "inner_optimizer": "adam"}),
    (MAMLClassifier, {"variant": "reptile", "label_mode": "task"}),
    (ProtoNetClassifier, {"label_mode": "task", "embedding": "network"}),
    (ProtoNetClassifier, {"label_mode": "task", "embedding": "whitened"}),
    (
        ProtoNetClassifier,
        {"embedding": "whitened", "head": "discriminant"} | {"label_mode": "task"},
    ),
    (ProtoNetClassifier, {"distance": "cosine"}),
    (DeepKernelClassifier, {"label_mode": "task", "hidden_layer_sizes": ()}),
    (DeepKernelClassifier, {"label_mode": "shared", "pooled_estimator": LOGISTIC}),
    (DeepKernelClassifier, {"label_mode": "shared", "correction": "transformer"}),
    (DeepKernelClassifier, {"label_mode": "task"}),
    (ProtoNetClassifier, {"distance": "mahalanobis"}),
    (ModelBasedMetaClassifier, {"architecture": "transformer", "label_mode": "task"}),
    (ModelBasedMetaClassifier, {"architecture": "attentive", "label_mode": "shared"}),
    (ModelBasedMetaRegressor, {"architecture": "attentive"}),
    (ModelBasedMetaRegressor, {"pooled_estimator": Ridge()}),
    (MAMLRegressor, {"pooled_estimator": Ridge()}),
    (MAMLClassifier, {"label_mode": "shared", "pooled_estimator": LOGISTIC}),
    (ProtoNetClassifier, {"label_mode": "shared", "pooled_estimator": LOGISTIC}),
    (ModelBasedMetaClassifier, {"label_mode": "shared", "pooled_estimator": LOGISTIC}),
    (ModelBasedMetaRegressor, {"architecture": "transformer"}),
    (ModelBasedMetaClassifier, {"architecture": "hypernetwork"}),
    (ModelBasedMetaClassifier, {"architecture": "recurrent", "label_mode": "task"}),
    (ModelBasedMetaRegressor, {"architecture": "hypernetwork"}),
    (ModelBasedMetaRegressor, {"architecture": "recurrent"}),
    (ModelBasedMetaRegressor, {"latent_size": 2, "architecture": "transformer"}),
    (ModelBasedMetaClassifier, {"latent_size": 2, "label_mode": "task"}),
    (PooledClassifier, {"correction": "level"}),
    (PooledClassifier, {"correction": "refit"}),
    (PooledRegressor, {"correction": "level"}),
    (PooledRegressor, {"correction": "none"}),
    (PooledRegressor, {"correction": "refit"}),
    (RidgeHeadClassifier, {"label_mode": "task"}),
    (RidgeHeadClassifier, {"label_mode": "shared", "pooled_estimator": LOGISTIC}),
    (TaskEnsembleClassifier, {"correction": "shift"}),
    (TaskEnsembleRegressor, {"correction": "none", "max_models": 3}),
]


def small(estimator_class, **params):
    """Return an estimator that fits in a fraction of a second."""
    if estimator_class in (MetaStackingClassifier, MetaStackingRegressor):
        members = {"estimators": members_of(estimator_class), "random_state": 0}
        return estimator_class(**members | params)
    if estimator_class not in TRAINED_ESTIMATORS:
        cheap = LOGISTIC if is_classifier(estimator_class()) else Ridge()
        return estimator_class(**{"estimator": cheap, "random_state": 0} | params)
    budget = {"max_iter": 12, "meta_batch_size": 4, "random_state": 0}
    if "hidden_size" in estimator_class().get_params():
        budget |= {"hidden_size": 8, "n_layers": 1, "n_heads": 2, "architecture": "cnp"}
    elif estimator_class is not ProtoNetClassifier or "embedding" in params:
        budget |= {"hidden_layer_sizes": (8,)}  # it would ask for a network
    if "inner_steps" in estimator_class().get_params():
        budget |= {"inner_steps": 2}
    return estimator_class().set_params(**budget | params)


def members_of(mixture_class):
    """Return cheap members of a mixture, which are fitted on several folds."""
    few = {"max_iter": 3, "meta_batch_size": 2}
    if is_classifier(mixture_class()):
        members = [small(ProtoNetClassifier, **few), small(MAMLClassifier, **few)]
    else:
        members = [small(PooledRegressor), small(DeepKernelRegressor, **few)]
    return [(type(member).__name__, member) for member in members]


def all_small():
    """Return each public estimator once, and its variants."""
    return [small(cls) for cls in ALL_ESTIMATORS] + [
        small(cls, **params) for cls, params in VARIANTS
    ]


def trained_small():
    """Return those of `all_small` that train a learner."""
    return [e for e in all_small() if type(e) in TRAINED_ESTIMATORS]


def trained_on_episodes():
    """Return those of them that learn from support and query, not in closed form."""
    return [e for e in trained_small() if vars(e).get("hidden_layer_sizes") != ()]


def holds_classes_out(estimator):
    """Return whether it learns numbers on classes held out of a whitening."""
    local = getattr(estimator, "label_mode", "") == "task"
    kernel = isinstance(estimator, DeepKernelClassifier) and local
    return kernel or getattr(estimator, "embedding", "") == "whitened"


def name_of(estimator):
    """Return a readable test id."""
    options = ("variant", "embedding", "head", "distance", "architecture", "label_mode")
    options += ("correction", "init", "feature_dropout")
    params = estimator.get_params()
    chosen = [str(params[name]) for name in options if name in params]
    chosen += ["shallow"] * (params.get("hidden_layer_sizes") == ())
    chosen += ["latent"] * bool(params.get("latent_size"))
    pooled = ["pooled"] if params.get("pooled_estimator") is not None else []
    return "-".join([type(estimator).__name__, *chosen, *pooled])


def regression_tasks(n_tasks=6, n_features=2, seed=0):
    """Return ragged tasks: one line for all, with a shift of each task's own."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        X = rng.normal(size=(8 + i % 5, n_features))
        y = X.sum(1) + 2 * rng.normal() + 0.1 * rng.normal(size=len(X))
        tasks.append((X, y))
    return TaskCollection(tasks, names=[f"t{i}" for i in range(n_tasks)])


def class_tasks(n_tasks=6, n_features=2, seed=0, labels=("a", "b", "c")):
    """Return ragged tasks of the same classes around centres of each task's own."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        position = np.repeat(np.arange(len(labels)), 4 + i % 3)
        centres = 3 * rng.normal(size=(len(labels), n_features))
        X = centres[position] + rng.normal(size=(len(position), n_features))
        tasks.append((X, np.asarray(labels)[position]))
    return TaskCollection(tasks, names=[f"t{i}" for i in range(n_tasks)])


def tasks_for(estimator, n_tasks=6, seed=0):
    """Return tasks of the kind that an estimator learns from."""
    make = class_tasks if is_classifier(estimator) else regression_tasks
    return make(n_tasks, seed=seed)


def outputs(estimator, X, **tasks):
    """Return all that an estimator predicts, as one table."""
    if is_classifier(estimator):
        return estimator.predict_proba(X, **tasks)
    return np.column_stack(estimator.predict(X, return_std=True, **tasks))
