"""Saving a model to one file, and loading it."""

import importlib
import json
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from sklearn_meta.persistence._container import read_parts, write_parts
from sklearn_meta.persistence._decode import Decoder, decode
from sklearn_meta.persistence._encode import Encoder, encode
from sklearn_meta.persistence._registry import CLASSES

__all__ = ["get_untrusted_types", "load_model", "save_model"]

TREE, ARRAYS = "model.json", "arrays.safetensors"


def save_model(model: Any, path: Any) -> None:
    """Save a model to one file that holds data and no code.

    The file is a zip: parameters and attributes as JSON, all arrays as safetensors, and
    members of scikit-learn (a scaler, a pooled model) as skops files. It is written
    beside its place first, so that no half of a file is ever there. A model that is
    adapted keeps its adaptation.

    Parameters
    ----------
    model : estimator
        An estimator of this package, fitted or not, or a pipeline of
        :func:`~sklearn_meta.pipeline.make_meta_pipeline`.
    path : str or path-like
        The file; one that is there is replaced.

    Raises
    ------
    ImportError
        If safetensors or skops is not installed (``pip install
        'sklearn-meta[persistence]'``).
    TypeError
        If the model is of another package, or holds what is no data, such as
        callbacks; the message names it.
    ValueError
        If parameters that shape the network were set after ``fit``.

    See Also
    --------
    load_model : Loads the file.
    get_untrusted_types : What ``load_model`` will ask to trust.

    Notes
    -----
    ``load_model`` of such a file asks for more than the path in two cases. A ``module``
    of the user's own is code, so the file holds its name and its weights, and
    ``load_model`` must be given it again. And skops trusts by itself neither the
    compiled parts of scikit-learn (trees and what is made of them, the default of
    pooled models and ensembles, or the search trees of nearest neighbors) nor types of
    other packages: a model with such members needs
    ``load_model(path, trusted=get_untrusted_types(path))``, once its user has looked at
    the names.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_meta import MAMLRegressor
    >>> from sklearn_meta.persistence import load_model, save_model
    >>> from sklearn_meta.datasets import make_sinusoid_tasks
    >>> tasks = make_sinusoid_tasks(n_tasks=6, random_state=0)
    >>> model = MAMLRegressor(max_iter=5, random_state=0).fit(tasks).adapt(*tasks[0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(model, Path(folder) / "model.meta")
    ...     loaded = load_model(Path(folder) / "model.meta")
    >>> X = tasks[0].X
    >>> bool((loaded.predict(X) == model.predict(X)).all())
    True
    """
    if type(model) not in CLASSES.values():
        raise TypeError(
            f"Expected an estimator of sklearn_meta, got {type(model).__name__}. Save "
            "a pipeline of make_meta_pipeline in place of a stock one, and of a search "
            "its best_estimator_."
        )
    safetensors = _import_optional("safetensors.numpy")
    store = Encoder(_import_skops)
    tree = encode(model, store, "model")
    parts = {
        TREE: json.dumps(tree, allow_nan=False).encode(),
        ARRAYS: safetensors.save(store.arrays),
        **store.members,
    }
    write_parts(path, parts)


def load_model(path: Any, *, module: Any = None, trusted: Sequence[str] = ()) -> Any:
    """Load a model from a file of `save_model`, without running code from the file.

    Only classes of this package and optimizers of torch are looked up by name; members
    of scikit-learn are built by skops, from types that it trusts. A model that was
    fitted on a GPU loads where there is none, with a DeviceWarning.

    Parameters
    ----------
    path : str or path-like
        The file.
    module : class, callable or nn.Module, default=None
        The ``module`` that the model was fitted with, where it was not None.
    trusted : sequence of str, default=()
        Names of types in the file to trust beyond those that skops trusts by itself,
        as :func:`get_untrusted_types` lists them. The trees of scikit-learn need one.

    Returns
    -------
    model : estimator
        It predicts as the saved one did, to the last bit.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If safetensors or skops is not installed.
    ValueError
        If the file is truncated, altered or of a newer format, needs another
        ``module``, or holds types that are not trusted.

    See Also
    --------
    save_model : Writes the file, and shows an example.
    get_untrusted_types : Lists the types in a file that need ``trusted``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_meta import ProtoNetClassifier
    >>> from sklearn_meta.persistence import load_model, save_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(ProtoNetClassifier(n_ways=3), Path(folder) / "model.meta")
    ...     load_model(Path(folder) / "model.meta")
    ProtoNetClassifier(n_ways=3)
    """
    parts = read_parts(path)
    safetensors = _import_optional("safetensors.numpy")
    members = _members(parts)
    untrusted = [name for name in _untrusted_types(members) if name not in trusted]
    if untrusted:
        raise ValueError(
            f"The file holds objects of types that skops does not trust by itself: "
            f"{untrusted}. If you trust the file, pass load_model(path, "
            f"trusted={untrusted})."
        )
    store = Decoder(
        arrays=safetensors.load(parts[ARRAYS]),
        members=members,
        skops=_import_skops,
        module=module,
        trusted=trusted,
    )
    return decode(json.loads(parts[TREE]), store)


def get_untrusted_types(path: Any) -> list[str]:
    """List the types in a file of `save_model` that `load_model` asks to trust.

    It is to such a file what ``skops.io.get_untrusted_types`` is to one of skops.
    Nothing is loaded.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    untrusted : list of str
        Names of types, for ``trusted`` of `load_model`. Empty where the path is enough.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If there are members of scikit-learn in it and skops is not installed.
    ValueError
        If the file is truncated, altered or of a newer format.

    See Also
    --------
    load_model : Loads the file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> from sklearn_meta import PooledRegressor
    >>> from sklearn_meta.datasets import make_sinusoid_tasks
    >>> from sklearn_meta.persistence import (
    ...     get_untrusted_types, load_model, save_model
    ... )
    >>> tasks = make_sinusoid_tasks(n_tasks=6, random_state=0)
    >>> model = PooledRegressor(DecisionTreeRegressor(max_depth=3)).fit(tasks)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.meta"
    ...     save_model(model, path)
    ...     print(get_untrusted_types(path))
    ...     loaded = load_model(path, trusted=["sklearn.tree._tree.Tree"])
    ['sklearn.tree._tree.Tree']
    """
    return _untrusted_types(_members(read_parts(path)))


def _members(parts: dict[str, bytes]) -> dict[str, bytes]:
    """Return the parts of a file that are for skops."""
    return {name: part for name, part in parts.items() if name not in (TREE, ARRAYS)}


def _untrusted_types(members: dict[str, bytes]) -> list[str]:
    """Return the types in skops files that skops does not trust by itself, sorted."""
    lists = [_import_skops().get_untrusted_types(data=m) for m in members.values()]
    return sorted({name for names in lists for name in names})


def _import_skops() -> ModuleType:
    return _import_optional("skops.io")


def _import_optional(name: str) -> ModuleType:
    """Import a package that only this file format needs."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"Model files need {name.partition('.')[0]}, which is not installed: "
            "pip install 'sklearn-meta[persistence]'."
        ) from error
