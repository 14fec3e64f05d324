"""MAML with implicit gradients (iMAML)."""

from collections.abc import Callable

from torch import Tensor, nn

from sklearn_meta.functional import (
    STD_FLOOR,
    descend_with_backtracking,
    solve_implicitly,
)
from sklearn_meta.functional.evaluation import Evaluate, evaluate_near
from sklearn_meta.functional.implicit import (
    Curvature,
    curvature_by_autograd,
    curvature_by_formulas,
)
from sklearn_meta.functional.inner_optimizers import follow_gradient
from sklearn_meta.learners.adaptable import Params
from sklearn_meta.learners.path_free import PathFreeLearner, Support, leaves


class ImplicitLearner(PathFreeLearner):
    r"""Gradient descent near the learned start, differentiated at where it ends.

    Every task minimises its support loss plus :math:`\frac{\lambda}{2} \lVert \varphi -
    \theta \rVert^2`. At a minimum the outer gradient follows from the curvature there:
    no step of the inner loop is stored, so there may be many.

    Parameters
    ----------
    network : nn.Module
        As of :class:`GradientLearner`.
    head : {"linear", "prototypes"}, default="linear"
        As of :class:`GradientLearner`.
    inner_lr : float, default=0.05
        Learning rate of the inner loop, > 0; with "sgd", half of it for a task each
        time that a step would lead up.
    inner_steps : int, default=16
        Steps of the inner loop in training, >= 0. The outer gradient is exact where
        they reach the minimum.
    inner_optimizer : {"sgd", "momentum", "adam"}, default="sgd"
        How inner gradients become steps.
    proximity : float, default=0.5
        Strength :math:`\lambda` of the pull to the start, > 0, in units of the loss
        over squared parameters.
        Far below 1 / (inner_lr * inner_steps) the steps end before they feel it, and
        the implicit gradient is that of a minimum which they do not reach.
    cg_steps : int, default=5
        Steps of conjugate gradients, >= 0; 0 is first order.
    damping : float, default=0.0
        Added to the diagonal of :math:`I + H / \lambda`, >= 0.
    likelihood : {"gaussian", "categorical"}, default="gaussian"
        As of :class:`GradientLearner`.
    std_floor : float, default=STD_FLOOR
        As of :class:`GradientLearner`.
    n_offsets : int, default=0
        As of :class:`GradientLearner`.

    Notes
    -----
    Unlike in the authors' code, every inner step feels the pull, and damping is off.
    The outer gradient does not see the steps, so nothing keeps it from weights at which
    steps of a given size diverge; in regression it comes there within a thousand outer
    steps. Hence a step that leads up is taken back, and the rate of its task halved. A
    direction in which :math:`I + H / \lambda` is not positive, which a network may
    have, ends the conjugate gradients of its task.

    References
    ----------
    A. Rajeswaran, C. Finn, S. Kakade, S. Levine, "Meta-Learning with Implicit
    Gradients", NeurIPS 2019, equations 3 and 6, algorithms 1 and 2.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import build_mlp
    >>> from sklearn_meta.learners import ImplicitLearner
    >>> learner = ImplicitLearner(build_mlp(3, (8,), 1), proximity=2.0)
    >>> X, Y = torch.zeros(2, 5, 3), torch.zeros(2, 5, 1)
    >>> mask = torch.ones(2, 5, dtype=torch.bool)
    >>> learner(X, Y, mask, torch.zeros(2, 7, 3)).mean.shape
    torch.Size([2, 7])
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        head: str = "linear",
        inner_lr: float = 0.05,
        inner_steps: int = 16,
        inner_optimizer: str = "sgd",
        proximity: float = 0.5,
        cg_steps: int = 5,
        damping: float = 0.0,
        likelihood: str = "gaussian",
        std_floor: float = STD_FLOOR,
        n_offsets: int = 0,
    ):
        super().__init__(
            network,
            head=head,
            inner_lr=inner_lr,
            inner_steps=inner_steps,
            inner_optimizer=inner_optimizer,
            likelihood=likelihood,
            std_floor=std_floor,
            n_offsets=n_offsets,
        )
        self.proximity = proximity
        self.cg_steps = cg_steps
        self.damping = damping

    def _objective(self, evaluate: Evaluate, start: Params) -> Evaluate:
        """Equation 3 of the paper."""
        centre = {name: p.detach() for name, p in start.items()}
        return evaluate_near(evaluate, centre, self.proximity)

    def _solve(
        self,
        evaluate: Evaluate,
        start: Params,
        visit: Callable[[Params], None] | None,
    ) -> tuple[Params, Tensor]:
        """Where plain steps lead that never go up, or those of another rule."""
        if self.rule is not follow_gradient:
            return super()._solve(evaluate, start, visit)
        return descend_with_backtracking(
            evaluate, start, self.inner_lr, self._n_steps(), visit=visit
        )

    def _attach(self, start: Params, ended: Params, support: Support) -> Params:
        """Equation 6 of the paper."""
        if not self._n_steps():
            return start
        return solve_implicitly(
            start,
            ended,
            self._curvature(ended, support),
            self.proximity,
            self.cg_steps,
            damping=self.damping,
        )

    def _curvature(self, ended: Params, support: Support) -> Curvature:
        """Products with the Hessian of the support loss where the steps ended."""
        if self._is_recursive(ended):
            loss = self._known_loss(*support[1:])
            return curvature_by_formulas(self._chain, ended, support.rows, loss)
        evaluate = self._support_loss(ended, support, second_order=True)
        return curvature_by_autograd(evaluate, leaves(ended))
