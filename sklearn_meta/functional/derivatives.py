"""Activations and inner losses with their first and second derivatives."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sklearn_meta.functional.likelihoods import categorical_nll, mask_absent


class Activation(NamedTuple):
    """An elementwise function f with f' and f'', each of (z, f(z)).

    Parameters
    ----------
    value : callable
        ``value(z)`` is f(z).
    slope : callable, default=None
        ``slope(z, value)`` is f'(z); None for the constant 1.
    curvature : callable, default=None
        ``curvature(z, value)`` is f''(z); None for the constant 0.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional.derivatives import activation_of
    >>> tanh = activation_of(torch.nn.Tanh())
    >>> z = torch.zeros(1)
    >>> tanh.slope(z, tanh.value(z)), tanh.curvature(z, tanh.value(z))
    (tensor([1.]), tensor([-0.]))
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor] | None = None
    curvature: Callable[[Tensor, Tensor], Tensor] | None = None


class InnerLoss(NamedTuple):
    """Mean loss of each task whose gradient is ``weight * (mean(outputs) - Y)``.

    The squared error and the cross-entropy are both of this form: the mean is the
    identity for one and the softmax for the other.

    Parameters
    ----------
    Y : Tensor of shape (n_tasks, n_support, n_outputs)
        Targets, or classes as rows of probabilities (one-hot).
    weight : Tensor of shape (n_tasks, n_support, 1)
        Weight of a row in its task's loss; 0 for padding.
    has_classes : bool
        Whether the mean is the softmax.
    present : Tensor of shape (n_tasks, n_outputs), bool, default=None
        True for a class that may be predicted; None for all.
    offset : Tensor of shape (n_tasks, n_support, n_outputs), default=None
        Added to the outputs to make logits; None adds nothing.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import squared_error_loss
    >>> Y, mask = torch.ones(1, 2, 1), torch.ones(1, 2, dtype=torch.bool)
    >>> squared_error_loss(Y, mask).per_task(3 * Y)
    tensor([4.])
    """

    Y: Tensor
    weight: Tensor
    has_classes: bool
    present: Tensor | None = None
    offset: Tensor | None = None

    def per_task(self, outputs: Tensor) -> Tensor:
        """Loss of every task.

        Parameters
        ----------
        outputs : Tensor of shape (n_tasks, n_support, n_outputs)
            Of the network.

        Returns
        -------
        Tensor of shape (n_tasks,)
            Mean over a task's own rows.
        """
        if self.has_classes:
            rows = categorical_nll(self._logits(outputs), self.Y)
            return (self.weight.squeeze(-1) * rows).sum(1)
        return 0.5 * (self.weight * (outputs - self.Y).square()).sum((1, 2))

    def mean(self, outputs: Tensor) -> Tensor:
        """The expected target of every row.

        Parameters
        ----------
        outputs : Tensor of shape (n_tasks, n_support, n_outputs)
            Of the network.

        Returns
        -------
        Tensor of the same shape
            The outputs themselves, or probabilities.
        """
        if not self.has_classes:
            return outputs
        # Reducing over a short last axis is slow, over a middle one it is not.
        return self._logits(outputs).mT.softmax(1).mT

    def gradient(self, outputs: Tensor) -> Tensor:
        """Derivative of the loss of every task by its outputs.

        Parameters
        ----------
        outputs : Tensor of shape (n_tasks, n_support, n_outputs)
            Of the network.

        Returns
        -------
        Tensor of the same shape
            ``weight * (mean(outputs) - Y)``.
        """
        return (self.mean(outputs) - self.Y).mul_(self.weight)

    def times(self, factor: Tensor | float) -> "InnerLoss":
        """The same loss times a number.

        Parameters
        ----------
        factor : Tensor of shape () or float
            The number.

        Returns
        -------
        InnerLoss
            With the weights scaled.
        """
        return self._replace(weight=factor * self.weight)

    def part(self, tasks: slice, n_rows: int) -> "InnerLoss":
        """The loss of some tasks, and of their first rows.

        Parameters
        ----------
        tasks : slice
            Which tasks.
        n_rows : int
            How many rows; those beyond must be padding.

        Returns
        -------
        InnerLoss
            Views of the same tensors.
        """
        return InnerLoss(
            self.Y[tasks, :n_rows],
            self.weight[tasks, :n_rows],
            self.has_classes,
            None if self.present is None else self.present[tasks],
            None if self.offset is None else self.offset[tasks, :n_rows],
        )

    def mean_change(self, mean: Tensor, change: Tensor) -> Tensor:
        """Directional derivative of the mean as the outputs change.

        Parameters
        ----------
        mean : Tensor of shape (n_tasks, n_support, n_outputs)
            As of `mean`.
        change : Tensor of the same shape
            Directional derivative of the outputs.

        Returns
        -------
        Tensor of the same shape
            Directional derivative of the mean.
        """
        if not self.has_classes:
            return change
        moved = mean * change
        return moved - mean * moved.sum(-1, keepdim=True)

    def _logits(self, outputs: Tensor) -> Tensor:
        """Outputs (n_tasks, n_rows, n_out) plus offset, without absent classes."""
        logits = outputs if self.offset is None else outputs + self.offset
        return logits if self.present is None else mask_absent(logits, self.present)


