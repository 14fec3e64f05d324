"""The laws that every call obeys, however bad its input, and a case to try them on.

1. Only ValueError, TypeError, NotFittedError and documented warnings leave.
2. Predictions are finite, whatever was accepted before.
3. After an error the estimator is what it was; a prediction never changes it.
4. The caller's data are never changed.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.linalg import LinAlgWarning
from sklearn.base import BaseEstimator
from sklearn.exceptions import (
    ConvergenceWarning,
    DataConversionWarning,
    NotFittedError,
    UndefinedMetricWarning,
)
from torch import nn

from sklearn_meta import exceptions as documented

ALLOWED_ERRORS = (NotFittedError, ValueError, TypeError)
ALLOWED_WARNINGS = (
    documented.DivergenceWarning,
    documented.FewTasksWarning,
    documented.LabelModeWarning,
    documented.LargeSupportWarning,
    # scikit-learn's own, of metrics, shapes and its solvers
    UndefinedMetricWarning,
    DataConversionWarning,
    ConvergenceWarning,
    LinAlgWarning,
)
# scikit-learn says this by a plain UserWarning
ALLOWED_TEXTS = ("feature names", "unique classes is greater than 50%")


@dataclass
class Case:
    """A call on trial, what must not change, and what must be finite after it."""

    what: str
    call: Callable[[], Any] = field(repr=False)
    watched: Any = field(default=None, repr=False)
    inputs: Any = field(default=(), repr=False)
    probe: Callable[[Any], Any] = field(default=lambda result: (), repr=False)
    is_pure: bool = False


def check(case):
    """Raise AssertionError if a case breaks a law; return the name of its outcome."""
    before, given = fingerprint(case.watched), fingerprint(case.inputs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result, outcome = case.call(), "answered"
        except ALLOWED_ERRORS as error:
            result, outcome = None, _name_of_error(error)
            assert str(error), f"{case.what}: an error without a message"
        if outcome == "answered":
            for values in case.probe(result):
                assert np.isfinite(values).all(), f"{case.what}: {values} left predict"
    assert_documented(case, caught)
    assert fingerprint(case.inputs) == given, f"{case.what}: the input was changed"
    if outcome != "answered" or case.is_pure:
        assert fingerprint(case.watched) == before, (
            f"{case.what}: the state was changed"
        )
    return outcome


def _name_of_error(error):
    """Return the allowed class of an error."""
    return next(c.__name__ for c in ALLOWED_ERRORS if isinstance(error, c))


def assert_documented(case, caught):
    """Raise if a warning is one that a user cannot know from the documentation."""
    for warning in caught:
        known = issubclass(warning.category, ALLOWED_WARNINGS)
        text = str(warning.message)
        assert known or any(t in text for t in ALLOWED_TEXTS), (
            f"{case.what}: {warning.category.__name__} from {warning.filename}:"
            f"{warning.lineno}: {text}"
        )


def fingerprint(value):
    """Return something that differs if anything in a tree of values does."""
    if isinstance(value, torch.Tensor):
        return fingerprint(value.detach().numpy())
    if isinstance(value, np.ndarray) and value.dtype != object:
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, nn.Module):
        return fingerprint(dict(value.state_dict()))
    if isinstance(value, dict):
        return [(k, fingerprint(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return [fingerprint(v) for v in value]
    if isinstance(value, BaseEstimator):
        return fingerprint(vars(value))
    return repr(value)
