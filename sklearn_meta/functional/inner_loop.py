"""Gradient descent inside every task at once, differentiable from outside.

All tasks share one forward pass: each parameter is stacked to
(n_tasks, *its shape), so the gradient of the SUM of the tasks' losses holds every
task's own gradient, and one call of autograd serves them all.
"""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_meta.functional.likelihoods import mean_per_task

Parameters = dict[str, Tensor]
Rates = float | Mapping[str, float | Tensor]
# Two functions: the losses of the tasks at some parameters, and the gradients there.
Evaluation = tuple[Callable[[], Tensor], Callable[[], Parameters]]


class _Iterate(NamedTuple):
    """Where the tasks were before a step, and how to get their losses there."""

    losses: Callable[[], Tensor]  # of shape (n_tasks,)
    params: Parameters


def stack_parameters(params: Mapping[str, Tensor], n_tasks: int) -> Parameters:
    """One copy of every parameter for each task, without using memory.

    Parameters
    ----------
    params : mapping of str to Tensor of any shape
        Meta-parameters.
    n_tasks : int
        Number of tasks.

    Returns
    -------
    dict of str to Tensor of shape (n_tasks, ...)
        Views through which gradients reach `params`. Never write into them.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import stack_parameters
    >>> stack_parameters({"weight": torch.ones(2, 3)}, n_tasks=4)["weight"].shape
    torch.Size([4, 2, 3])
    """
    return {name: p.expand(n_tasks, *p.shape) for name, p in params.items()}


def inner_loop(
    forward: Callable[[Parameters, Tensor], Tensor],
    params: Mapping[str, Tensor],
    X: Tensor,
    Y: Tensor,
    mask: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    lr: Rates,
    n_steps: int,
    *,
    second_order: bool = True,
    adapted: Collection[str] | None = None,
    clip: float | None = None,
    guard: bool = False,
) -> tuple[Parameters, Tensor]:
    """Parameters of every task after some steps of gradient descent on its support.

    Parameters
    ----------
    forward : callable
        ``forward(params, X)`` gives predictions, tasks first. It must not mix tasks.
    params : mapping of str to Tensor of shape (n_tasks, ...)
        Where to start, as of :func:`stack_parameters`.
    X : Tensor of shape (n_tasks, n_support, n_features)
        Support rows.
    Y : Tensor of shape (n_tasks, n_support, n_outputs)
        Their targets, or one-hot classes.
    mask : Tensor of shape (n_tasks, n_support), bool
        True for a real row.
    loss : callable
        ``loss(prediction, Y)`` of shape (n_tasks, n_support), one value a row.
    lr : float or mapping of str to Tensor
        Inner learning rate; or one tensor per adapted parameter, broadcastable to it
        (Meta-SGD).
    n_steps : int
        Number of steps, >= 0. With 0 nothing changes.
    second_order : bool, default=True
        Whether the outer gradient goes through the inner gradient. If not, the inner
        gradient is a constant, but the result still depends on `params`.
    adapted : collection of str, default=None
        Names of the parameters that move; None for all of `params`.
    clip : float, default=None
        Bound of every element of the inner gradient, > 0; None for no bound.
    guard : bool, default=False
        Whether a diverged task gets its best iterate back. Costs one forward pass.

    Returns
    -------
    params : dict of str to Tensor of shape (n_tasks, ...)
        Adapted parameters; those not adapted are passed on.
    diverged : Tensor of shape (n_tasks,), bool
        True for a task whose support loss, or a parameter, ended non-finite, or whose
        support loss ended above where it started. All False without `guard`.

    Notes
    -----
    First order detaches the inner gradient and never the parameters, whose derivative
    is then the identity; detaching the parameters would leave nothing to train.

    References
    ----------
    C. Finn, P. Abbeel, S. Levine, "Model-Agnostic Meta-Learning for Fast Adaptation
    of Deep Networks", ICML 2017, equation 1.
    Z. Li et al., "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning",
    arXiv:1707.09835, equation 2.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import inner_loop, squared_error, stack_parameters
    >>> params = stack_parameters({"level": torch.zeros(1)}, n_tasks=2)
    >>> X, Y = torch.zeros(2, 1, 1), torch.tensor([[[1.0]], [[3.0]]])
    >>> mask = torch.ones(2, 1, dtype=torch.bool)
    >>> def forward(params, X):
    ...     return params["level"]
    >>> adapted, diverged = inner_loop(
    ...     forward, params, X, Y, mask, squared_error, lr=0.5, n_steps=1
    ... )
    >>> adapted["level"].detach().squeeze()
    tensor([1., 3.])
    """
    names = tuple(params if adapted is None else adapted)
    current = {name: p for name, p in params.items()}
    current.update({name: _requiring_grad(current[name]) for name in names})

    def evaluate(at: Parameters) -> Evaluation:
        losses = mean_per_task(loss(forward(at, X), Y), mask)

        def gradients() -> Parameters:
            found = torch.autograd.grad(
                losses.sum(),
                [at[name] for name in names],
                create_graph=second_order,
                materialize_grads=True,
            )
            return dict(zip(names, found, strict=True))

        return losses.detach, gradients

    return descend(evaluate, current, lr, n_steps, clip=clip, guard=guard)


