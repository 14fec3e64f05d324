"""Learners that adapt by steps of gradient descent on the support rows."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from sklearn_meta.functional import (
    STD_FLOOR,
    Gaussian,
    add_offset,
    check_row_independent,
    class_counts,
    last_columns,
    masked_task_mean,
)
from sklearn_meta.functional.inner_optimizers import INNER_OPTIMIZERS
from sklearn_meta.learners.descent import DescentLearner
from sklearn_meta.learners.outer_step import (
    InnerLoop,
    Rows,
    is_known,
    loss_by_formulas,
)
from sklearn_meta.learners.steady import steady_from

_OPTIONS = {
    "head": ("linear", "prototypes"),
    "adapted": ("all", "head"),
    "likelihood": ("gaussian", "categorical"),
    "inner_optimizer": tuple(INNER_OPTIMIZERS),
}


class GradientLearner(DescentLearner):
    """MAML and its relatives, for all tasks at once.

    Every task starts at the same learned parameters and takes a few steps of gradient
    descent on the loss of its own support rows; the outer loop learns a start from
    which these steps lead to good predictions.

    Parameters
    ----------
    network : nn.Module
        Maps rows (n, n_features) to (n, n_outputs); the embedding when
        ``head="prototypes"``. It is used as it is, not copied.
    head : {"linear", "prototypes"}, default="linear"
        "linear": the network's outputs are the prediction, so classes have one
        meaning in every task. "prototypes": a linear head that starts each task at
        its support prototypes (ProtoMAML), for any number of classes.
    inner_lr : float, default=0.05
        Learning rate of the inner loop, > 0.
    inner_steps : int, default=5
        Steps of the inner loop in training, >= 0.
    inner_optimizer : {"sgd", "momentum", "adam"}, default="sgd"
        How inner gradients become steps: as they are, summed with a decay of 0.9, or
        over their root mean square.
    second_order : bool, default=True
        Whether the outer gradient goes through the inner gradients. False is
        first-order MAML.
    adapted : {"all", "head"}, default="all"
        Which parameters the inner loop moves. "head" is ANIL.
    learn_inner_lr : bool, default=False
        Whether each parameter learns its own inner rate (Meta-SGD).
    likelihood : {"gaussian", "categorical"}, default="gaussian"
        What the prediction is: a Gaussian for regression, logits for classes.
    clip_inner_gradient : float, default=None
        Bound of every element of an inner gradient, > 0; None for none.
    std_floor : float, default=STD_FLOOR
        Smallest predicted standard deviation, in units of the target.
    n_offsets : int, default=0
        So many of the last columns of a row are added to the logits, one per class,
        in the inner loss too: the network learns what they lack. It also sees them.
        Needs ``likelihood="categorical"`` and ``head="linear"``.

    Attributes
    ----------
    engine : {"compiled", "recursion", "stacked", "vmap"}
        How the inner loop is computed. By formulas, for a perceptron under "sgd" and
        without `clip_inner_gradient`: "compiled" in C, where the parameters are float32
        or float64 on the CPU and the package was built with a compiler, else
        "recursion" in torch. By autograd otherwise, over batched products for a network
        of known layers, one after another ("stacked"), or `torch.func.vmap` for any
        other module. May be set to a later one of them. With some, but not all, of the
        adapted layers frozen after the learner was built, formulas give way to
        "stacked".
    adapt_steps : int
        Steps that `adapt` takes in evaluation mode, at first `inner_steps`.

    Raises
    ------
    ValueError
        If an option is unknown, a network mixes rows or has nothing to adapt, or
        `head="prototypes"` is asked of a Gaussian likelihood.

    Notes
    -----
    In evaluation mode `adapt` is guarded: a task that diverges gets its best iterate
    back and is marked in ``state["diverged"]``. For regression the inner loss is the
    squared error and the spread a learned function of the support size; train with
    `functional.squared_error_with_noise`. The ProtoMAML logits are divided by the
    embedding's width and multiplied by a learned scale, since squared distances of a
    wide embedding saturate the softmax; the paper has no scale. Formulas give first
    derivatives of the outer loss only: for second ones set `engine` to "stacked".

    References
    ----------
    C. Finn, P. Abbeel, S. Levine, "Model-Agnostic Meta-Learning for Fast Adaptation
    of Deep Networks", ICML 2017, algorithms 1 and 2.
    A. Raghu et al., "Rapid Learning or Feature Reuse? Towards Understanding the
    Effectiveness of MAML", ICLR 2020 (ANIL).
    Z. Li et al., "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning",
    arXiv:1707.09835, algorithm 1.
    E. Triantafillou et al., "Meta-Dataset: A Dataset of Datasets for Learning to
    Learn from Few Examples", ICLR 2020, section 3 (ProtoMAML).

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import build_mlp
    >>> from sklearn_meta.learners import GradientLearner
    >>> learner = GradientLearner(build_mlp(3, (8,), 1))
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
        inner_steps: int = 5,
        inner_optimizer: str = "sgd",
        second_order: bool = True,
        adapted: str = "all",
        learn_inner_lr: bool = False,
        likelihood: str = "gaussian",
        clip_inner_gradient: float | None = None,
        std_floor: float = STD_FLOOR,
        n_offsets: int = 0,
    ):
        _check_options(
            head=head,
            adapted=adapted,
            likelihood=likelihood,
            inner_optimizer=inner_optimizer,
        )
        _check_offsets(n_offsets, head, likelihood)
        check_row_independent(network)
        super().__init__()
        self.network = network
        self.head = head
        self.inner_lr = inner_lr
        self.inner_steps = inner_steps
        self.adapt_steps = inner_steps
        self.inner_optimizer = inner_optimizer
        self.rule = INNER_OPTIMIZERS[inner_optimizer]
        self.second_order = second_order
        self.adapted = adapted
        self.learn_inner_lr = learn_inner_lr
        self.likelihood = likelihood
        self.clip_inner_gradient = clip_inner_gradient
        self.std_floor = std_floor
        self.n_offsets = n_offsets
        self._check_adaptable()
        self._add_head_parameters()
        self._plan_layers()
        self._fastest = self._engine
        self._add_rates()

    def adapt(
        self, X_support: Tensor, Y_support: Tensor, support_mask: Tensor
    ) -> dict[str, Tensor]:
        """Take every task's steps of gradient descent on its support rows.

        Parameters
        ----------
        X_support : Tensor of shape (n_tasks, n_support, n_features)
            Support rows.
        Y_support : Tensor of shape (n_tasks, n_support, n_outputs)
            One-hot classes, or targets with n_outputs = 1.
        support_mask : Tensor of shape (n_tasks, n_support), bool
            True for a real row.

        Returns
        -------
        dict of str to Tensor, tasks first
            Adapted parameters, "diverged" of shape (n_tasks,), and "std" of shape
            (n_tasks,) or "present" of shape (n_tasks, n_classes).
        """
        return self._adapt(X_support, Y_support, support_mask)

    def query(self, state: dict[str, Tensor], X_query: Tensor) -> Tensor | Gaussian:
        """Predict query rows with adapted parameters.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `adapt`.
        X_query : Tensor of shape (n_tasks, n_query, n_features)
            Query rows; each is predicted on its own.

        Returns
        -------
        Gaussian of (n_tasks, n_query) or Tensor of shape (n_tasks, n_query, n_classes)
            The prediction: a mean and a standard deviation, or logits.
        """
        outputs = self._outputs(state, state, self._encode(X_query))
        outputs = add_offset(outputs, last_columns(X_query, self.n_offsets))
        if self.likelihood == "categorical":
            return outputs
        mean = outputs.squeeze(-1)
        return Gaussian(mean, state["std"].unsqueeze(1).expand_as(mean))

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
        """Mean loss of the query rows of the tasks, to be differentiated once.

        Where the whole network is a perceptron that adapts, and the criterion is the
        usual one, the gradient comes from formulas. Autograd has nothing to do then, or
        goes from the prototypes on.

        Parameters
        ----------
        X_support, Y_support, support_mask : Tensor
            As in `adapt`.
        X_query, Y_query, query_mask : Tensor
            Query rows, shaped like support rows.
        criterion : callable
            Loss of every query row, given the prediction and `Y_query`.
        progress : float, default=0.0
            Share of the outer steps that are done, in [0, 1]; ignored here.

        Returns
        -------
        Tensor of shape ()
            A mean over a task's own query rows, then over tasks.
        """
        support = Rows(X_support, Y_support, support_mask)
        loop = self._outer_loop_by_formulas(criterion, support)
        if loop is not None:
            query = Rows(X_query, Y_query, query_mask)
            return loss_by_formulas(loop, support, query, self._noise(), self.n_offsets)
        prediction = self(X_support, Y_support, support_mask, X_query)
        return masked_task_mean(criterion(prediction, Y_query), query_mask)

    def _outer_loop_by_formulas(
        self, criterion: Callable[[Any, Tensor], Tensor], support: Rows
    ) -> InnerLoop | None:
        """How all tasks adapt, if the outer gradient is known in formulas."""
        start, present = self._chain_parameters(), None
        known = is_known(criterion, self.likelihood) and self._takes_plain_steps()
        if not (known and start) or self._frozen_layers:
            return None
        formulas, rates = self._formulas(start), self._current_rates()
        if self.head == "prototypes":
            if not formulas.by_task:
                return None
            X, Y, _ = support if support.is_whole() else support.without_padding()
            start, present = self._starting_parameters(X, Y), class_counts(Y) > 0
            start, rates = self._absorb_scale(start, rates)
        if not self._is_recursive(start):
            return None
        return InnerLoop(
            self._chain,
            start,
            rates,
            self._n_steps(),
            self.second_order,
            formulas,
            present,
        )


def _check_offsets(n_offsets: int, head: str, likelihood: str) -> None:
    """Reject offsets of what is no logit with one meaning in every task."""
    if n_offsets and (head, likelihood) != ("linear", "categorical"):
        raise ValueError(
            f"n_offsets={n_offsets} needs head='linear' and likelihood='categorical'; "
            f"got {head=} and {likelihood=}."
        )


def _check_options(**options: str) -> None:
    """Reject unknown options, and prototypes for a regression."""
    for name, value in options.items():
        if value not in _OPTIONS[name]:
            raise ValueError(f"{name} must be one of {_OPTIONS[name]}; got {value!r}.")
    if options["head"] == "prototypes" and options["likelihood"] == "gaussian":
        raise ValueError(
            "head='prototypes' needs classes, but likelihood='gaussian' was given. "
            "Use head='linear' for regression or likelihood='categorical'."
        )
