"""From a model to JSON, named arrays, and scikit-learn members for skops."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import singledispatch
from pathlib import PurePath
from types import ModuleType
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from skorch.history import History
from torch import nn

from sklearn_meta.persistence._registry import CLASSES, RECORDS, build_learner


@dataclass
class Encoder:
    """Collects what a JSON tree only refers to.

    ``skops`` is the module, or a callable that imports it where it is needed.
    """

    skops: Callable[[], ModuleType]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    members: dict[str, bytes] = field(default_factory=dict)
    # the members of a mixture may share one: it is kept once, by its identity
    member_names: dict[int, str] = field(default_factory=dict)

    def keep(self, array: np.ndarray, path: str) -> str:
        """Keep an array of numbers under its path; return the name it got."""
        while path in self.arrays:  # the keys 1 and "1" of a dict have one path
            path += "_"
        native = array.dtype.newbyteorder("=")
        self.arrays[path] = np.array(array, dtype=native, order="C")
        return path


@singledispatch
def encode(value: Any, store: Encoder, path: str) -> Any:
    """Return a value as JSON; objects become ``{"kind": ..., ...}``.

    Raises
    ------
    TypeError
        If the value is no data that a file can hold; the message names its place.
    """
    if isinstance(value, type) and value.__module__.startswith("torch.optim"):
        return {"kind": "optimizer", "name": value.__name__}
    raise TypeError(
        f"Cannot save {path}, a {type(value).__module__}.{type(value).__qualname__}: a "
        "model file holds data and no code. Set it to None before saving, or pickle "
        "the model, which loads by running code from the file."
    )


@encode.register(type(None))
@encode.register(bool)
@encode.register(int)
@encode.register(str)
def _plain(value: Any, store: Encoder, path: str) -> Any:
    return value


@encode.register
def _(value: PurePath, store: Encoder, path: str) -> str:
    return str(value)


@encode.register
def _(value: float, store: Encoder, path: str) -> Any:
    return value if math.isfinite(value) else {"kind": "float", "value": repr(value)}


@encode.register
def _(value: list, store: Encoder, path: str) -> list:
    return [encode(part, store, f"{path}.{i}") for i, part in enumerate(value)]


@encode.register
def _(value: tuple, store: Encoder, path: str) -> dict:
    items = encode(list(value), store, path)
    name = type(value).__name__
    if RECORDS.get(name) is type(value):
        return {"kind": "record", "type": name, "items": items}
    return {"kind": "tuple", "items": items}


@encode.register
def _(value: dict, store: Encoder, path: str) -> dict:
    items = [
        [encode(k, store, f"{path}.{k}"), encode(v, store, f"{path}.{k}")]
        for k, v in value.items()
    ]
    return {"kind": "dict", "items": items}


@encode.register
def _(value: History, store: Encoder, path: str) -> dict:
    return {"kind": "history", "items": encode([*value], store, path)}


@encode.register
def _(value: np.ndarray, store: Encoder, path: str) -> dict:
    if value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        return {"kind": "array", "name": store.keep(value, path)}
    items = encode(value.ravel().tolist(), store, path)
    return {
        "kind": "labels",
        "dtype": value.dtype.str,
        "shape": list(value.shape),
        "items": items,
    }


@encode.register
def _(value: np.generic, store: Encoder, path: str) -> dict:
    return {"kind": "scalar", "value": encode(np.asarray(value), store, path)}


@encode.register
def _(value: torch.Tensor, store: Encoder, path: str) -> dict:
    array = value.detach().cpu().numpy()
    return {"kind": "tensor", "name": store.keep(array, path)}


@encode.register
def _(value: torch.device, store: Encoder, path: str) -> dict:
    return {"kind": "device", "value": str(value)}


@encode.register
def _(value: np.random.RandomState, store: Encoder, path: str) -> dict:
    state = encode(value.get_state(legacy=False), store, path)
    return {"kind": "random_state", "state": state}


@encode.register
def _(value: BaseEstimator, store: Encoder, path: str) -> dict:
    cls = type(value)
    name = cls.__name__
    if CLASSES.get(name) is not cls:
        return _encode_member(value, store, path)
    state = dict(value.__getstate__())
    learner = state.pop("learner_", None)
    node: dict = {"kind": "estimator", "type": name}
    if state.get("module") is not None:
        node["module"] = module_name(state["module"])
        state["module"] = None
    node["state"] = encode(state, store, path)
    if learner is not None:
        _check_rebuildable(value, learner, path)
        weights = dict(learner.state_dict())
        node["weights"] = encode(weights, store, f"{path}.learner_")
    return node


def module_name(module: Any) -> str:
    """Return the name by which a file knows a module of the user's."""
    return getattr(module, "__qualname__", type(module).__qualname__)


def _encode_member(value: BaseEstimator, store: Encoder, path: str) -> dict:
    """Hand an estimator that is not of this package to skops."""
    inside = [k for k, v in value.get_params().items() if type(v) in CLASSES.values()]
    if inside:
        raise TypeError(
            f"Cannot save {path}, a {type(value).__name__} around {inside[0]!r}: only "
            "scikit-learn's own members go into a file as a whole. Save a pipeline of "
            "make_meta_pipeline, or the estimator inside, such as best_estimator_."
        )
    if id(value) not in store.member_names:
        name = f"members/{len(store.members)}.skops"
        store.members[name] = store.skops().dumps(value)
        store.member_names[id(value)] = name
    return {"kind": "member", "name": store.member_names[id(value)]}


def _check_rebuildable(estimator: Any, learner: nn.Module, path: str) -> None:
    """Raise unless parameters and weights give back the learner as it is."""
    try:
        again = build_learner(estimator, learner.state_dict())
        differ = _outside_weights(again).items() ^ _outside_weights(learner).items()
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"Cannot save {path}: {_CHANGED_MESSAGE}") from error
    if differ:
        name = min(name for name, _ in differ)
        raise ValueError(f"Cannot save {path}, see {name!r}: {_CHANGED_MESSAGE}")


_CHANGED_MESSAGE = (
    "its parameters and weights do not give the learner back. Parameters that were set "
    "after fit must be set back, or the model fitted again; a module of the user's own "
    "must keep its tensors as parameters or (persistent) buffers."
)


def _outside_weights(learner: nn.Module) -> dict[str, Any]:
    """Return what a learner holds beside its weights, by name."""
    kept = set(learner.state_dict())
    found = {
        f"{place}.{name}": value
        for place, module in learner.named_modules()
        for name, value in vars(module).items()
        # steps are set at each `adapt`
        if name not in ("training", "adapt_steps")
        and isinstance(value, (bool, int, float, str, torch.Tensor))
    }
    found |= {name: b for name, b in learner.named_buffers() if name not in kept}
    return {
        name: repr(value.tolist()) if isinstance(value, torch.Tensor) else value
        for name, value in found.items()
    }
