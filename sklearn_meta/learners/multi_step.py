"""MAML with a rate for every step and layer, and a loss after every step (MAML++)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_meta.functional import STD_FLOOR, masked_task_mean
from sklearn_meta.functional.inner_loop import Rates
from sklearn_meta.learners.adaptable import Params
from sklearn_meta.learners.gradient import GradientLearner
from sklearn_meta.learners.steady import steady_from

# Share of the outer steps in which the earlier inner steps count: 15 of 100 epochs.
ANNEALING = 0.15
# Least weight of an earlier step until then, times the number of steps.
LEAST_WEIGHT = 0.03
# An outer step of 1e-3 changes a rate by a hundredth, as at the paper's rates of 0.1,
# whatever they start at: in units of their own, small ones would change sign.
RATE_SPEED = 10.0


class MultiStepLearner(GradientLearner):
    r"""MAML whose every inner step has rates and, early in training, a loss of its own.

    Each step learns one rate for each weight and bias of a layer. The outer loss is a
    mean of the query losses after every step, whose weights move to the last step, so
    that early gradients need not come through the whole inner loop.

    Parameters
    ----------
    network : nn.Module
        As of :class:`GradientLearner`.
    head : {"linear", "prototypes"}, default="linear"
        As of :class:`GradientLearner`.
    inner_lr : float, default=0.05
        Where the rates start, > 0.
    inner_steps : int, default=5
        Steps of the inner loop in training, >= 1. More steps at `adapt` go on with the
        last one's rates.
    inner_optimizer : {"sgd", "momentum", "adam"}, default="sgd"
        How inner gradients become steps.
    likelihood : {"gaussian", "categorical"}, default="gaussian"
        As of :class:`GradientLearner`.
    std_floor : float, default=STD_FLOOR
        As of :class:`GradientLearner`.
    n_offsets : int, default=0
        As of :class:`GradientLearner`.

    Attributes
    ----------
    log_rates : nn.ParameterList
        What is learned: logarithms of the rates over `inner_lr`, divided by ten.

    Raises
    ------
    ValueError
        If there is no inner step to learn a rate for.

    Notes
    -----
    Unlike in the paper, rates are learned through their logarithms, so that they stay
    positive and move in proportion. Of its other parts, the annealed outer rate is the
    outer loop's own; second order is used from the start; and batch normalisation by
    step has no place, since batch statistics are refused.

    References
    ----------
    A. Antoniou, H. Edwards, A. Storkey, "How to train your MAML", ICLR 2019, section 4
    (multi-step loss, per-layer per-step learning rates).

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import build_mlp
    >>> from sklearn_meta.learners import MultiStepLearner
    >>> learner = MultiStepLearner(build_mlp(3, (8,), 1), inner_steps=2)
    >>> [rate.shape for rate in learner.rates][:1]
    [torch.Size([2])]
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        head: str = "linear",
        inner_lr: float = 0.05,
        inner_steps: int = 5,
        inner_optimizer: str = "sgd",
        likelihood: str = "gaussian",
        std_floor: float = STD_FLOOR,
        n_offsets: int = 0,
    ):
        if inner_steps < 1:
            raise ValueError(
                "expected inner_steps of at least 1 for MAML++, which learns rates for "
                f"every step; got {inner_steps}."
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

    @steady_from(ANNEALING)
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
        """Mean of the query losses after every inner step.

        Parameters
        ----------
        X_support, Y_support, support_mask : Tensor
            As in `adapt`.
        X_query, Y_query, query_mask : Tensor
            Query rows, shaped like support rows.
        criterion : callable
            Loss of every query row, given the prediction and `Y_query`.
        progress : float, default=0.0
            Share of the outer steps that are done, in [0, 1].

        Returns
        -------
        Tensor of shape ()
            Each loss is a mean over a task's own query rows, then over tasks.
        """
        path: list[Params] = []
        state = self._adapt(X_support, Y_support, support_mask, path.append)
        total = X_query.new_zeros(())
        for params, weight in zip(
            path, step_weights(self.inner_steps, progress), strict=True
        ):
            if weight:
                prediction = self.query({**state, **params}, X_query)
                loss = masked_task_mean(criterion(prediction, Y_query), query_mask)
                total = total + weight * loss
        return total

    def _has_formulas(self) -> bool:
        """The recursion knows one rate for all steps, and a loss after the last."""
        return False

    # the parent learns and keeps its rates under this name, here they are computed
    @property
    def rates(self) -> list[Tensor]:  # type: ignore[override]
        """For every parameter that adapts, the rates of shape (inner_steps,)."""
        return [self.inner_lr * (RATE_SPEED * log).exp() for log in self.log_rates]

    def _add_rates(self) -> None:
        """One learned rate for every step and adapted parameter."""
        self._rate_names = (*self._network_parameters(), *self._head_names())
        self.log_rates = nn.ParameterList(
            torch.zeros(self.inner_steps) for _ in self._rate_names
        )

    def _rates_of_steps(self) -> list[Rates]:
        """The rates of every step."""
        rates = dict(zip(self._rate_names, self.rates, strict=True))
        return [
            {name: rate[k] for name, rate in rates.items()}
            for k in range(self.inner_steps)
        ]


def step_weights(n_steps: int, progress: float) -> list[float]:
    """Weights of the losses after every inner step, which sum to one.

    Parameters
    ----------
    n_steps : int
        Number of inner steps, >= 1.
    progress : float
        Share of the outer steps that are done, in [0, 1].

    Returns
    -------
    list of float
        Equal at first; those of the earlier steps then fall, and are zero after the
        first 15 % of training, as in the authors' code.

    Examples
    --------
    >>> from sklearn_meta.learners.multi_step import step_weights
    >>> [round(w, 3) for w in step_weights(4, 0.1)], step_weights(2, 0.5)
    ([0.083, 0.083, 0.083, 0.75], [0.0, 1.0])
    """
    early = 0.0
    if progress < ANNEALING:
        early = max(1 - progress / ANNEALING, LEAST_WEIGHT) / n_steps
    return [early] * (n_steps - 1) + [1 - early * (n_steps - 1)]
