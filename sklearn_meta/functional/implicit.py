r"""Derivative of the solution of an inner problem, without the path that led to it.

**The inner problem.** Every task solves, with its support loss L, the shared start
:math:`\theta` and a strength :math:`\lambda`,

.. math::

    \varphi = \arg\min_\varphi \; L(\varphi)
        + \frac{\lambda}{2} \lVert \varphi - \theta \rVert^2 .

**The outer gradient.** At a solution :math:`\nabla L(\varphi) + \lambda (\varphi -
\theta) = 0`. The derivative of this line by :math:`\theta` is :math:`(H + \lambda I)
\, \partial \varphi / \partial \theta = \lambda I` with the Hessian H of L, hence, for a
gradient v by the solution, the gradient by the start is

.. math:: w = \left( I + \tfrac{1}{\lambda} H \right)^{-1} v ,

which conjugate gradients find from products with H alone. No step of the solver is
stored, so that time and memory of the outer gradient do not depend on their number.

References
----------
A. Rajeswaran, C. Finn, S. Kakade, S. Levine, "Meta-Learning with Implicit Gradients",
NeurIPS 2019, equations 3 and 6, algorithm 2.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from sklearn_meta.functional.derivatives import InnerLoss
from sklearn_meta.functional.evaluation import Evaluate, Parameters
from sklearn_meta.functional.perceptron import (
    Chain,
    add_hessian_product,
    forward_pass,
    record,
)

# (v, alpha) -> v + alpha H v, for every task
Curvature = Callable[[Parameters, float], Parameters]


def curvature_by_formulas(
    chain: Chain, params: Mapping[str, Tensor], X: Tensor, loss: InnerLoss
) -> Curvature:
    """Products with the Hessian of a perceptron's loss.

    Parameters
    ----------
    chain : tuple of (str, Activation)
        As of :func:`perceptron_chain`.
    params : mapping of str to Tensor of shape (n_tasks, ...)
        Where the Hessian is taken.
    X : Tensor of shape (n_tasks, n_support, n_in)
        Support rows.
    loss : InnerLoss
        Their loss.

    Returns
    -------
    callable
        ``curvature(v, alpha)`` is ``v + alpha H v``.
    """
    tape = record(forward_pass(chain, params, X), loss)

    def add_product(v: Parameters, alpha: float) -> Parameters:
        return add_hessian_product(v, tape, loss, v, alpha)[0]

    return add_product


def curvature_by_autograd(evaluate: Evaluate, params: Parameters) -> Curvature:
    """Products with the Hessian of the loss of any network.

    Parameters
    ----------
    evaluate : callable
        As of `evaluate_by_autograd` with ``second_order=True``.
    params : dict of str to Tensor of shape (n_tasks, ...)
        Where the Hessian is taken; leaves that require a gradient.

    Returns
    -------
    callable
        ``curvature(v, alpha)`` is ``v + alpha H v``.
    """
    gradients = evaluate(params)[1]()
    names = tuple(gradients)
    # The gradient by a parameter that enters linearly and alone is a constant.
    curved = [name for name in names if gradients[name].requires_grad]

    def add_product(v: Parameters, alpha: float) -> Parameters:
        if not curved:
            return v
        products = torch.autograd.grad(
            [gradients[name] for name in curved],
            [params[name] for name in names],
            [v[name] for name in curved],
            retain_graph=True,
            materialize_grads=True,
        )
        pairs = zip(names, products, strict=True)
        return {name: v[name] + alpha * product for name, product in pairs}

    return add_product


def conjugate_gradients(
    product: Callable[[Parameters], Parameters], target: Parameters, n_steps: int
) -> Parameters:
    """Solve ``A w = target`` for every task, from products with A.

    Parameters
    ----------
    product : callable
        ``product(v)`` is ``A v``, with A symmetric and, where all goes well, positive.
    target : dict of str to Tensor of shape (n_tasks, ...)
        The right side.
    n_steps : int
        Most products, >= 0.

    Returns
    -------
    dict of str to Tensor of shape (n_tasks, ...)
        A task stops where it is solved, or where A has a direction without positive
        curvature; before its first step it then keeps `target` itself.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import conjugate_gradients
    >>> target = {"a": torch.tensor([[2.0], [4.0]]), "b": torch.ones(2, 1)}
    >>> def product(v):
    ...     return {"a": 2 * v["a"], "b": v["b"]}
    >>> conjugate_gradients(product, target, n_steps=2)["a"].squeeze()
    tensor([1., 2.])
    """
    residual = direction = target
    solution = {name: torch.zeros_like(t) for name, t in target.items()}
    size = _inner_product(residual, residual)
    solved = size * torch.finfo(size.dtype).eps ** 2
    active, moved = torch.ones_like(size, dtype=torch.bool), None
    for _ in range(n_steps):
        image = product(direction)
        curvature = _inner_product(direction, image)
        # Not (curvature <= 0): a comparison with NaN must stop the task.
        active = active & (curvature > 0) & (size > solved)
        moved = active if moved is None else moved
        step = torch.where(active, size / curvature, 0)
        solution = _add_multiple(solution, step, direction)
        residual = _add_multiple(residual, -step, image)
        size, before = _inner_product(residual, residual), size
        direction = _add_multiple(
            residual, torch.where(active, size / before, 0), direction
        )
    if moved is None:
        return target
    return {
        name: torch.where(_like(moved, t), solution[name], t)
        for name, t in target.items()
    }


def solve_implicitly(
    start: Mapping[str, Tensor],
    solution: Mapping[str, Tensor],
    curvature: Curvature,
    strength: float,
    n_steps: int,
    *,
    damping: float = 0.0,
) -> Parameters:
    """The solution of the inner problem as a function of where it started.

    Parameters
    ----------
    start : mapping of str to Tensor of shape (n_tasks, ...)
        Where the tasks started, and what they are pulled to.
    solution : mapping of str to Tensor of shape (n_tasks, ...)
        The parameters at which the inner problem is solved.
    curvature : callable
        Products with the Hessian of the support loss there: ``curvature(v, alpha)`` is
        ``v + alpha H v``.
    strength : float
        Strength of the pull, > 0.
    n_steps : int
        Steps of conjugate gradients, >= 0; with 0 the gradient passes as it is.
    damping : float, default=0.0
        Added to the diagonal of I + H / strength, >= 0.

    Returns
    -------
    dict of str to Tensor of shape (n_tasks, ...)
        `solution`, through which gradients reach `start`.

    Examples
    --------
    For half the squared distance to a target, H = I, and half of a gradient arrives:

    >>> import torch
    >>> from sklearn_meta.functional import solve_implicitly
    >>> start = {"level": torch.zeros(1, 1, requires_grad=True)}
    >>> solution = {"level": torch.full((1, 1), 3.0)}  # of the target 6
    >>> def curvature(v, alpha):
    ...     return {"level": (1 + alpha) * v["level"]}
    >>> solved = solve_implicitly(start, solution, curvature, strength=1.0, n_steps=1)
    >>> torch.autograd.grad(solved["level"].sum(), start["level"])[0]
    tensor([[0.5000]])
    """
    names = tuple(start)
    plan = _Plan(names, dict(solution), curvature, strength, n_steps, damping)
    found = _Solution.apply(plan, *start.values())
    return dict(zip(names, found, strict=True))


class _Plan(NamedTuple):
    """What the gradient of a solution needs besides the gradient by it."""

    names: tuple[str, ...]
    solution: Parameters
    curvature: Curvature
    strength: float
    n_steps: int
    damping: float


class _Solution(Function):
    """The solution forwards; conjugate gradients backwards."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *start: Tensor) -> tuple[Tensor, ...]:
        """Hand the solution on."""
        ctx.plan = plan
        return tuple(plan.solution[name].detach() for name in plan.names)

    @staticmethod
    @once_differentiable  # no graph of the solver is kept
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Solve for the gradient by the start."""
        plan: _Plan = ctx.plan
        diagonal = 1 + plan.damping
        alpha = 1 / (plan.strength * diagonal)

        def product(v: Parameters) -> Parameters:
            image = plan.curvature(v, alpha)
            return {name: diagonal * value for name, value in image.items()}

        v = dict(zip(plan.names, gradients, strict=True))
        w = conjugate_gradients(product, v, plan.n_steps)
        return None, *(w[name] for name in plan.names)


def _inner_product(a: Parameters, b: Parameters) -> Tensor:
    """Sum over all numbers of a task; (n_tasks,)."""
    return torch.stack([(a[n] * b[n]).flatten(1).sum(1) for n in a]).sum(0)


def _add_multiple(a: Parameters, factor: Tensor, b: Parameters) -> Parameters:
    """``a + factor * b`` with a factor for each task, (n_tasks,)."""
    return {name: p + _like(factor, p) * b[name] for name, p in a.items()}


def _like(per_task: Tensor, p: Tensor) -> Tensor:
    """Numbers (n_tasks,) in a shape that goes with a parameter's."""
    return per_task.view(-1, *[1] * (p.ndim - 1))
