"""Errors and warnings that a user of the package may want to catch or filter."""

import sys
import warnings
from types import FrameType

from sklearn.exceptions import NotFittedError

__all__ = [
    "DeviceWarning",
    "DivergenceWarning",
    "FewTasksWarning",
    "LabelModeWarning",
    "LargeSupportWarning",
    "NotAdaptedError",
]

# whose lines are not the user's: a warning points at the caller of these
_LIBRARIES = {"joblib", "sklearn", "sklearn_meta", "skorch", "torch"}


class NotAdaptedError(NotFittedError):
    """Raised when a model that was fitted on tasks predicts before ``adapt``.

    It is a :class:`sklearn.exceptions.NotFittedError`, so that code which handles
    unfitted estimators handles unadapted ones too.

    Examples
    --------
    >>> from sklearn.exceptions import NotFittedError
    >>> from sklearn_meta.exceptions import NotAdaptedError
    >>> issubclass(NotAdaptedError, NotFittedError)
    True
    """


class DivergenceWarning(UserWarning):
    """The inner or the outer loop left the finite numbers or made things worse.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_meta.exceptions import DivergenceWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DivergenceWarning)
    """


class DeviceWarning(UserWarning):
    """A device, a precision, the compiled engine or a CUDA graph cannot be had.

    Another one is used, or the fit goes on without.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_meta.exceptions import DeviceWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", DeviceWarning)
    """


class FewTasksWarning(UserWarning):
    """There are too few tasks, or classes, to learn from reliably.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_meta.exceptions import FewTasksWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", FewTasksWarning)
    """


class LabelModeWarning(UserWarning):
    """Labels are taken as local to their task, though tasks have labels in common.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_meta.exceptions import LabelModeWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", LabelModeWarning)
    """


class LargeSupportWarning(UserWarning):
    """A support has more rows than a method can use, and some are left out.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_meta.exceptions import LargeSupportWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", LargeSupportWarning)
    """


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the line of the user's code that led here, however deep that is."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _LIBRARIES:
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def is_called_from(modules: tuple[str, ...]) -> bool:
    """Return whether code of some modules, or of their parts, is waiting for this."""
    parts = tuple(f"{module}." for module in modules)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name in modules or name.startswith(parts):
            return True
        frame = frame.f_back
    return False