def squared_error_loss(Y: Tensor, mask: Tensor) -> InnerLoss:
    """Mean squared error of each task's own rows.

    Parameters
    ----------
    Y : Tensor of shape (n_tasks, n_support, 1)
        Targets.
    mask : Tensor of shape (n_tasks, n_support), bool
        True for a real row.

    Returns
    -------
    InnerLoss
        With weights 2 / n for the n real rows of a task.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import squared_error_loss
    >>> mask = torch.tensor([[True, True, False]])
    >>> squared_error_loss(torch.zeros(1, 3, 1), mask).weight.squeeze()
    tensor([1., 1., 0.])
    """
    return InnerLoss(Y, 2 * _row_weights(Y, mask), has_classes=False)


def cross_entropy_loss(
    Y: Tensor,
    mask: Tensor,
    present: Tensor | None = None,
    offset: Tensor | None = None,
) -> InnerLoss:
    """Mean negative log-probability of each task's own rows.

    Parameters
    ----------
    Y : Tensor of shape (n_tasks, n_support, n_classes)
        One-hot classes.
    mask : Tensor of shape (n_tasks, n_support), bool
        True for a real row.
    present : Tensor of shape (n_tasks, n_classes), bool, default=None
        True for a class with a probability above zero; None for all.
    offset : Tensor of shape (n_tasks, n_support, n_classes), default=None
        Added to the outputs to make logits; None adds nothing.

    Returns
    -------
    InnerLoss
        With weights 1 / n for the n real rows of a task.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import cross_entropy_loss
    >>> mask = torch.tensor([[True, True, False]])
    >>> loss = cross_entropy_loss(torch.zeros(1, 3, 2), mask)
    >>> loss.mean(torch.zeros(1, 1, 2))
    tensor([[[0.5000, 0.5000]]])
    """
    weight = _row_weights(Y, mask)
    return InnerLoss(Y, weight, has_classes=True, present=present, offset=offset)


def activation_of(layer: nn.Module) -> Activation | None:
    """The derivatives of a layer's function, if it is one that is known here.

    Parameters
    ----------
    layer : nn.Module
        Any layer.

    Returns
    -------
    Activation or None
        None for a layer that is not elementwise, is random, or has an option set
        under which its derivatives differ.

    Examples
    --------
    >>> from torch import nn
    >>> from sklearn_meta.functional.derivatives import activation_of
    >>> activation_of(nn.ReLU()).curvature is None, activation_of(nn.Dropout()) is None
    (True, True)
    """
    if getattr(layer, "approximate", "none") != "none":  # GELU by tanh
        return None
    if getattr(layer, "alpha", 1.0) != 1.0:  # ELU
        return None
    return _ACTIVATIONS.get(type(layer))


def _row_weights(Y: Tensor, mask: Tensor) -> Tensor:
    """One over the number of a task's rows, 0 for padding; (n_tasks, n_support, 1)."""
    counts = mask.sum(1, keepdim=True).clamp_min(1)
    return (mask.to(Y.dtype) / counts).unsqueeze(-1)


# Named functions all the way, since learners are pickled.
def _identity(z: Tensor) -> Tensor:
    return z


def _tanh_slope(z: Tensor, value: Tensor) -> Tensor:
    return 1 - value.square()


def _tanh_curvature(z: Tensor, value: Tensor) -> Tensor:
    return -2 * value * (1 - value.square())


def _sigmoid_slope(z: Tensor, value: Tensor) -> Tensor:
    return value * (1 - value)


def _sigmoid_curvature(z: Tensor, value: Tensor) -> Tensor:
    return value * (1 - value) * (1 - 2 * value)


def _silu_slope(z: Tensor, value: Tensor) -> Tensor:
    s = z.sigmoid()
    return s + value * (1 - s)


def _silu_curvature(z: Tensor, value: Tensor) -> Tensor:
    s = z.sigmoid()
    return s * (1 - s) * (2 + z * (1 - 2 * s))


def _normal_density(z: Tensor) -> Tensor:
    return (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)


def _gelu_slope(z: Tensor, value: Tensor) -> Tensor:
    # f(z) = z Phi(z); Phi from f would be 0 / 0 at zero.
    return torch.special.ndtr(z) + z * _normal_density(z)


def _gelu_curvature(z: Tensor, value: Tensor) -> Tensor:
    return _normal_density(z) * (2 - z.square())


def _elu_slope(z: Tensor, value: Tensor) -> Tensor:
    return value.clamp_max(0) + 1


def _elu_curvature(z: Tensor, value: Tensor) -> Tensor:
    return (z <= 0) * (value + 1)


def _relu_slope(z: Tensor, value: Tensor) -> Tensor:
    return value.sign()  # a float at once: products with booleans are slow


IDENTITY = Activation(_identity)

_ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Identity: IDENTITY,
    nn.ReLU: Activation(torch.relu, _relu_slope),
    nn.Tanh: Activation(torch.tanh, _tanh_slope, _tanh_curvature),
    nn.Sigmoid: Activation(torch.sigmoid, _sigmoid_slope, _sigmoid_curvature),
    nn.SiLU: Activation(F.silu, _silu_slope, _silu_curvature),
    nn.GELU: Activation(F.gelu, _gelu_slope, _gelu_curvature),
    nn.ELU: Activation(F.elu, _elu_slope, _elu_curvature),
}
