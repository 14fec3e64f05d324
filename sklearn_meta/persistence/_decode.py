"""From JSON, arrays and skops members back to a model; the mirror of `_encode`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from skorch.history import History

from sklearn_meta.persistence._encode import module_name
from sklearn_meta.persistence._registry import CLASSES, RECORDS, build_learner


@dataclass
class Decoder:
    """What a JSON tree refers to, and what the user gave to fill its gaps."""

    arrays: dict[str, np.ndarray]
    members: dict[str, bytes]
    skops: Callable[[], ModuleType]
    module: Any
    trusted: Sequence[str]
    loaded: dict[str, Any] = field(default_factory=dict)


def decode(node: Any, store: Decoder) -> Any:
    """Return the value of a JSON tree.

    Raises
    ------
    ValueError
        If the tree holds a kind or a class that no file has.
    """
    if isinstance(node, list):
        return [decode(part, store) for part in node]
    if not isinstance(node, dict):
        return node
    if node["kind"] not in DECODERS:
        raise ValueError(
            f"The file holds a value of kind {node['kind']!r}, expected one of "
            f"{sorted(DECODERS)}. It was not written by save_model."
        )
    return DECODERS[node["kind"]](node, store)


def _array(node: dict, store: Decoder) -> np.ndarray:
    return np.array(store.arrays[node["name"]])  # a copy that can be written to


def _tensor(node: dict, store: Decoder) -> torch.Tensor:
    return torch.from_numpy(_array(node, store))


def _labels(node: dict, store: Decoder) -> np.ndarray:
    labels = np.empty(len(node["items"]), dtype=np.dtype(node["dtype"]))
    for i, label in enumerate(decode(node["items"], store)):
        labels[i] = label  # one by one: a tuple is a label too
    return labels.reshape(node["shape"])


def _random_state(node: dict, store: Decoder) -> np.random.RandomState:
    random_state = np.random.RandomState()
    random_state.set_state(decode(node["state"], store))
    return random_state


def _optimizer(node: dict, store: Decoder) -> type:
    found = getattr(torch.optim, node["name"], None)
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ValueError(f"torch.optim has no optimizer {node['name']!r}.")
    return found


def _record(node: dict, store: Decoder) -> Any:
    return _known(RECORDS, node["type"])(*decode(node["items"], store))


def _estimator(node: dict, store: Decoder) -> Any:
    """Make an estimator without calling it, and give it its state."""
    cls = _known(CLASSES, node["type"])
    estimator: BaseEstimator = object.__new__(cls)
    state = decode(node["state"], store)
    if "module" in node:
        state["module"] = _users_module(node["module"], store.module)
    if "weights" in node:
        vars(estimator).update(state)
        weights = decode(node["weights"], store)
        try:
            state["learner_"] = build_learner(estimator, weights)
        except RuntimeError as error:
            raise ValueError(
                f"The weights in the file are not those of module={store.module!r} "
                "with the parameters of the file. Pass the module that the model was "
                "fitted with."
            ) from error
    estimator.__setstate__(state)
    return estimator


def _users_module(name: str, module: Any) -> Any:
    """Return the module that the user gave, if it is the one the file names."""
    if module is None:
        raise ValueError(
            f"The model was fitted with module={name}, and a file holds no code: pass "
            f"load_model(path, module={name})."
        )
    if module_name(module) != name:
        raise ValueError(
            f"The model was fitted with module={name}, got {module_name(module)}."
        )
    return module


def _member(node: dict, store: Decoder) -> Any:
    """Load a scikit-learn estimator once; skops refuses types that are not trusted."""
    name = node["name"]
    if name not in store.loaded:
        loads = store.skops().loads
        store.loaded[name] = loads(store.members[name], trusted=[*store.trusted])
    return store.loaded[name]


def _known(table: dict[str, type], name: str) -> type:
    """Return a class that a file may name."""
    if name not in table:
        raise ValueError(
            f"The file names the class {name!r}, expected one of {sorted(table)}. A "
            "newer version of sklearn_meta may know it."
        )
    return table[name]


DECODERS: dict[str, Callable[[dict, Decoder], Any]] = {
    "array": _array,
    "device": lambda node, store: torch.device(node["value"]),
    "dict": lambda node, store: dict(decode(node["items"], store)),
    "estimator": _estimator,
    "float": lambda node, store: float(node["value"]),
    "history": lambda node, store: History(decode(node["items"], store)),
    "labels": _labels,
    "member": _member,
    "optimizer": _optimizer,
    "random_state": _random_state,
    "record": _record,
    "scalar": lambda node, store: decode(node["value"], store)[()],
    "tensor": _tensor,
    "tuple": lambda node, store: tuple(decode(node["items"], store)),
}
