"""Model-based learners: a network reads the support and predicts the queries."""

from numbers import Integral
from typing import Any

from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_meta.base import BaseMetaEstimator, SupportLimit
from sklearn_meta.estimators.networks import build_network
from sklearn_meta.learners import LatentProcessLearner, ProcessLearner
from sklearn_meta.learners.architectures import READERS, WITH_HEADS
from sklearn_meta.training import CUDA_GRAPHS, OuterLoop

__all__ = ["ProcessEstimator"]

# the time of attention grows with the square of these; training sees a few dozen
MAX_ATTENDED_ROWS = 4096


class ProcessEstimator(BaseMetaEstimator):
    """Build a process learner from the parameters of both estimators."""

    _parameter_constraints: dict = {
        **BaseMetaEstimator._parameter_constraints,
        "architecture": [StrOptions(set(READERS))],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "latent_size": [Interval(Integral, 0, None, closed="left")],
        "compile": ["boolean", StrOptions({CUDA_GRAPHS})],
    }

    def _process_learner(
        self, n_features: int, n_outputs: int, **options: Any
    ) -> ProcessLearner:
        encoder = None
        if self.module is not None:
            encoder = build_network(self, n_features, self.hidden_size, any_width=True)
        options |= {
            "architecture": self.architecture,
            "encoder": encoder,
            "hidden_size": self.hidden_size,
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
        }
        if self.latent_size:
            size = self.latent_size
            return LatentProcessLearner(
                n_features, n_outputs, latent_size=size, **options
            )
        return ProcessLearner(n_features, n_outputs, **options)

    def _outer_loop(self) -> OuterLoop:
        """Return the outer loop, unless its forward pass cannot be compiled."""
        if self.latent_size and self.compile and self.compile != CUDA_GRAPHS:
            raise ValueError(
                "compile=True is for architectures without a latent variable, whose "
                f"loss draws samples; got latent_size={self.latent_size}. Set one of "
                "them to its default."
            )
        return super()._outer_loop()

    def _support_limits(self) -> list[SupportLimit]:
        """Return how many rows attention can bear."""
        if self.architecture not in WITH_HEADS:
            return []
        method = f"architecture={self.architecture!r}"
        advice = "Use architecture='cnp' to take in all."
        return [SupportLimit(MAX_ATTENDED_ROWS, method, advice)]
