r"""The mean negative log-likelihood of Gaussian predictions, and its gradient.

For rows with mean :math:`m`, standard deviation :math:`s`, target y and weight w, and
:math:`z = (y - m) / s`, the loss is
:math:`\sum w (z^2 / 2 + \log s + \log(2 \pi) / 2)`, with the derivatives

.. math:: \partial / \partial m = -w z / s, \qquad
          \partial / \partial s = w (1 - z^2) / s.

A loss of so few numbers takes less time than autograd's record of it.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from sklearn_meta.functional.at_hand import is_whole
from sklearn_meta.functional.likelihoods import Gaussian


def mean_gaussian_nll(prediction: Gaussian, Y: Tensor, mask: Tensor) -> Tensor:
    """Mean of `gaussian_nll` over each task's own rows, then over tasks.

    Parameters
    ----------
    prediction : Gaussian of (n_tasks, n_rows)
        Means and standard deviations, > 0.
    Y : Tensor of shape (n_tasks, n_rows, 1)
        Targets.
    mask : Tensor of shape (n_tasks, n_rows), bool
        True for a real row; those of padding may hold anything.

    Returns
    -------
    Tensor of shape ()
        As ``masked_task_mean(gaussian_nll(prediction, Y), mask)``, in nats. Autograd
        knows its first derivatives by the prediction.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import Gaussian
    >>> from sklearn_meta.functional.gaussian_loss import mean_gaussian_nll
    >>> prediction = Gaussian(torch.zeros(1, 2), torch.ones(1, 2))
    >>> mask = torch.tensor([[True, False]])
    >>> mean_gaussian_nll(prediction, torch.zeros(1, 2, 1), mask)
    tensor(0.9189)
    """
    loss: Tensor = _MeanGaussianNLL.apply(*prediction, Y.squeeze(-1), mask)
    return loss


class _MeanGaussianNLL(Function):
    """The loss, whose gradient is computed with it."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, std: Tensor, Y: Tensor, mask: Tensor) -> Tensor:
        """Return the loss () of rows (n_tasks, n_rows) and keep its gradient."""
        precision = std.reciprocal()
        z, log_std = (Y - mean) * precision, std.log()
        if is_whole(mask):
            weight: Tensor | float = 1 / mask.numel()
            total: Tensor | float = 1.0
        else:
            n_rows, n_tasks = mask.sum(1, keepdim=True), mask.any(1).sum()
            weight = mask.to(z) / (n_rows.clamp_min(1) * n_tasks.clamp_min(1))
            total = weight.sum()
            z, log_std, precision = (
                torch.where(mask, part, 0) for part in (z, log_std, precision)
            )
        squares = z.square()
        ctx.gradients = weight * precision * -z, weight * precision * (1 - squares)
        constant = 0.5 * math.log(2 * math.pi)
        return ((0.5 * squares + log_std) * weight).sum() + constant * total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        """Hand the gradient out; the factor () is that of the loss."""
        of_mean, of_std = ctx.gradients
        return factor * of_mean, factor * of_std, None, None
