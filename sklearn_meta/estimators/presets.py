"""The members of the mixtures, where the user names none."""

from typing import Any

from sklearn_meta.estimators.class_kernel import DeepKernelClassifier
from sklearn_meta.estimators.gradient_classifier import MAMLClassifier
from sklearn_meta.estimators.kernel import DeepKernelRegressor
from sklearn_meta.estimators.metric import ProtoNetClassifier
from sklearn_meta.estimators.pooled_classifier import PooledClassifier
from sklearn_meta.estimators.pooled_regressor import PooledRegressor
from sklearn_meta.estimators.process_classifier import ModelBasedMetaClassifier
from sklearn_meta.estimators.process_regressor import ModelBasedMetaRegressor

__all__ = ["PRESETS", "default_classifiers", "default_regressors"]

PRESETS = ("fast", "default", "thorough")

# half of a kernel's own: it starts at the shallow one, and gains little after that
FAST_STEPS = 300

# a kernel unlike the others: it shares neither a start nor a pooled model with them
PLAIN = {
    "init": "random",
    "noise": "constant",
    "noise_levels": 1,
    "pooled_estimator": None,
}

Members = list[tuple[str, Any]]


def default_regressors(preset: str, n_shots: tuple[int, int], order: str) -> Members:
    """Return the members of a preset; each adds a way of being right.

    Parameters
    ----------
    preset : {"fast", "default", "thorough"}
        How many there are.
    n_shots : (int, int)
        The range from which they learn.
    order : {"random", "first"}
        Which rows of a task are the support of its episodes.

    Returns
    -------
    members : list of (str, estimator)
        From the simplest on.
    """
    common: dict = {"pooled_estimator": "auto", "n_shots": n_shots, "order": order}

    def kernel(**params: Any) -> DeepKernelRegressor:
        return DeepKernelRegressor(**common | params)

    members: Members = [
        ("shift", PooledRegressor("auto", correction="shift", n_shots=n_shots)),
        ("shallow", kernel(hidden_layer_sizes=())),
    ]
    if preset == "fast":
        members.append(("kernel", kernel(max_iter=FAST_STEPS)))
    else:
        members += [
            ("kernel", kernel()),
            ("second", kernel()),
            ("cold", kernel(init="random")),
            ("unpooled", kernel(**PLAIN)),
        ]
    if preset == "thorough":
        members += [
            ("dropout", kernel(mean="zero", feature_dropout=0.2)),
            ("transformer", ModelBasedMetaRegressor(**common)),
        ]
    return members


def default_classifiers(
    preset: str, label_mode: str, n_shots: tuple[int, int], order: str
) -> Members:
    """Return the members of a preset for classes.

    Parameters
    ----------
    preset : {"fast", "default", "thorough"}
        How many there are.
    label_mode : {"shared", "task"}
        What labels mean.
    n_shots : (int, int)
        The range from which they learn, in the terms of that mode.
    order : {"random", "first"}
        Which rows of a task, or of a class, are the support of its episodes.

    Returns
    -------
    members : list of (str, estimator)
        From the simplest on.
    """
    local = label_mode == "task"
    return (_local_classifiers if local else _shared_classifiers)(
        preset, {"n_shots": n_shots, "order": order}
    )


def _shared_classifiers(preset: str, common: dict) -> Members:
    """Return members that start from one pooled classifier."""
    n_shots, pooled = common["n_shots"], common | {"pooled_estimator": "auto"}
    members: Members = [
        ("shift", PooledClassifier("auto", correction="shift", n_shots=n_shots)),
        ("level", PooledClassifier("auto", correction="level", n_shots=n_shots)),
        ("kernel", DeepKernelClassifier(**pooled)),
    ]
    if preset != "fast":
        corrected = DeepKernelClassifier(
            correction="transformer", max_iter=320, **pooled
        )
        members.append(("corrected", corrected))
    if preset == "thorough":
        members.append(("transformer", ModelBasedMetaClassifier(**pooled)))
    return members


def _local_classifiers(preset: str, common: dict) -> Members:
    """Return members in closed form, for classes that none of them has seen."""
    members: Members = [("logistic", ProtoNetClassifier(**common))]
    if preset != "fast":
        members.append(("kernel", DeepKernelClassifier(**common)))
    if preset == "thorough":
        members.append(("maml", MAMLClassifier(**common)))
    return members