def descend(
    evaluate: Callable[[Parameters], Evaluation],
    params: Mapping[str, Tensor],
    lr: Rates,
    n_steps: int,
    *,
    clip: float | None = None,
    guard: bool = False,
) -> tuple[Parameters, Tensor]:
    """Gradient descent of every task, whatever computes the gradients.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(params)`` gives two functions without arguments: one that gives the
        losses, of shape (n_tasks,), and one that gives the gradients, by the names of
        the parameters to move.
    params : mapping of str to Tensor of shape (n_tasks, ...)
        Where to start.
    lr : float or mapping of str to Tensor
        As in :func:`inner_loop`.
    n_steps : int
        Number of steps, >= 0.
    clip : float, default=None
        As in :func:`inner_loop`.
    guard : bool, default=False
        As in :func:`inner_loop`.

    Returns
    -------
    params : dict of str to Tensor of shape (n_tasks, ...)
        As of :func:`inner_loop`.
    diverged : Tensor of shape (n_tasks,), bool
        As of :func:`inner_loop`.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import descend
    >>> def evaluate(params):  # (level - 1)^2
    ...     error = params["level"] - 1
    ...     return error.square, lambda: {"level": 2 * error}
    >>> descend(evaluate, {"level": torch.zeros(2)}, lr=0.25, n_steps=2)[0]["level"]
    tensor([0.7500, 0.7500])
    """
    current, iterates = dict(params), []
    for _ in range(n_steps):
        losses, gradients = evaluate(current)
        if guard:
            iterates.append(_Iterate(losses, current))
        current = {**current, **_step_down(current, gradients(), lr, clip)}
    if iterates:
        with torch.no_grad():
            losses, _ = evaluate(current)
            return _restore_diverged(iterates, losses(), current)
    first = next(iter(params.values()))
    return current, first.new_zeros(len(first), dtype=torch.bool)


def is_diverged(first: Tensor, last: Tensor, params: Mapping[str, Tensor]) -> Tensor:
    """Whether the steps of a task led up, or out of the finite numbers.

    Parameters
    ----------
    first, last : Tensor of shape (n_tasks,)
        Losses before and after the steps.
    params : mapping of str to Tensor of shape (n_tasks, ...)
        Parameters after the steps.

    Returns
    -------
    Tensor of shape (n_tasks,), bool
        True for a task that diverged.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional.inner_loop import is_diverged
    >>> params = {"level": torch.tensor([[1.0], [float("inf")]])}
    >>> is_diverged(torch.ones(2), torch.zeros(2), params)
    tensor([False,  True])
    """
    # Rounding at a converged support set is not divergence.
    tolerance = torch.finfo(last.dtype).eps ** 0.5
    # Not (last > limit): a comparison with NaN must count as diverged.
    diverged = ~(last <= first + tolerance * first.abs())
    for value in params.values():
        # inf - inf and NaN - NaN are NaN, in one sum for the many numbers of a task
        diverged |= ~value.flatten(1).sum(1).isfinite()
    return diverged


def _requiring_grad(value: Tensor) -> Tensor:
    """The tensor itself if autograd tracks it, else a new leaf on the same memory."""
    return value if value.requires_grad else value.detach().requires_grad_()


def _step_down(
    params: Parameters, gradients: Parameters, lr: Rates, clip: float | None
) -> Parameters:
    """One step down for the parameters that have a gradient."""
    moved = {}
    for name, gradient in gradients.items():
        if clip is not None:
            gradient = gradient.clamp(-clip, clip)
        if isinstance(lr, Mapping):
            moved[name] = params[name] - lr[name] * gradient
        else:
            moved[name] = torch.sub(params[name], gradient, alpha=lr)
    return moved


def _restore_diverged(
    iterates: list[_Iterate], losses: Tensor, params: Parameters
) -> tuple[Parameters, Tensor]:
    """Final parameters with diverged tasks put back; losses (n_tasks,)."""
    diverged = is_diverged(iterates[0].losses(), losses, params)
    # Copies are made for the rare batch that needs them only, at the price of one look.
    if bool(diverged.any()):
        params = _where_task(diverged, _best_of(iterates), params)
    return params, diverged


def _best_of(iterates: list[_Iterate]) -> Parameters:
    """The parameters of every task where its loss was least."""
    best = iterates[0].params
    least = iterates[0].losses()
    for iterate in iterates[1:]:
        losses = iterate.losses()
        better = losses < least
        best = _where_task(better, iterate.params, best)
        least = torch.where(better, losses, least)
    return best


def _where_task(choose: Tensor, first: Parameters, second: Parameters) -> Parameters:
    """Per task, the first parameters where `choose` (n_tasks,), else the second."""
    return {
        name: torch.where(choose.view(-1, *[1] * (p.ndim - 1)), p, second[name])
        for name, p in first.items()
    }
