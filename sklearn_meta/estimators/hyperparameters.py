"""Hyper-parameters of a kernel on columns: read from a learner, or its start."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sklearn_meta.learners import KernelLearner

__all__ = ["KernelHyperparameters"]

# the pooled column of a deep kernel starts with little weight in the linear part
LOG_POOLED_WEIGHT = -3.0
TINY = 1e-30


class KernelHyperparameters(NamedTuple):
    """Variances and lengths of a kernel on the columns of a table.

    They are in units of the scaled target, and of the scaled features.

    Parameters
    ----------
    constant : float
        Variance of the level of a task.
    linear : ndarray of shape (n_columns,)
        Variance of the slope of each column.
    smooth : float
        Variance of the squared exponential part.
    length_scale : ndarray of shape (n_columns,)
        Length of each column in the squared exponential part.
    noise : float
        Variance of the noise; its common level where it depends on the row.
    mean : float, default=0.0
        Mean of the process, where it is one constant.

    Examples
    --------
    >>> from sklearn_meta import KernelHyperparameters
    >>> KernelHyperparameters(0.2, [0.02, 0.02], 0.1, [1.4, 1.4], 0.7).noise
    0.7
    """

    constant: float
    linear: np.ndarray
    smooth: float
    length_scale: np.ndarray
    noise: float
    mean: float = 0.0

    @classmethod
    def guess(cls, n_columns: int, targets: Any) -> "KernelHyperparameters":
        """Return where the marginal likelihood starts.

        Parameters
        ----------
        n_columns : int
            Number of columns.
        targets : ndarray or Tensor of any shape
            The scaled targets, whose variance is shared out.

        Returns
        -------
        hyperparameters : KernelHyperparameters
            Mostly noise, some level, little slope.
        """
        variance = float(((targets - targets.mean()) ** 2).mean()) or 1.0
        return cls(
            constant=0.2 * variance,
            linear=np.full(n_columns, 0.02 * variance),
            smooth=0.1 * variance,
            length_scale=np.full(n_columns, math.sqrt(n_columns)),
            noise=0.7 * variance,
        )

    @classmethod
    def of(cls, learner: KernelLearner) -> "KernelHyperparameters":
        """Read them from a learner.

        Parameters
        ----------
        learner : KernelLearner
            Trained or not.

        Returns
        -------
        hyperparameters : KernelHyperparameters
            Those of the part of its kernel on columns.
        """
        level = getattr(learner, "constant_mean", None)
        return cls(
            constant=_square(learner.log_constant).item(),
            linear=_square(learner.log_linear).numpy(),
            smooth=_square(learner.log_smooth).item(),
            length_scale=learner.log_length.detach().exp().cpu().numpy(),
            noise=_square(learner.log_noise).item() + learner.std_floor**2,
            mean=0.0 if level is None else level.item(),
        )

    def put_into(self, learner: KernelLearner) -> None:
        """Start an untrained learner here, its networks being a small disturbance.

        A learner with one more column than there are lengths has the pooled prediction
        last: it starts with little weight and the largest length.

        Parameters
        ----------
        learner : KernelLearner
            Untrained; it is changed.

        Raises
        ------
        ValueError
            If the numbers of columns do not fit.
        """
        linear, length = np.asarray(self.linear), np.asarray(self.length_scale)
        n_columns, n_more = len(length), learner.n_features - len(length)
        if len(linear) != n_columns or n_more not in (0, 1):
            raise ValueError(
                "Expected as many entries of linear and of length_scale as there are "
                f"columns, {learner.n_features} (or one less with a pooled "
                f"estimator), got {len(linear)} and {n_columns}."
            )
        pooled = LOG_POOLED_WEIGHT - 0.5 * math.log(learner.n_features)
        log_linear = np.r_[_half_log(linear), np.full(n_more, pooled)]
        log_length = np.log(np.r_[length, np.full(n_more, length.max(initial=1.0))])
        floor = learner.std_floor**2
        with torch.no_grad():
            learner.log_constant.fill_(float(_half_log(self.constant)))
            learner.log_smooth.fill_(float(_half_log(self.smooth)))
            learner.log_noise.fill_(float(_half_log(self.noise - floor)))
            learner.log_linear.copy_(torch.as_tensor(log_linear))
            learner.log_length.copy_(torch.as_tensor(log_length))
        learner.quieten(self.mean)


def _square(log_std: Tensor) -> Tensor:
    """The variance, on the CPU."""
    return (2 * log_std.detach()).exp().cpu()


def _half_log(variance: float | np.ndarray) -> np.ndarray:
    """Logarithm of the standard deviation; a variance may be zero."""
    return 0.5 * np.log(np.maximum(variance, TINY))
