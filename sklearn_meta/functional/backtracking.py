"""Gradient descent whose rate falls where a step would lead up.

For inner problems that are to be solved, whatever the path: nothing looks through the
steps, so they may depend on losses.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sklearn_meta.functional.evaluation import Evaluate, Parameters
from sklearn_meta.functional.inner_loop import choose_by_task

# of the rate of a task, where a step is taken back
SHRINKAGE = 0.5


def descend_with_backtracking(
    evaluate: Evaluate,
    params: Mapping[str, Tensor],
    lr: float,
    n_steps: int,
    *,
    visit: Callable[[Parameters], None] | None = None,
) -> tuple[Parameters, Tensor]:
    """Gradient descent of every task, taking back each step that leads up.

    Parameters
    ----------
    evaluate : callable
        As of :func:`descend`.
    params : mapping of str to Tensor of shape (n_tasks, ...)
        Where to start.
    lr : float
        Rate of the first step, > 0. A task whose loss would rise stays where it is for
        that step, and goes on with half of its rate.
    n_steps : int
        Number of steps, >= 0, those that are taken back among them.
    visit : callable, default=None
        As in :func:`inner_loop`.

    Returns
    -------
    params : dict of str to Tensor of shape (n_tasks, ...)
        Where the steps ended.
    diverged : Tensor of shape (n_tasks,), bool
        True for a task all of whose steps led up.

    References
    ----------
    L. Armijo, "Minimization of functions having Lipschitz continuous first partial
    derivatives", Pacific Journal of Mathematics 16, 1966.

    Examples
    --------
    The second of these tasks would overshoot:

    >>> import torch
    >>> from sklearn_meta.functional import descend_with_backtracking
    >>> slopes = torch.tensor([1.0, 3.0])
    >>> def evaluate(params):  # slope * level^2
    ...     level = params["level"]
    ...     return (lambda: slopes * level**2), (lambda: {"level": 2 * slopes * level})
    >>> start = {"level": torch.ones(2)}
    >>> descend_with_backtracking(evaluate, start, lr=0.4, n_steps=2)[0]["level"]
    tensor([ 0.0400, -0.2000])
    """
    current = dict(params)
    losses, gradients = _values(evaluate, current)
    rate = torch.full_like(losses, lr)
    stuck = torch.ones_like(losses, dtype=torch.bool)
    for _ in range(n_steps):
        moved = {n: current[n] - _like(rate, g) * g for n, g in gradients.items()}
        tried = {**current, **moved}
        tried_losses, tried_gradients = _values(evaluate, tried)
        # Rounding at a minimum leads nowhere. A comparison with NaN is False.
        limit = losses + torch.finfo(losses.dtype).eps * losses.abs()
        good = tried_losses <= limit
        current = choose_by_task(good, tried, current)
        gradients = choose_by_task(good, tried_gradients, gradients)
        losses = torch.where(good, tried_losses, losses)
        rate = torch.where(good, rate, SHRINKAGE * rate)
        stuck = stuck & ~good
        if visit is not None:
            visit(current)
    ended = {name: p.detach() for name, p in current.items()}
    return ended, stuck & (n_steps > 0)


def _values(evaluate: Evaluate, at: Parameters) -> tuple[Tensor, Parameters]:
    """Losses (n_tasks,) and gradients; the entries of `at` become leaves of a graph."""
    for name, value in at.items():
        at[name] = value.detach().requires_grad_()
    losses, gradients = evaluate(at)
    return losses().detach(), gradients()


def _like(per_task: Tensor, p: Tensor) -> Tensor:
    """Numbers (n_tasks,) in a shape that goes with a parameter's."""
    return per_task.view(-1, *[1] * (p.ndim - 1))
