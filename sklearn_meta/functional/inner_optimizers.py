r"""Rules by which the inner loop turns gradients into steps, differentiable themselves.

With the gradient :math:`g_k` of step k = 1, 2, ..., a rule gives a direction
:math:`d_k`, and the step is :math:`\theta_k = \theta_{k-1} - r\, d_k`:

.. math::

    \text{sgd:} \quad & d_k = g_k \\
    \text{momentum:} \quad & d_k = 0.9\, d_{k-1} + g_k \\
    \text{adam:} \quad & d_k = \hat m_k / \sqrt{\hat v_k + \epsilon^2}

with Adam's averages of gradients and of their squares, corrected for their start at
zero. A rule keeps nothing: its memory is a value that comes and goes, one for each
parameter, so that outer gradients pass through it.

References
----------
D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015,
algorithm 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Memory = tuple[Tensor, ...]
# (gradient, memory, number of the step from 1) -> (direction, memory)
UpdateRule = Callable[[Tensor, Memory, int], tuple[Tensor, Memory]]


def follow_gradient(
    gradient: Tensor, memory: Memory, step: int
) -> tuple[Tensor, Memory]:
    """Go down the gradient itself.

    Parameters
    ----------
    gradient : Tensor of any shape
        Gradient of this step.
    memory : tuple of Tensor
        Ignored here.
    step : int
        Ignored here.

    Returns
    -------
    direction : Tensor of the same shape
        The gradient.
    memory : tuple of Tensor
        Nothing.
    """
    return gradient, ()


@dataclass(frozen=True)
class Momentum:
    """Go down a sum of the gradients so far, in which older ones fade.

    Parameters
    ----------
    decay : float, default=0.9
        What is left of a gradient after a step, in [0, 1).
    """

    decay: float = 0.9

    def __call__(
        self, gradient: Tensor, memory: Memory, step: int
    ) -> tuple[Tensor, Memory]:
        """Return the direction and the memory; see `follow_gradient`."""
        direction = gradient + self.decay * memory[0] if memory else gradient
        return direction, (direction,)


@dataclass(frozen=True)
class Adam:
    """Go down the mean gradient over its root mean square, number by number.

    Parameters
    ----------
    mean_decay : float, default=0.9
        Of the average of gradients, in [0, 1). Reptile uses 0.
    square_decay : float, default=0.999
        Of the average of their squares, in [0, 1).
    offset : float, default=1e-3
        Root mean square below which steps become small, > 0, in units of the gradient.

    Notes
    -----
    Unlike in the paper the offset is inside of the root, and larger: the derivative of
    the root is infinite at zero, where the gradients of silent units are, and outer
    gradients through the first step grow up to 1 / offset.
    """

    mean_decay: float = 0.9
    square_decay: float = 0.999
    offset: float = 1e-3

    def __call__(
        self, gradient: Tensor, memory: Memory, step: int
    ) -> tuple[Tensor, Memory]:
        """Return the direction and the memory; see `follow_gradient`."""
        mean = (1 - self.mean_decay) * gradient
        square = (1 - self.square_decay) * gradient.square()
        if memory:
            mean = self.mean_decay * memory[0] + mean
            square = self.square_decay * memory[1] + square
        mean_now = mean / (1 - self.mean_decay**step)
        square_now = square / (1 - self.square_decay**step)
        return mean_now / (square_now + self.offset**2).sqrt(), (mean, square)


INNER_OPTIMIZERS: dict[str, UpdateRule] = {
    "sgd": follow_gradient,
    "momentum": Momentum(),
    "adam": Adam(),
}
