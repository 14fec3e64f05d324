"""What the tasks of a gradient learner start from: a network, a head and rates."""

import torch
from torch import Tensor, nn

from sklearn_meta.functional import bounded_std, class_counts, unbounded_std
from sklearn_meta.functional.inner_loop import Rates
from sklearn_meta.learners.contract import Learner
from sklearn_meta.learners.outer_step import Noise
from sklearn_meta.learners.parts import layers_of

Params = dict[str, Tensor]

NETWORK = "network."  # before the names of the network's parameters


class AdaptableNetwork(Learner):
    """The meta-parameters of a gradient learner, and which of them the steps move.

    Attributes are the parameters of
    :class:`~sklearn_meta.learners.gradient.GradientLearner`.
    """

    network: nn.Module
    head: str
    adapted: str
    likelihood: str
    inner_lr: float
    inner_steps: int
    adapt_steps: int
    learn_inner_lr: bool
    std_floor: float

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

    def _head_names(self) -> tuple[str, ...]:
        """Names of the parameters that each task starts by itself."""
        return ("head.weight", "head.bias") if self.head == "prototypes" else ()

    def _network_parameters(self) -> dict[str, Tensor]:
        """Those meta-parameters of the network that the inner loop moves."""
        params: dict[str, Tensor] = {
            NETWORK + name: p
            for name, p in self.network.named_parameters()
            if p.requires_grad
        }
        if self.adapted == "all":
            return params
        if self.head == "prototypes":
            return {}
        linear = layers_of(nn.Linear, self.network.modules())
        head = {id(p) for p in linear[-1].parameters()} if linear else set()
        return {name: p for name, p in params.items() if id(p) in head}

    def _describe_support(self, Y: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """What a prediction needs of the support besides parameters.

        That is "present" (n_tasks, n_classes) of labels Y (n_tasks, n_support,
        n_classes), or "std" (n_tasks,) by the number of rows in the mask.
        """
        if self.likelihood == "categorical":
            return {"present": class_counts(Y) > 0}
        log_count = torch.log1p(mask.sum(1).to(Y))
        raw = self.noise_intercept + self.noise_slope * log_count
        return {"std": bounded_std(raw, self.std_floor)}

    def _noise(self) -> Noise | None:
        """The spread of a regression's predictions."""
        if self.likelihood == "categorical":
            return None
        return Noise(self.noise_intercept, self.noise_slope, self.std_floor)

    def _logit_scale(self, features: Tensor) -> Tensor:
        """Factor () of the logits of prototypes of so many columns, (..., n)."""
        return self.log_scale.exp() / features.shape[-1]

    def _current_rates(self) -> Rates:
        """The inner rate, or that of every parameter."""
        if not self.learn_inner_lr:
            return self.inner_lr
        return dict(zip(self._rate_names, self.rates, strict=True))

    def _rates_of_steps(self) -> Rates | list[Rates]:
        """The rates of all steps alike, or those of every step."""
        return self._current_rates()

    def _n_steps(self) -> int:
        """Steps of the inner loop."""
        return self.inner_steps if self.training else self.adapt_steps

    def _is_differentiable(self) -> bool:
        """Whether the outer loop is to see through the inner loop."""
        return self.training and torch.is_grad_enabled()
