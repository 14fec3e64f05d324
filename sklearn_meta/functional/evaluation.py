"""Losses and gradients of the support rows: what an inner loop asks of a network."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from sklearn_meta.functional.derivatives import InnerLoss
from sklearn_meta.functional.likelihoods import mean_per_task
from sklearn_meta.functional.perceptron import (
    Chain,
    forward_pass,
    gradient_of,
    record,
)

Parameters = dict[str, Tensor]
# Two functions: the losses of the tasks at some parameters, and the gradients there.
Evaluation = tuple[Callable[[], Tensor], Callable[[], Parameters]]
Evaluate = Callable[[Parameters], Evaluation]


def evaluate_by_autograd(
    forward: Callable[[Parameters, Tensor], Tensor],
    X: Tensor,
    Y: Tensor,
    mask: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    names: Collection[str],
    *,
    second_order: bool = False,
) -> Evaluate:
    """Losses and gradients of all tasks, for :func:`descend`, of any network.

    Parameters
    ----------
    forward, X, Y, mask, loss : callable, Tensor, Tensor, Tensor, callable
        As in :func:`inner_loop`.
    names : collection of str
        The parameters by which to differentiate; autograd must track them.
    second_order : bool, default=False
        Whether the gradients may be differentiated in turn.

    Returns
    -------
    callable
        As `descend` wants it: losses of shape (n_tasks,), gradients as parameters.
    """

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

    return evaluate


def evaluate_by_formulas(chain: Chain, X: Tensor, loss: InnerLoss) -> Evaluate:
    """Losses and gradients of all tasks, for :func:`descend`, of a perceptron.

    Parameters
    ----------
    chain : tuple of (str, Activation)
        As of :func:`perceptron_chain`.
    X : Tensor of shape (n_tasks, n_support, n_in)
        Support rows.
    loss : InnerLoss
        Their loss.

    Returns
    -------
    callable
        As `descend` wants it.
    """

    def evaluate(at: Parameters) -> Evaluation:
        traces = forward_pass(chain, at, X)
        return (
            lambda: loss.per_task(traces[-1].h_next),
            lambda: gradient_of(record(traces, loss, curved=False).layers),
        )

    return evaluate


def evaluate_near(evaluate: Evaluate, centre: Parameters, strength: float) -> Evaluate:
    r"""Losses and gradients with the pull to a centre added.

    Parameters
    ----------
    evaluate : callable
        As of :func:`descend`.
    centre : dict of str to Tensor of shape (n_tasks, ...)
        Where every task is pulled to.
    strength : float
        Strength of the pull, :math:`\\lambda` >= 0.

    Returns
    -------
    callable
        The same of the loss plus half the strength times the squared distance.
    """

    def evaluate_both(at: Parameters) -> Evaluation:
        losses, gradients = evaluate(at)
        away = {name: at[name].detach() - p for name, p in centre.items()}

        def total() -> Tensor:
            squares = [a.square().flatten(1).sum(1) for a in away.values()]
            return losses() + 0.5 * strength * torch.stack(squares).sum(0)

        def pulled() -> Parameters:
            return {n: g + strength * away[n] for n, g in gradients().items()}

        return total, pulled

    return evaluate_both
