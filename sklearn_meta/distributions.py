"""What an estimator inside of another says of the distribution of targets."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.utils.metaestimators import available_if

from sklearn_meta.adaptation import nested, open_composite
from sklearn_meta.targets import log_probabilities

__all__ = ["InnerDistributionMixin", "LogProbabilitiesMixin", "ask", "can_tell"]


def can_tell(obj: Any, method: str) -> bool:
    """Return whether an object, or what it holds at any depth, answers a method."""
    for part in nested(obj):
        if hasattr(part, method):
            return True
        # what it holds counts in another unit
        if isinstance(part, TransformedTargetRegressor):
            return False
    return False


def ask(obj: Any, method: str, X: Any, *args: Any, **params: Any) -> Any:
    """Call a method of the first object in a nesting that has it.

    Rows X of shape (n_rows, n_features) go through the transformers on the way.
    """
    composite = None if hasattr(obj, method) else open_composite(obj)
    if composite is None:
        return getattr(obj, method)(X, *args, **params)
    rows, _ = composite.transform(X, None)
    return ask(composite.inner, method, rows, *args, **params)


def _inside_can_tell(method: str) -> Callable:
    """Return a check for `available_if`: whether what is inside answers a method."""
    return lambda self: can_tell(self._inside(), method)


class InnerDistributionMixin:
    """Quantiles, densities and draws from the estimator inside, where it has them."""

    # filled in by the class: what is inside, fitted or not, and a call of one of its
    # methods on rows as it sees them
    _inside: Callable[[], Any]
    _ask: Callable[..., Any]

    @available_if(_inside_can_tell("predict_quantiles"))
    def predict_quantiles(
        self, X: Any, quantiles: Any = (0.05, 0.5, 0.95), **params: Any
    ) -> np.ndarray:
        """Predict quantiles of each row's target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, as ``predict`` takes them.
        quantiles : array-like of shape (n_quantiles,), default=(0.05, 0.5, 0.95)
            Levels, each in (0, 1).
        **params : dict
            Handed to the estimator inside, such as the ``tasks`` of a pipeline.

        Returns
        -------
        values : ndarray of shape (n_samples, n_quantiles)
            The quantiles, in the unit of the target.

        Raises
        ------
        NotFittedError
            If ``fit`` was not called.
        ValueError
            If a level is not in (0, 1).
        """
        return self._ask("predict_quantiles", X, quantiles, **params)

    @available_if(_inside_can_tell("log_density"))
    def log_density(self, X: Any, y: Any, **params: Any) -> np.ndarray:
        """Return the log-density of targets under the prediction of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, as ``predict`` takes them.
        y : array-like of shape (n_samples,)
            Their targets.
        **params : dict
            Handed to the estimator inside, such as the ``tasks`` of a pipeline.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            In nats, in the unit of the target.

        Raises
        ------
        NotFittedError
            If ``fit`` was not called.
        ValueError
            If X and y differ in length, or a target is not finite.
        """
        return self._ask("log_density", X, y, **params)

    @available_if(_inside_can_tell("sample_y"))
    def sample_y(
        self, X: Any, n_samples: int = 1, random_state: Any = 0, **params: Any
    ) -> np.ndarray:
        """Draw functions of the task, at the given rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows, as ``predict`` takes them.
        n_samples : int, default=1
            Number of draws.
        random_state : int, RandomState instance or None, default=0
            Source of randomness.
        **params : dict
            Handed to the estimator inside, such as the ``tasks`` of a pipeline.

        Returns
        -------
        y_samples : ndarray of shape (n_rows, n_samples)
            The drawn values, in the unit of the target.

        Raises
        ------
        NotFittedError
            If ``fit`` was not called.
        """
        return self._ask("sample_y", X, n_samples, random_state, **params)


class LogProbabilitiesMixin:
    """Logarithms of the probabilities of a classifier that has them."""

    predict_proba: Callable[[Any], np.ndarray]

    @available_if(lambda self: hasattr(self, "predict_proba"))
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, as ``predict_proba`` takes them.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            In nats, in the order of ``classes_``; minus infinity where the probability
            is 0.

        Raises
        ------
        NotFittedError
            If ``fit`` was not called.
        """
        return log_probabilities(self.predict_proba(X))
