"""The members that a user gives to a mixture, checked before anything is fitted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn.base import is_classifier
from sklearn.utils.metaestimators import _BaseComposition

from sklearn_meta.base import BaseTaskEstimator

__all__ = ["check_members", "naming_member"]

Members = list[tuple[str, Any]]

# what stands in the place of a member that is left out, as in scikit-learn
DROP = "drop"


def check_members(mixture: _BaseComposition, members: Members) -> Members:
    """Return the members that are not dropped.

    Parameters
    ----------
    mixture : estimator
        The mixture that they are given to, a classifier or a regressor.
    members : list of (str, estimator or "drop")
        As the user gave them.

    Returns
    -------
    members : list of (str, estimator)
        At least one.

    Raises
    ------
    TypeError
        If one is no named meta-estimator, or predicts targets of another kind.
    ValueError
        If none is left, two have one name, or a parameter of one is bad.
    """
    _check_form(members)
    mixture._validate_names([name for name, _ in members])
    kept = [member for member in members if not _is_dropped(member[1])]
    if not kept:
        raise ValueError(
            "All members are dropped: expected at least one (name, estimator) with a "
            "meta-estimator."
        )
    for name, estimator in kept:
        _check_kind(mixture, name, estimator)
        with naming_member(name):
            estimator._validate_params()
            estimator._shot_range()
    return kept


@contextmanager
def naming_member(name: str) -> Iterator[None]:
    """Put the name of a member before what its own checks say."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"Member {name!r}: {error}") from error


def _is_dropped(estimator: Any) -> bool:
    """Return whether a member is to be left out."""
    return isinstance(estimator, str) and estimator == DROP


def _check_form(members: Members) -> None:
    """Raise if there are no pairs of a name and an estimator."""
    if not members:
        raise ValueError("Expected at least one (name, estimator), got none.")
    for member in members:
        if not (isinstance(member, tuple | list) and len(member) == 2):
            raise TypeError(
                "Expected estimators as a list of (name, estimator), got "
                f"{type(member).__name__} in it."
            )


def _check_kind(mixture: _BaseComposition, name: str, estimator: Any) -> None:
    """Raise if a member cannot adapt, or does not predict what the mixture does."""
    kind = type(estimator).__name__
    whole = isinstance(estimator, _BaseComposition)
    if whole or not isinstance(estimator, BaseTaskEstimator):
        raise TypeError(
            f"Expected meta-estimators of sklearn_meta as members, got {name!r}"
            f", a {kind}. PooledRegressor and "
            "PooledClassifier make one of any estimator of scikit-learn; the "
            "members of another mixture can be listed themselves."
        )
    if is_classifier(estimator) != is_classifier(mixture):
        expected = "classifiers" if is_classifier(mixture) else "regressors"
        raise TypeError(
            f"Expected meta-{expected} as members of a {type(mixture).__name__}, got "
            f"{name!r}, a {kind}. Classes and numbers cannot be mixed."
        )
