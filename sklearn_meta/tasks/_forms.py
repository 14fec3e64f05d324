"""The forms of a collection of tasks that are not taken, and what to do about them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

FORMS = (
    "Expected a TaskCollection, a sequence of (X, y) or of Task, a dict of these by "
    "name, or rows X with targets y (and tasks=ids)"
)

EMPTY_MESSAGE = "The collection is empty: at least one task is needed."


def check_form(X: Any, y: Any = None) -> None:
    """Raise if X is several tables in a form that is not taken.

    Raises
    ------
    TypeError
        If it is; the message says what X is, and how to bring it into a form.
    """
    got, remedy = _describe_other_form(X, y)
    if got:
        raise TypeError(f"{FORMS}, got {got}. {remedy}")


def check_not_empty(X: Any, y: Any = None) -> None:
    """Raise if X is a sequence or a dict of no task."""
    if y is None and isinstance(X, (Sequence, Mapping)) and not len(X):
        raise ValueError(EMPTY_MESSAGE)


def _describe_other_form(X: Any, y: Any) -> tuple[str, str]:
    """Return what X is and what to do, two empty texts where nothing is known."""
    kind = type(X).__name__
    if hasattr(X, "shape"):  # one table; a sparse one may be a dict as well
        return "", ""
    if hasattr(X, "groups") and hasattr(X, "obj"):  # of pandas
        return (
            f"a {kind}",
            "Use TaskCollection.from_frame(frame, task=..., target=...).",
        )
    if isinstance(X, Iterator):
        return f"a {kind}, which can be read only once", "Make a list of it."
    if isinstance(X, Mapping) and X:
        first = type(next(iter(X.values()))).__name__
        return f"a {kind} of {first}", "Make each value a pair (X, y)."
    # not a subclass, whose items may be files
    if type(X) not in (list, tuple) or not len(X):
        return "", ""
    first = X[0]
    if _is_table(first):
        tables = f"a {kind} of {type(first).__name__}"
        if y is not None:
            return f"{tables}, and their targets apart", "Pass list(zip(X, y))."
        return tables, (
            "Make each a pair (X, y), or use TaskCollection.from_frame on one frame of "
            "all rows."
        )
    if isinstance(first, (list, tuple)) and len(first) > 2 and _is_table(first[0]):
        return (
            f"a {kind} of {type(first).__name__} with {len(first)} entries",
            "Use Task(X, y, name) for a task with a name.",
        )
    return "", ""


def _is_table(value: Any) -> bool:
    """Return whether a value is an array or a frame of rows."""
    return getattr(value, "ndim", None) == 2
