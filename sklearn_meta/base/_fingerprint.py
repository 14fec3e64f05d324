"""What identifies a fit: its parameters and its data, as short texts."""

import hashlib
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from sklearn_meta.tasks import TaskRows

# parameters that do not decide what is learned
IGNORED = {"checkpoint", "verbose", "callbacks", "compile", "device", "n_jobs"}


def describe_fit(
    estimator: BaseEstimator,
    rows: TaskRows,
    validation: TaskRows | None,
    resume: bool,
    classes: Any,
) -> dict[str, str]:
    """Return names and descriptions of all that decides the end of a fit.

    Parameters
    ----------
    estimator : estimator
        Its parameters count, and where it goes on from an earlier fit what it learned.
    rows : TaskRows
        The checked rows of all tasks.
    validation : TaskRows or None
        The rows of tasks that are held out, where the caller holds them out.
    resume : bool
        Whether the estimator goes on from an earlier fit.
    classes : array-like or None
        Labels given to ``partial_fit``.

    Returns
    -------
    fit : dict of str
        Two fits end alike if these are the same.
    """
    fit = {"estimator": type(estimator).__name__, **describe_params(estimator)}
    fit["data"] = _describe_rows(rows)
    if validation is not None:
        fit["held-out data"] = _describe_rows(validation)
    if classes is not None:
        fit["classes"] = describe(classes)
    if resume:
        learned = [dict(estimator.learner_.state_dict()), estimator.optimizer_state_]
        fit["earlier fit"] = _digest(describe(learned).encode())
    return fit


def describe_params(estimator: BaseEstimator) -> dict[str, str]:
    """Return descriptions of the parameters that decide what an estimator learns."""
    params = estimator.get_params(deep=False)
    return {name: describe(v) for name, v in params.items() if name not in IGNORED}


def describe(value: Any) -> str:
    """Return a text that is the same for equal values, in every process."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        items = (f"{describe(k)}: {describe(v)}" for k, v in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(describe, value)) + "]"
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return _describe_array(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    return f"{_name_of(value)}{_describe_content(value)}"


def _describe_content(value: Any) -> str:
    """Describe what an object holds, as far as it is known."""
    if isinstance(value, np.random.RandomState):
        return describe(value.get_state(legacy=False))
    if isinstance(value, nn.Module):
        return describe(dict(value.state_dict()))
    if isinstance(value, BaseEstimator):
        # as a dict: its values are texts already
        params = describe_params(value).items()
        return "{" + ", ".join(f"{name!r}: {text}" for name, text in params) + "}"
    return ""


def _describe_rows(rows: TaskRows) -> str:
    """Describe the rows of all tasks."""
    content = f"{describe(rows.X)}, {describe(rows.y)}, {describe(rows.sizes)}"
    return (
        f"{len(rows.sizes)} tasks with {len(rows.X)} rows and {rows.X.shape[1]} "
        f"features, digest {_digest(content.encode())}"
    )


def _describe_array(array: np.ndarray) -> str:
    """Describe an array; labels by what they print as."""
    if array.dtype.kind not in "biufc":
        array = np.frombuffer(repr(array.tolist()).encode(), np.uint8)
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return f"{array.dtype}{list(array.shape)} {_digest(content)}"


def _digest(content: Any) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _name_of(value: Any) -> str:
    """Return the name of a class or function, or of an object's class."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
