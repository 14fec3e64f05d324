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

    Notes
    -----
    A ``module`` of the user's own is code, so the file holds its name and its weights.
    ``load_model`` must be given it again.

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
        Names of types in the file to trust beyond those that skops trusts by itself.
        The trees of scikit-learn need one, which the error message names.

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
    store = Decoder(
        arrays=safetensors.load(parts[ARRAYS]),
        members=parts,
        skops=_import_skops,
        module=module,
        trusted=list(trusted),
    )
    return decode(json.loads(parts[TREE]), store)


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
