"""Gradient descent inside every task at once, differentiable from outside.

All tasks share one forward pass: each parameter is stacked to
(n_tasks, *its shape), so the gradient of the SUM of the tasks' losses holds every
task's own gradient, and one call of autograd serves them all.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_meta.functional.at_hand import is_at_hand
from sklearn_meta.functional.evaluation import (
    Evaluate,
    Evaluation,
    Parameters,
    evaluate_by_autograd,
)
from sklearn_meta.functional.inner_optimizers import (
    Memory,
    UpdateRule,
    follow_gradient,
)

__all__ = [
    "Evaluation",
    "InnerPath",
    "Parameters",
    "Rates",
    "descend",
    "inner_loop",
    "stack_parameters",
]

Rates = float | Mapping[str, float | Tensor]


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
    lr: Rates | Sequence[Rates],
    n_steps: int,
    *,
    rule: UpdateRule = follow_gradient,
    second_order: bool = True,
    adapted: Collection[str] | None = None,
    clip: float | None = None,
    guard: bool = False,
    visit: Callable[[Parameters], None] | None = None,
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
    lr : float, mapping of str to Tensor, or sequence of one of these
        Inner learning rate; or one tensor per adapted parameter, broadcastable to it
        (Meta-SGD). A sequence gives every step its own (MAML++); its last one serves
        all later steps.
    n_steps : int
        Number of steps, >= 0. With 0 nothing changes.
    rule : callable, default=follow_gradient
        How gradients become steps, one of `INNER_OPTIMIZERS`.
    second_order : bool, default=True
        Whether the outer gradient goes through the inner gradient. If not, the inner
        gradient is a constant, but the result still depends on `params`.
    adapted : collection of str, default=None
        Names of the parameters that move; None for all of `params`.
    clip : float, default=None
        Bound of every element of the inner gradient, > 0; None for no bound.
    guard : bool, default=False
        Whether a diverged task gets its best iterate back. Costs one forward pass.
    visit : callable, default=None
        Called with the parameters after every step, before the guard.

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
    A. Antoniou, H. Edwards, A. Storkey, "How to train your MAML", ICLR 2019, section 4.

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
    evaluate = evaluate_by_autograd(
        forward, X, Y, mask, loss, names, second_order=second_order
    )
    return descend(
        evaluate, current, lr, n_steps, rule=rule, clip=clip, guard=guard, visit=visit
    )


def descend(
    evaluate: Evaluate,
    params: Mapping[str, Tensor],
    lr: Rates | Sequence[Rates],
    n_steps: int,
    *,
    rule: UpdateRule = follow_gradient,
    clip: float | None = None,
    guard: bool = False,
    visit: Callable[[Parameters], None] | None = None,
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
    lr : float, mapping of str to Tensor, or sequence of one of these
        As in :func:`inner_loop`.
    n_steps : int
        Number of steps, >= 0.
    rule : callable, default=follow_gradient
        As in :func:`inner_loop`.
    clip : float, default=None
        As in :func:`inner_loop`.
    guard : bool, default=False
        As in :func:`inner_loop`.
    visit : callable, default=None
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
    path = InnerPath(lr, rule, clip)
    for _ in range(n_steps):
        losses, gradients = evaluate(current)
        if guard:
            iterates.append(_Iterate(losses, current))
        current = {**current, **path.step(current, gradients())}
        if visit is not None:
            visit(current)
    if iterates:
        with torch.no_grad():
            losses, _ = evaluate(current)
            return _restore_diverged(iterates, losses(), current)
    first = next(iter(params.values()))
    return current, first.new_zeros(len(first), dtype=torch.bool)


class InnerPath:
    """The steps of one run of an inner loop, which remembers what its rule needs.

    Parameters
    ----------
    lr : float, mapping of str to Tensor, or sequence of one of these
        As in :func:`inner_loop`.
    rule : callable, default=follow_gradient
        As in :func:`inner_loop`.
    clip : float, default=None
        As in :func:`inner_loop`.
    """

    def __init__(
        self,
        lr: Rates | Sequence[Rates],
        rule: UpdateRule = follow_gradient,
        clip: float | None = None,
    ):
        self.lr, self.rule, self.clip = lr, rule, clip
        self.n_steps = 0
        self._memory: dict[str, Memory] = {}

    def step(self, params: Parameters, gradients: Parameters) -> Parameters:
        """Parameters that have a gradient, a step further down.

        Parameters
        ----------
        params : dict of str to Tensor of shape (n_tasks, ...)
            Where the tasks are.
        gradients : dict of str to Tensor of shape (n_tasks, ...)
            Gradients there, of all or some of `params`.

        Returns
        -------
        dict of str to Tensor of shape (n_tasks, ...)
            Those that moved.
        """
        lr = self._rates()
        self.n_steps += 1
        moved = {}
        for name, gradient in gradients.items():
            direction = self._direction(name, gradient)
            if isinstance(lr, Mapping):
                moved[name] = params[name] - lr[name] * direction
            else:
                moved[name] = torch.sub(params[name], direction, alpha=lr)
        return moved

    def _rates(self) -> Rates:
        """The rates of the next step."""
        if isinstance(self.lr, Sequence):
            return self.lr[min(self.n_steps, len(self.lr) - 1)]
        return self.lr

    def _direction(self, name: str, gradient: Tensor) -> Tensor:
        """Where a parameter goes in the current step, in the shape of its gradient."""
        if self.clip is not None:
            gradient = gradient.clamp(-self.clip, self.clip)
        memory = self._memory.get(name, ())
        direction, self._memory[name] = self.rule(gradient, memory, self.n_steps)
        return direction


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
    # A sum is finite only if its terms are; where huge ones overflow, the task has
    # diverged too.
    sums = torch.stack([value.flatten(1).sum(1) for value in params.values()])
    # Not (last > limit): a comparison with NaN must count as diverged.
    sound = (last <= first + tolerance * first.abs()) & sums.sum(0).isfinite()
    return ~sound


def _requiring_grad(value: Tensor) -> Tensor:
    """The tensor itself if autograd tracks it, else a new leaf on the same memory."""
    return value if value.requires_grad else value.detach().requires_grad_()


def _restore_diverged(
    iterates: list[_Iterate], losses: Tensor, params: Parameters
) -> tuple[Parameters, Tensor]:
    """Final parameters with diverged tasks put back; losses (n_tasks,)."""
    diverged = is_diverged(iterates[0].losses(), losses, params)
    # Copies are made for the rare batch that needs them only, at the price of a look.
    if not is_at_hand(diverged) or bool(diverged.any()):
        params = choose_by_task(diverged, _best_of(iterates), params)
    return params, diverged


def _best_of(iterates: list[_Iterate]) -> Parameters:
    """The parameters of every task where its loss was least."""
    best = iterates[0].params
    least = iterates[0].losses()
    for iterate in iterates[1:]:
        losses = iterate.losses()
        better = losses < least
        best = choose_by_task(better, iterate.params, best)
        least = torch.where(better, losses, least)
    return best


def choose_by_task(choose: Tensor, first: Parameters, second: Parameters) -> Parameters:
    """Per task, the first parameters where `choose` (n_tasks,), else the second."""
    return {
        name: torch.where(choose.view(-1, *[1] * (p.ndim - 1)), p, second[name])
        for name, p in first.items()
    }
