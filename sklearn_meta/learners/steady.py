"""Which losses are the same in every outer step, so that one step stands for all.

A CUDA graph repeats the operations of one step, and the numbers of Python in them. What
is meant for some steps only must not be recorded.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

__all__ = ["steady_from", "steady_since"]

Loss = TypeVar("Loss", bound=Callable[..., Any])


def steady_from(progress: float) -> Callable[[Loss], Loss]:
    """Mark a `training_loss` that depends on tensors alone from some step on.

    Parameters
    ----------
    progress : float
        Share of the outer steps, in [0, 1], after which the same operations follow from
        episodes, weights and draws on their device, with the same numbers in them.

    Returns
    -------
    callable
        A decorator.

    Examples
    --------
    >>> from torch import nn
    >>> from sklearn_meta.learners.steady import steady_from, steady_since
    >>> class Annealed(nn.Module):
    ...     @steady_from(0.25)
    ...     def training_loss(self, *episodes, criterion, progress=0.0):
    ...         early = max(0, 1 - 4 * progress)
    >>> steady_since(Annealed())
    0.25
    """

    def mark(loss: Loss) -> Loss:
        vars(loss)["steady_from"] = progress
        return loss

    return mark


def steady_since(learner: nn.Module) -> float | None:
    """Return the share of the outer steps from which on a learner's loss is steady.

    Parameters
    ----------
    learner : nn.Module
        Without a `training_loss` it learns from its forward pass, which is steady.

    Returns
    -------
    float or None
        In [0, 1]; None for a `training_loss` that is not marked.
    """
    loss = getattr(learner, "training_loss", None)
    return 0.0 if loss is None else getattr(loss, "steady_from", None)
