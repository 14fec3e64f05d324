"""Losses per row, the shared floor of the standard deviation, and the task mean.

Every loss returns one value a row, so that padding is masked in one place only:
:func:`masked_task_mean`, which keeps a large task from outvoting a small one.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# The one floor of all Gaussian heads, in units of the standardised target: low
# enough for almost noise-free targets, high enough that a likelihood cannot be
# driven to infinity by predicting one row exactly.
STD_FLOOR = 0.01


class Gaussian(NamedTuple):
    """An independent normal prediction for every query row.

    Parameters
    ----------
    mean : Tensor of shape (n_tasks, n_query)
        Predicted means.
    std : Tensor of shape (n_tasks, n_query)
        Predicted standard deviations, positive.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import Gaussian
    >>> Gaussian(torch.zeros(1, 2), torch.ones(1, 2)).mean.shape
    torch.Size([1, 2])
    """

    mean: Tensor
    std: Tensor


def bounded_std(raw: Tensor, floor: float = STD_FLOOR) -> Tensor:
    """Standard deviation from any real number: floor + softplus(raw).

    Parameters
    ----------
    raw : Tensor of any shape
        Unbounded values.
    floor : float, default=STD_FLOOR
        Smallest standard deviation, in units of the target, >= 0.

    Returns
    -------
    Tensor of the same shape
        Standard deviations above `floor`.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import bounded_std
    >>> bounded_std(torch.tensor([-100.0]), floor=0.25)
    tensor([0.2500])
    """
    return floor + F.softplus(raw)


def unbounded_std(std: float, floor: float = STD_FLOOR) -> float:
    """The raw value at which :func:`bounded_std` gives `std`; needs std > floor.

    Parameters
    ----------
    std : float
        Wanted standard deviation, in units of the target.
    floor : float, default=STD_FLOOR
        The floor that `bounded_std` will add.

    Returns
    -------
    float
        Inverse softplus of ``std - floor``.

    Examples
    --------
    >>> from sklearn_meta.functional import unbounded_std
    >>> round(unbounded_std(1.0, floor=0.0), 4)
    0.5413
    """
    return math.log(math.expm1(std - floor))


def gaussian_nll(prediction: Gaussian, Y: Tensor) -> Tensor:
    """Negative log-likelihood of the targets under a Gaussian, in nats per row.

    Parameters
    ----------
    prediction : Gaussian
        Means and standard deviations of shape (n_tasks, n_query).
    Y : Tensor of shape (n_tasks, n_query, 1) or (n_tasks, n_query)
        Targets.

    Returns
    -------
    Tensor of shape (n_tasks, n_query)
        One value a row.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import Gaussian, gaussian_nll
    >>> gaussian_nll(Gaussian(torch.zeros(1, 1), torch.ones(1, 1)), torch.zeros(1, 1))
    tensor([[0.9189]])
    """
    standardised = (_row_targets(Y) - prediction.mean) / prediction.std
    constant = 0.5 * math.log(2 * math.pi)
    return 0.5 * standardised.square() + prediction.std.log() + constant


def squared_error(mean: Tensor, Y: Tensor) -> Tensor:
    """Squared difference of each row's mean and target.

    Parameters
    ----------
    mean : Tensor of shape (n_tasks, n_query)
        Predicted means.
    Y : Tensor of shape (n_tasks, n_query, 1) or (n_tasks, n_query)
        Targets.

    Returns
    -------
    Tensor of shape (n_tasks, n_query)
        One value a row, in squared units of the target.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import squared_error
    >>> squared_error(torch.tensor([[1.0, 2.0]]), torch.tensor([[[3.0], [2.0]]]))
    tensor([[4., 0.]])
    """
    return (_row_targets(Y) - mean).square()


def squared_error_with_noise(prediction: Gaussian, Y: Tensor) -> Tensor:
    """Squared error of the mean plus the noise's likelihood at a fixed residual.

    The residual is detached in the second term, so the mean is trained by the
    squared error alone, as in Finn et al., while the noise level is fitted to what
    the mean leaves. The value is a training criterion, not a log-likelihood.

    Parameters
    ----------
    prediction : Gaussian
        Means and standard deviations of shape (n_tasks, n_query).
    Y : Tensor of shape (n_tasks, n_query, 1) or (n_tasks, n_query)
        Targets.

    Returns
    -------
    Tensor of shape (n_tasks, n_query)
        One value a row.

    References
    ----------
    C. Finn, P. Abbeel, S. Levine, "Model-Agnostic Meta-Learning for Fast Adaptation
    of Deep Networks", ICML 2017, equation 2.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import Gaussian, squared_error_with_noise
    >>> prediction = Gaussian(torch.ones(1, 1), torch.ones(1, 1))
    >>> squared_error_with_noise(prediction, torch.zeros(1, 1))
    tensor([[2.4189]])
    """
    noise = Gaussian(prediction.mean.detach(), prediction.std)
    return squared_error(prediction.mean, Y) + gaussian_nll(noise, Y)


def categorical_nll(logits: Tensor, Y: Tensor) -> Tensor:
    """Negative log-probability of each row's class, in nats per row.

    Parameters
    ----------
    logits : Tensor of shape (n_tasks, n_query, n_classes)
        Unnormalised log-probabilities; masked classes hold the dtype's minimum.
    Y : Tensor of shape (n_tasks, n_query, n_classes)
        One-hot classes. A row of padding is all zero and costs 0.

    Returns
    -------
    Tensor of shape (n_tasks, n_query)
        One value a row; finite, though huge, for a masked class.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import categorical_nll
    >>> categorical_nll(torch.zeros(1, 1, 2), torch.tensor([[[0.0, 1.0]]]))
    tensor([[0.6931]])
    """
    log_proba = F.log_softmax(logits, dim=-1)
    # 0 * -inf would be NaN where a masked logit underflows further.
    log_proba = log_proba.clamp_min(torch.finfo(logits.dtype).min)
    return -(Y * log_proba).sum(-1)


def mask_absent(logits: Tensor, present: Tensor) -> Tensor:
    """Logits with the dtype's minimum at the classes that the support lacks.

    Parameters
    ----------
    logits : Tensor of shape (n_tasks, n_query, n_classes)
        Unnormalised log-probabilities.
    present : Tensor of shape (n_tasks, n_classes), bool
        True for a class with at least one support row.

    Returns
    -------
    Tensor of shape (n_tasks, n_query, n_classes)
        The minimum instead of -inf keeps softmax free of NaN when all are absent.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import mask_absent
    >>> logits = mask_absent(torch.zeros(1, 1, 2), torch.tensor([[True, False]]))
    >>> logits.softmax(-1)
    tensor([[[1., 0.]]])
    """
    return logits.masked_fill(~present.unsqueeze(1), torch.finfo(logits.dtype).min)


def mean_per_task(row_loss: Tensor, mask: Tensor) -> Tensor:
    """Mean over each task's own rows; 0 for a task without rows.

    Parameters
    ----------
    row_loss : Tensor of shape (n_tasks, n_rows)
        One value a row; rows of padding may hold anything, NaN included.
    mask : Tensor of shape (n_tasks, n_rows), bool
        True for a real row.

    Returns
    -------
    Tensor of shape (n_tasks,)
        One mean a task.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import mean_per_task
    >>> mask = torch.tensor([[True, False], [True, True]])
    >>> mean_per_task(torch.tensor([[1.0, 9.0], [2.0, 4.0]]), mask)
    tensor([1., 3.])
    """
    total = torch.where(mask, row_loss, 0).sum(1)
    return total / mask.sum(1).clamp_min(1)


def masked_task_mean(row_loss: Tensor, mask: Tensor) -> Tensor:
    """Mean over each task's own rows, then over the tasks that have any.

    Parameters
    ----------
    row_loss : Tensor of shape (n_tasks, n_rows)
        One value a row; rows of padding may hold anything.
    mask : Tensor of shape (n_tasks, n_rows), bool
        True for a real row.

    Returns
    -------
    Tensor of shape ()
        The loss of the outer loop: a large task does not outvote a small one.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import masked_task_mean
    >>> mask = torch.tensor([[True, False], [True, True]])
    >>> masked_task_mean(torch.tensor([[1.0, 9.0], [2.0, 4.0]]), mask)
    tensor(2.)
    """
    n_tasks = mask.any(1).sum().clamp_min(1)
    return mean_per_task(row_loss, mask).sum() / n_tasks


def _row_targets(Y: Tensor) -> Tensor:
    """Targets of shape (n_tasks, n_query), whether or not an output axis follows."""
    return Y.squeeze(-1) if Y.ndim == 3 else Y
