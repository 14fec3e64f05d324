"""Learners that adapt by steps of gradient descent on the support rows."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_meta.functional import (
    STD_FLOOR,
    Gaussian,
    add_offset,
    apply_rows,
    bounded_std,
    categorical_nll,
    check_row_independent,
    class_counts,
    class_means,
    cross_entropy_loss,
    inner_loop,
    last_columns,
    mask_absent,
    masked_task_mean,
    perceptron_chain,
    squared_error,
    squared_error_loss,
    stack_parameters,
    stackable_layers,
    stacked_forward,
    unbounded_std,
    vmap_forward,
    zero_padding,
)
from sklearn_meta.functional.compiled import compiled_adapt_rows
from sklearn_meta.functional.compiled_call import has_kernel, is_served
from sklearn_meta.functional.derivatives import IDENTITY, InnerLoss
from sklearn_meta.functional.formulas import FORMULAS, Formulas
from sklearn_meta.functional.inner_loop import Rates
from sklearn_meta.functional.inner_optimizers import INNER_OPTIMIZERS
from sklearn_meta.functional.perceptron import Chain
from sklearn_meta.learners.contract import Learner
from sklearn_meta.learners.outer_step import (
    InnerLoop,
    Noise,
    Rows,
    is_known,
    loss_by_formulas,
)

Params = dict[str, Tensor]

_NETWORK = "network."
ENGINES = ("compiled", "recursion", "stacked", "vmap")  # the fastest first
_OPTIONS = {
    "head": ("linear", "prototypes"),
    "adapted": ("all", "head"),
    "likelihood": ("gaussian", "categorical"),
    "inner_optimizer": tuple(INNER_OPTIMIZERS),
}


class GradientLearner(Learner):
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
        "recursion" in torch. By autograd otherwise, over batched products for a plain
        `nn.Sequential` ("stacked") or `torch.func.vmap` for any other module. May be
        set to a later one of them. With some, but not all, of the adapted layers frozen
        after the learner was built, formulas give way to "stacked".
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

    def _adapt(
        self,
        X_support: Tensor,
        Y_support: Tensor,
        support_mask: Tensor,
        visit: Callable[[Params], None] | None = None,
    ) -> dict[str, Tensor]:
        """As `adapt`; `visit` is shown the parameters after every step."""
        if torch.is_inference_mode_enabled():
            # Its tensors cannot carry the gradients that adapting consists of.
            with torch.inference_mode(False):
                inputs = (X_support, Y_support, support_mask)
                return self._adapt(*(tensor.clone() for tensor in inputs), visit)
        rows = Rows(X_support, Y_support, support_mask)
        if visit is None and self._is_served_by_row():
            state = self._adapt_by_row(rows)
            if state is not None:
                return state
        X, Y, _ = rows if rows.is_whole() else rows.without_padding()
        state = self._describe_support(Y, support_mask)
        start, rows = self._starting_parameters(X, Y), self._encode(X)
        if not self._is_differentiable():
            start, rows = _detached(start), rows.detach()
        with torch.enable_grad():
            offset = last_columns(X, self.n_offsets)
            params, diverged = self._descend(
                start, rows, Y, support_mask, state, offset, visit
            )
        state = {**state, **params, "diverged": diverged}
        return state if self._is_differentiable() else _detached(state)

    def _is_served_by_row(self) -> bool:
        """Whether a new task can go to the compiled engine as it is."""
        return (
            not self.training
            and self._engine == "compiled"
            and self.head == "linear"
            and not self._frozen_layers
            and self.adapt_steps > 0
        )

    @torch.no_grad()
    def _adapt_by_row(self, rows: Rows) -> dict[str, Tensor] | None:
        """As `_adapt`; None if the engine is not there or a task has diverged."""
        start = self._chain_parameters()
        first = start.get(self._chain[0][0] + ".weight")
        if first is None or not is_served(first) or len(start) < len(self._chain_names):
            return None
        params, diverged = compiled_adapt_rows(
            self._chain,
            start,
            rows,
            self._current_rates(),
            self.adapt_steps,
            has_classes=self.likelihood == "categorical",
            n_offsets=self.n_offsets,
        )
        if bool(diverged.any()):
            return None
        Y = rows.Y if rows.is_whole() else zero_padding(rows.Y, rows.mask)
        state = self._describe_support(Y, rows.mask)
        return {**state, **params, "diverged": diverged}

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
        # a subclass may take steps of another kind
        plain = type(self)._descend is GradientLearner._descend
        known = plain and is_known(criterion, self.likelihood)
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

    def _noise(self) -> Noise | None:
        """The spread of a regression's predictions."""
        if self.likelihood == "categorical":
            return None
        return Noise(self.noise_intercept, self.noise_slope, self.std_floor)

    def _check_adaptable(self) -> None:
        """Reject a network of which the inner loop could move nothing."""
        if self.head == "prototypes":
            return
        wanted = "parameter that requires a gradient"
        if self.adapted == "head":
            wanted = f"nn.Linear layer with a {wanted}, to adapt as its head"
        if not self._network_parameters():
            raise ValueError(
                f"expected a network with a {wanted}; got "
                f"{type(self.network).__name__} with none. Unfreeze it, or add a layer."
            )

    def _add_head_parameters(self) -> None:
        """Parameters that the inner loop does not move: noise or logit scale."""
        if self.likelihood == "gaussian":
            # log(1 + n_support) is the only thing the noise may depend on.
            start = unbounded_std(1.0, self.std_floor)
            self.noise_intercept = nn.Parameter(torch.tensor(start))
            self.noise_slope = nn.Parameter(torch.tensor(0.0))
        elif self.head == "prototypes":
            self.log_scale = nn.Parameter(torch.tensor(0.0))

    @property
    def engine(self) -> str:
        """How the inner loop is computed; see Attributes."""
        return self._engine_for(next(self.parameters()))  # the others are where it is

    def _engine_for(self, parameter: Tensor) -> str:
        """How the inner loop is computed with a parameter like this one."""
        if self._engine == "compiled" and not is_served(parameter):
            return "recursion"
        return self._engine

    @engine.setter
    def engine(self, name: str) -> None:
        if name not in ENGINES[ENGINES.index(self._fastest) :]:
            served = ENGINES[ENGINES.index(self._fastest) :]
            raise ValueError(f"engine must be one of {served} here; got {name!r}.")
        self._plan_layers(name)

    def _plan_layers(self, engine: str = ENGINES[0]) -> None:
        """Decide how the network runs, and from which layer on it adapts.

        The engine is the one given, or the first after it that serves the network.
        """
        layers = None if engine == "vmap" else stackable_layers(self.network)
        found = "vmap" if layers is None else "stacked"
        layers = [(_NETWORK + name, layer) for name, layer in layers or []]
        first = 0
        if self.head == "linear" and self.adapted == "head":
            linear = [isinstance(layer, nn.Linear) for _, layer in layers]
            first = len(linear) - 1 - linear[::-1].index(True) if any(linear) else 0
        self._frozen_layers, self._layers = layers[:first], layers[first:]
        self._chain = self._find_chain()
        names = {name: (f"{name}.weight", f"{name}.bias") for name, _ in self._chain}
        self._chain_names = {name for pair in names.values() for name in pair}
        # a list, not modules of its own: they are the network's
        self._chain_layers = [
            (names[name], layer) for name, layer in self._layers if name in names
        ]
        moved = {*self._network_parameters(), *self._head_names()}
        if self._chain and moved == self._chain_names and self._has_formulas():
            found = "compiled" if self._has_kernel() else "recursion"
        self._engine = max(found, engine, key=ENGINES.index)

    def _has_kernel(self) -> bool:
        """Whether the steps are those that are there in C; a subclass's are not."""
        plain = type(self)._descend is GradientLearner._descend
        return plain and has_kernel(self._chain)

    def _has_formulas(self) -> bool:
        """Whether the derivative of the steps is known in formulas."""
        return self.inner_optimizer == "sgd"

    def _find_chain(self) -> Chain:
        """What the inner loop moves as a perceptron; empty if it is none."""
        head: Chain = ()
        if self.head == "prototypes":
            head = (("head", IDENTITY),)
        if self.clip_inner_gradient is not None:
            return ()
        if self.head == "prototypes" and self.adapted == "head":
            return head
        body = perceptron_chain(self._layers)
        return () if body is None else body + head

    def _chain_parameters(self) -> dict[str, Tensor]:
        """As `_network_parameters`, without a walk through the network."""
        if self._engine not in FORMULAS:
            return {}
        return {
            name: p
            for kinds, layer in self._chain_layers
            for name, p in zip(kinds, (layer.weight, layer.bias), strict=True)
            if p.requires_grad
        }

    def _head_names(self) -> tuple[str, ...]:
        """Names of the parameters that each task starts by itself."""
        return ("head.weight", "head.bias") if self.head == "prototypes" else ()

    def _formulas(self, params: dict[str, Tensor]) -> Formulas:
        """The functions of an engine that knows formulas, for these parameters."""
        return FORMULAS[self._engine_for(params[self._chain[0][0] + ".weight"])]

    def _is_recursive(self, params: dict[str, Tensor]) -> bool:
        """Whether formulas serve these parameters."""
        return self._engine in FORMULAS and self._chain_names <= params.keys()

    def _add_rates(self) -> None:
        """One learned inner rate per adapted number; one per feature of a new head."""
        if not self.learn_inner_lr:
            return
        shapes = {
            name: tuple(p.shape) for name, p in self._network_parameters().items()
        }
        # A rate per class would give the classes of a task an order.
        shapes |= {name: (1,) for name in self._head_names()}
        self._rate_names = tuple(shapes)
        self.rates = nn.ParameterList(
            torch.full(shape, self.inner_lr) for shape in shapes.values()
        )

    def _is_differentiable(self) -> bool:
        """Whether the outer loop is to see through the inner loop."""
        return self.training and torch.is_grad_enabled()

    def _network_parameters(self) -> dict[str, Tensor]:
        """Those meta-parameters of the network that the inner loop moves."""
        params: dict[str, Tensor] = {
            _NETWORK + name: p
            for name, p in self.network.named_parameters()
            if p.requires_grad
        }
        if self.adapted == "all":
            return params
        if self.head == "prototypes":
            return {}
        linear = [m for m in self.network.modules() if isinstance(m, nn.Linear)]
        head = {id(p) for p in linear[-1].parameters()} if linear else set()
        return {name: p for name, p in params.items() if id(p) in head}

    def _starting_parameters(self, X: Tensor, Y: Tensor) -> dict[str, Tensor]:
        """Where the tasks start: meta-parameters and, if any, a head for each task."""
        params = self._chain_parameters() or self._network_parameters()
        if self.head == "prototypes":
            prototypes = class_means(apply_rows(self.network, X), Y)
            # ||z - p||^2 = const - 2 p.z + ||p||^2, negated.
            params["head.weight"] = 2 * prototypes
            params["head.bias"] = -prototypes.square().sum(-1)
        return params

    def _describe_support(self, Y: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """What a prediction needs of the support besides parameters."""
        if self.likelihood == "categorical":
            return {"present": class_counts(Y) > 0}
        log_count = torch.log1p(mask.sum(1).to(Y))
        raw = self.noise_intercept + self.noise_slope * log_count
        return {"std": bounded_std(raw, self.std_floor)}

    def _encode(self, X: Tensor) -> Tensor:
        """The part of the network that no task changes, computed once."""
        if self.head == "prototypes" and self.adapted == "head":
            return apply_rows(self.network, X)
        return stacked_forward(self._frozen_layers, {}, X)

    def _outputs(
        self, params: dict[str, Tensor], support: dict[str, Tensor], rows: Tensor
    ) -> Tensor:
        """Outputs (n_tasks, n_rows, n_outputs) of encoded rows."""
        if self._is_recursive(params):
            outputs = self._formulas(params).run(self._chain, params, rows)
            if self.head == "linear":
                return outputs
            logits = self._logit_scale(params["head.weight"]) * outputs
            return mask_absent(logits, support["present"])
        if self.head == "linear" or self.adapted == "all":
            rows = self._run_network(params, rows)
        if self.head == "linear":
            return rows
        products = rows @ params["head.weight"].mT
        logits = self._logit_scale(rows) * (products + params["head.bias"].unsqueeze(1))
        return mask_absent(logits, support["present"])

    def _run_network(self, params: dict[str, Tensor], X: Tensor) -> Tensor:
        """The network with the parameters of every task."""
        if self._engine != "vmap":
            return stacked_forward(self._layers, params, X)
        own = {
            name.removeprefix(_NETWORK): p
            for name, p in params.items()
            if name.startswith(_NETWORK)
        }
        return vmap_forward(self.network, own, X)

    def _descend(
        self,
        start: dict[str, Tensor],
        rows: Tensor,
        Y: Tensor,
        mask: Tensor,
        support: dict[str, Tensor],
        offset: Tensor | None,
        visit: Callable[[Params], None] | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Run the inner loop; guarded and first order where nothing looks through."""
        if self._is_recursive(start):
            return self._descend_by_formulas(start, rows, Y, mask, support, offset)
        shared = self._network_parameters()
        start = {**start, **stack_parameters(shared, len(rows))}
        return inner_loop(
            lambda params, X: add_offset(self._outputs(params, support, X), offset),
            start,
            rows,
            Y,
            mask,
            INNER_LOSSES[self.likelihood],
            self._current_rates(),
            self._n_steps(),
            rule=self.rule,
            second_order=self.second_order and self._is_differentiable(),
            clip=self.clip_inner_gradient,
            guard=not self.training,
            visit=visit,
        )

    def _descend_by_formulas(
        self,
        start: dict[str, Tensor],
        rows: Tensor,
        Y: Tensor,
        mask: Tensor,
        support: dict[str, Tensor],
        offset: Tensor | None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Run the inner loop of a perceptron by formulas."""
        start, lr = self._absorb_scale(start, self._current_rates())
        loss = self._known_loss(Y, mask, support, offset)
        formulas = self._formulas(start)
        if self._is_differentiable():
            params = formulas.adapt(
                self._chain,
                start,
                rows,
                loss,
                lr,
                self._n_steps(),
                second_order=self.second_order,
            )
            diverged = mask.new_zeros(len(mask))
        else:
            params, diverged = formulas.adapt_without_graph(
                self._chain,
                start,
                rows,
                loss,
                lr,
                self._n_steps(),
                guard=not self.training,
            )
        for name in self._head_names():
            params[name] = params[name] / self._logit_scale(start["head.weight"])
        return params, diverged

    def _known_loss(
        self,
        Y: Tensor,
        mask: Tensor,
        support: dict[str, Tensor],
        offset: Tensor | None,
    ) -> InnerLoss:
        """Loss of the support rows, for formulas."""
        if self.likelihood == "gaussian":
            return squared_error_loss(Y, mask)
        present = support["present"] if self.head == "prototypes" else None
        return cross_entropy_loss(Y, mask, present, offset)

    def _absorb_scale(
        self, start: dict[str, Tensor], lr: Rates
    ) -> tuple[dict[str, Tensor], Rates]:
        """Parameters and rates of a head whose outputs are the logits themselves.

        With logits s (w z + b), steps of rate r on w are steps of rate r s^2 on s w.
        """
        names = self._head_names()
        if not names:
            return start, lr
        scale = self._logit_scale(start["head.weight"])
        rates = lr if isinstance(lr, dict) else dict.fromkeys(start, lr)
        # First order holds the inner gradient, of which one factor is a part.
        squared = scale * (scale if self.second_order else scale.detach())
        return (
            {**start, **{name: scale * start[name] for name in names}},
            {**rates, **{name: squared * rates[name] for name in names}},
        )

    def _logit_scale(self, features: Tensor) -> Tensor:
        """Factor of the logits of prototypes of so many columns."""
        return self.log_scale.exp() / features.shape[-1]

    def _current_rates(self) -> Rates:
        """The inner rate, or that of every parameter."""
        if not self.learn_inner_lr:
            return self.inner_lr
        return dict(zip(self._rate_names, self.rates, strict=True))

    def _n_steps(self) -> int:
        """Steps of the inner loop."""
        return self.inner_steps if self.training else self.adapt_steps


def _check_offsets(n_offsets: int, head: str, likelihood: str) -> None:
    """Reject offsets of what is no logit with one meaning in every task."""
    if n_offsets and (head, likelihood) != ("linear", "categorical"):
        raise ValueError(
            f"n_offsets={n_offsets} needs head='linear' and likelihood='categorical'; "
            f"got {head=} and {likelihood=}."
        )


def _inner_squared_error(outputs: Tensor, Y: Tensor) -> Tensor:
    """Squared error of the network's only output."""
    return squared_error(outputs.squeeze(-1), Y)


INNER_LOSSES = {"gaussian": _inner_squared_error, "categorical": categorical_nll}


def _detached(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without a graph."""
    return {
        name: value.detach() if value.requires_grad else value
        for name, value in tensors.items()
    }


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
