"""Reptile: the start moves towards where each task ends."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_meta.functional import (
    STD_FLOOR,
    last_columns,
    masked_task_mean,
    zero_padding,
)
from sklearn_meta.functional.inner_loop import (
    InnerPath,
    choose_by_task,
    is_diverged,
)
from sklearn_meta.functional.inner_optimizers import Adam
from sklearn_meta.learners.adaptable import Params
from sklearn_meta.learners.path_free import PathFreeLearner, Support, leaves
from sklearn_meta.learners.steady import steady_from


class ReptileLearner(PathFreeLearner):
    r"""Many steps on small batches of a task; the start moves towards their end.

    With :math:`\varphi_i` where task i ends, the outer gradient is :math:`(\theta -
    \varphi_i) / \alpha`, averaged over tasks. There is no derivative of a step and no
    query set: the steps draw their batches from all rows of an episode.

    Parameters
    ----------
    network : nn.Module
        As of :class:`GradientLearner`.
    head : {"linear", "prototypes"}, default="linear"
        As of :class:`GradientLearner`.
    inner_lr : float, default=0.05
        Learning rate :math:`\alpha` of the inner loop, > 0.
    inner_steps : int, default=8
        Steps of the inner loop in training, >= 1. One step alone is joint training of
        all tasks, which learns nothing about adapting.
    inner_optimizer : {"sgd", "momentum", "adam"}, default="sgd"
        How inner gradients become steps. Adam is without its average of gradients
        (beta1 = 0), as in the paper.
    inner_batch_size : int, default=10
        Rows of an inner step in training, >= 1.
    likelihood : {"gaussian", "categorical"}, default="gaussian"
        As of :class:`GradientLearner`.
    std_floor : float, default=STD_FLOOR
        As of :class:`GradientLearner`.
    n_offsets : int, default=0
        As of :class:`GradientLearner`.

    Raises
    ------
    ValueError
        If there is no inner step, so that nothing would be learned.

    Notes
    -----
    Batches are passes over a task's rows in one random order. A task whose loss rises
    on its way has no say in that outer step. ``adapt`` takes its steps
    on all support rows at once, so that their order has no meaning, and starts Adam
    anew for every task, where the authors' code goes on with the last one's averages.
    What the inner loop does not move, the noise level and the scale of logits, learns
    from the loss on query rows after adapting to the support, which is also the value
    of `training_loss`. The forward pass in training mode has the gradient of
    first-order MAML.

    References
    ----------
    A. Nichol, J. Achiam, J. Schulman, "On First-Order Meta-Learning Algorithms",
    arXiv:1803.02999, 2018, algorithm 2 and section 6.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import build_mlp
    >>> from sklearn_meta.learners import ReptileLearner
    >>> learner = ReptileLearner(build_mlp(3, (8,), 1))
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
        inner_steps: int = 8,
        inner_optimizer: str = "sgd",
        inner_batch_size: int = 10,
        likelihood: str = "gaussian",
        std_floor: float = STD_FLOOR,
        n_offsets: int = 0,
    ):
        if inner_steps < 1:
            raise ValueError(
                "expected inner_steps of at least 1 for Reptile, which learns from "
                f"where the steps end; got {inner_steps}."
            )
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
        self.inner_batch_size = inner_batch_size
        if inner_optimizer == "adam":
            self.rule = Adam(mean_decay=0.0)

    @steady_from(0.0)
    def training_loss(
        self,
        X_support: Tensor,
        Y_support: Tensor,
        support_mask: Tensor,
        X_query: Tensor,
        Y_query: Tensor,
        query_mask: Tensor,
        *,
        criterion: Callable[[Any, Tensor], Tensor],
        progress: float = 0.0,
    ) -> Tensor:
        """Loss on the query rows, with Reptile's gradient.

        Parameters
        ----------
        X_support, Y_support, support_mask : Tensor
            As in `adapt`.
        X_query, Y_query, query_mask : Tensor
            Query rows, shaped like support rows.
        criterion : callable
            Loss of every query row, given the prediction and `Y_query`.
        progress : float, default=0.0
            Ignored here.

        Returns
        -------
        Tensor of shape ()
            Mean over each task's query rows, then over tasks.
        """
        with torch.no_grad():
            state = self.adapt(X_support, Y_support, support_mask)
        Y = zero_padding(Y_support, support_mask)
        state |= self._describe_support(Y, support_mask)
        row_loss = criterion(self.query(state, X_query), Y_query)
        mask = torch.cat([support_mask, query_mask], 1)
        pull = self._pull(
            zero_padding(torch.cat([X_support, X_query], 1), mask),
            zero_padding(torch.cat([Y_support, Y_query], 1), mask),
            mask,
        )
        # The pull lends its gradient only; its value would hide the loss.
        return masked_task_mean(row_loss, query_mask) + (pull - pull.detach())

    def _pull(self, X: Tensor, Y: Tensor, mask: Tensor) -> Tensor:
        """Half the squared distance () to where tasks end, over the inner rate.

        Rows, targets and mask are as of `adapt`.
        """
        shared = self._network_parameters()
        with torch.no_grad():
            state = self._describe_support(Y, mask)
            start = self._stacked_start(self._starting_parameters(X, Y), len(X))
        offset = last_columns(X, self.n_offsets)
        ended = self._follow_batches(start, Support(X, Y, mask, state, offset))
        has_rows = mask.any(1)
        distances = [
            (p - _mean_of(ended[name].detach(), has_rows)).square().sum()
            for name, p in shared.items()
        ]
        return 0.5 * torch.stack(distances).sum() / self.inner_lr

    def _follow_batches(self, start: Params, support: Support) -> Params:
        """Where steps on batches of all rows lead; the start if they lead up."""
        evaluate = self._support_loss(start, support)
        path, params = InnerPath(self.inner_lr, self.rule), start
        for batch in _batches(support, self.inner_batch_size, self.inner_steps):
            params = leaves(params)
            with torch.set_grad_enabled(not self._is_recursive(start)):
                _, gradients = self._support_loss(start, batch)(params)
                params = path.step(params, gradients())
        # one task that diverges would otherwise pull the start to where it went
        first, last = (evaluate(leaves(p))[0]().detach() for p in (start, params))
        return choose_by_task(is_diverged(first, last, params), start, params)

    def _attach(self, start: Params, ended: Params, support: Support) -> Params:
        """First-order MAML."""
        return {n: p + (ended[n] - p).detach() for n, p in start.items()}


def _batches(support: Support, size: int, n_batches: int) -> Iterator[Support]:
    """Batches of each task's rows, in passes over them in one random order."""
    mask = support.mask
    # Real rows first.
    order = torch.rand(mask.shape, device=mask.device)
    order = order.masked_fill(~mask, 2).argsort(1)
    counts = mask.sum(1, keepdim=True)
    row = torch.arange(size, device=mask.device)
    for i in range(n_batches):
        position = (i * size + row) % counts.clamp_min(1)
        chosen = order.gather(1, position).unsqueeze(-1)
        offset = support.offset
        yield support._replace(
            rows=support.rows.take_along_dim(chosen, 1),
            Y=support.Y.take_along_dim(chosen, 1),
            mask=row < counts,
            offset=None if offset is None else offset.take_along_dim(chosen, 1),
        )


def _mean_of(values: Tensor, has_rows: Tensor) -> Tensor:
    """Mean of values (n_tasks, ...) over the tasks that have any row."""
    weights = has_rows.to(values) / has_rows.sum().clamp_min(1)
    return torch.tensordot(weights, values, dims=1)
