"""How the inner loop of a gradient learner is computed."""

from abc import abstractmethod

from torch import Tensor, nn

from sklearn_meta.functional import (
    apply_rows,
    class_means,
    mask_absent,
    perceptron_chain,
    stackable_layers,
    stacked_forward,
    vmap_forward,
)
from sklearn_meta.functional.compiled_call import has_kernel, is_served
from sklearn_meta.functional.derivatives import IDENTITY
from sklearn_meta.functional.formulas import FORMULAS, Formulas
from sklearn_meta.functional.perceptron import Chain
from sklearn_meta.learners.adaptable import NETWORK, AdaptableNetwork

ENGINES = ("compiled", "recursion", "stacked", "vmap")  # the fastest first

_CANNOT_BATCH = (
    "Expected a network that torch.func.vmap can run with weights of each task's own, "
    "got one that it cannot ({error}). Recurrent layers of torch are of this kind. "
    "RidgeHeadRegressor, RidgeHeadClassifier and ProtoNetClassifier take the same "
    "module, since its weights are the same in every task; or write the cell with "
    "nn.Linear."
)


class PlannedNetwork(AdaptableNetwork):
    """A network with the engine that serves it, and its outputs for many tasks."""

    inner_optimizer: str
    clip_inner_gradient: float | None

    @property
    def engine(self) -> str:
        """How the inner loop is computed; see Attributes."""
        return self._engine_for(next(self.parameters()))  # the others are where it is

    @engine.setter
    def engine(self, name: str) -> None:
        if name not in ENGINES[ENGINES.index(self._fastest) :]:
            served = ENGINES[ENGINES.index(self._fastest) :]
            raise ValueError(f"engine must be one of {served} here; got {name!r}.")
        self._plan_layers(name)

    def _engine_for(self, parameter: Tensor) -> str:
        """How the inner loop is computed with a parameter (...) like this one."""
        if self._engine == "compiled" and not is_served(parameter):
            return "recursion"
        return self._engine

    def _plan_layers(self, engine: str = ENGINES[0]) -> None:
        """Decide how the network runs, and from which layer on it adapts.

        The engine is the one given, or the first after it that serves the network.
        """
        layers = None if engine == "vmap" else stackable_layers(self.network)
        found = "vmap" if layers is None else "stacked"
        layers = [(NETWORK + name, layer) for name, layer in layers or []]
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
            (names[name], layer)
            for name, layer in self._layers
            if isinstance(layer, nn.Linear) and name in names
        ]
        moved = {*self._network_parameters(), *self._head_names()}
        if self._chain and moved == self._chain_names and self._has_formulas():
            found = "compiled" if self._has_kernel() else "recursion"
        self._engine = max(found, engine, key=ENGINES.index)

    def _has_kernel(self) -> bool:
        """Whether the steps are those that are there in C; a subclass's are not."""
        return self._takes_plain_steps() and has_kernel(self._chain)

    @abstractmethod
    def _takes_plain_steps(self) -> bool:
        """Whether the steps are those of the paper; a subclass may take others."""

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

    def _formulas(self, params: dict[str, Tensor]) -> Formulas:
        """The functions of an engine that knows formulas, for these parameters."""
        return FORMULAS[self._engine_for(params[self._chain[0][0] + ".weight"])]

    def _is_recursive(self, params: dict[str, Tensor]) -> bool:
        """Whether formulas serve these parameters."""
        return self._engine in FORMULAS and self._chain_names <= params.keys()

    def _starting_parameters(self, X: Tensor, Y: Tensor) -> dict[str, Tensor]:
        """Where the tasks start: meta-parameters and, if any, a head for each task.

        A head has a weight (n_tasks, n_classes, width) and a bias (n_tasks, n_classes).
        X and Y are support rows as of `adapt`, zero at padding.
        """
        params = self._chain_parameters() or self._network_parameters()
        if self.head == "prototypes":
            prototypes = class_means(apply_rows(self.network, X), Y)
            # ||z - p||^2 = const - 2 p.z + ||p||^2, negated.
            params["head.weight"] = 2 * prototypes
            params["head.bias"] = -prototypes.square().sum(-1)
        return params

    def _encode(self, X: Tensor) -> Tensor:
        """Rows (n_tasks, n_rows, width) after the layers that no task changes."""
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
        """Outputs (n_tasks, n_rows, n_outputs) with the parameters of every task."""
        if self._engine != "vmap":
            return stacked_forward(self._layers, params, X)
        own = {
            name.removeprefix(NETWORK): p
            for name, p in params.items()
            if name.startswith(NETWORK)
        }
        try:
            return vmap_forward(self.network, own, X)
        except RuntimeError as error:
            if "Batching rule not implemented" not in str(error):
                raise
            raise ValueError(_CANNOT_BATCH.format(error=error)) from error
