"""The prior of Gaussian process learners: what they learn of rows across tasks."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sklearn_meta.functional import (
    STD_FLOOR,
    KernelRows,
    check_row_independent,
    output_size,
)
from sklearn_meta.functional.compiled_process import (
    ONE_LEVEL,
    Features,
    Levels,
    Limits,
    Scales,
)
from sklearn_meta.learners.parts import LearnedNumbers, zero_last_layer
from sklearn_meta.learners.towers import Towers

_MEANS = ("zero", "learned")
_NOISES = ("constant", "heteroscedastic")
# features that a network adds: so many to the linear part, so many to the coordinates
N_LINEAR, N_COORDINATES = 16, 8
# these start small beside the columns themselves; and the smallest variance that is
# left to the function, so that its logarithm has a gradient
LIMITS = Limits(linear_scale=0.3, smooth_scale=0.5, least_variance=1e-6)
# the noise of a row stays within exp(+-1.5), 4.5 times, of the common variance: a row
# on which the model is wrongly sure costs a likelihood more than all others gain
MAX_LOG_NOISE = 1.5
MOST_LEVELS = 8  # of _perceptron.c
# levels of the noise of a task start up to so far from one, and move by so much faster
# than weights of networks
LEVEL_RANGE, LEVEL_REACH = 0.5, 5.0
# how little a fitted shallow kernel is disturbed by the untrained networks
START_SCALE = 0.3


class KernelPrior(nn.Module):
    """Kernel, mean and noise of a Gaussian process, as functions of a row.

    It holds all that is learned across tasks. Parameters are those of
    :class:`~sklearn_meta.learners.KernelLearner`, which has the formula of the kernel.
    """

    def __init__(
        self,
        n_features: int,
        *,
        hidden_layer_sizes: Sequence[int] = (64, 64),
        activation: str = "gelu",
        network: nn.Module | None = None,
        mean: str = "learned",
        noise: str = "heteroscedastic",
        noise_levels: int = 1,
        feature_dropout: float = 0.0,
        n_kept_columns: int = 0,
    ):
        _check_options(mean, noise, noise_levels, feature_dropout)
        super().__init__()
        deep = network is not None or len(hidden_layer_sizes) > 0
        self.mean, self.noise = mean, noise if deep else "constant"
        self.std_floor = STD_FLOOR
        self.feature_dropout, self.n_kept_columns = feature_dropout, n_kept_columns
        self.n_features = n_features
        # what learners of one shape have in common; None with a network of the user's
        layout = (n_features, tuple(hidden_layer_sizes), activation, noise_levels)
        self.shape = None if network is not None else (*layout, self.tells_moments)
        spread = math.log(max(n_features, 1))
        # standard deviations, as logarithms
        self.log_constant = nn.Parameter(torch.tensor(-0.7))
        self.log_linear = nn.Parameter(torch.full((n_features,), -1.5 - 0.5 * spread))
        self.log_smooth = nn.Parameter(torch.tensor(-1.0))
        self.log_length = nn.Parameter(torch.full((n_features,), 0.5 * spread + 0.3))
        self.log_noise = nn.Parameter(torch.tensor(-1.0))
        if noise_levels > 1:
            start = torch.linspace(-LEVEL_RANGE, LEVEL_RANGE, noise_levels)
            self.level_numbers = LearnedNumbers(
                LEVEL_REACH, log_level=start, logit=torch.zeros(noise_levels)
            )
        if deep:
            self._add_networks(n_features, hidden_layer_sizes, activation, network)
        elif mean == "learned":
            self.constant_mean = nn.Parameter(torch.tensor(0.0))

    def _add_networks(
        self,
        n_features: int,
        sizes: Sequence[int],
        activation: str,
        network: nn.Module | None,
    ) -> None:
        """Build what maps rows to linear features, coordinates, mean and noise."""
        n_moments = (self.mean == "learned") + (self.noise == "heteroscedastic")
        widths = [N_LINEAR, N_COORDINATES] + [n_moments] * (n_moments > 0)
        if network is None:
            self.body: nn.Module = Towers(n_features, sizes, len(widths), activation)
            n_embedding = sizes[-1]
        else:
            check_row_independent(network)
            self.body, n_embedding = network, _output_width(network, n_features)
        self.heads = nn.ModuleList(nn.Linear(n_embedding, width) for width in widths)
        if n_moments:
            zero_last_layer(self.heads[-1])

    @property
    def tells_moments(self) -> bool:
        """Whether mean or noise, or both, are learned for each row."""
        return self.mean == "learned" or self.noise == "heteroscedastic"

    @property
    def is_deep(self) -> bool:
        """Whether there are networks beside the kernel of the columns."""
        return hasattr(self, "body")

    def quieten(self, mean: float) -> None:
        """Make untrained networks a small disturbance of the kernel of the columns.

        Parameters
        ----------
        mean : float
            Where a learned mean starts.
        """
        with torch.no_grad():
            if self.is_deep:
                for parameter in self.heads[:2].parameters():
                    parameter.mul_(START_SCALE)
            if self.mean == "learned":
                level = "heads.2.bias" if self.is_deep else "constant_mean"
                self.get_parameter(level).view(-1)[0] = mean

    def _process_of(self, X: Tensor) -> tuple[Features, Scales]:
        """What the losses in C read of rows (n_rows, n_features), and the scales."""
        linear, smooth, moments = self._learned_features(X)
        features = Features(
            linear, smooth, self._mean(moments), self._noise_variance(moments)
        )
        scales = self.log_constant, self.log_linear, self.log_length, self.log_smooth
        return features, Scales(*scales)

    def _describe(self, X: Tensor) -> tuple[KernelRows, Tensor, Tensor]:
        """What the kernel reads of rows; their mean and noise, (n_tasks, n_rows)."""
        X = X[..., : self.n_features]
        linear = [
            self.log_constant.exp().expand(*X.shape[:2], 1),
            X * self.log_linear.exp(),
        ]
        coordinates = [X * (-self.log_length).exp()]
        linear_features, place, moments = self._learned_features(X)
        if linear_features is not None and place is not None:
            linear.append(LIMITS.linear_scale * linear_features)
            coordinates.append(LIMITS.smooth_scale * place)
        rows = KernelRows(torch.cat(linear, -1), torch.cat(coordinates, -1))
        return rows, self._mean(moments), self._noise_variance(moments)

    def _learned_features(
        self, X: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Features z (..., 16) and u (..., 8) of rows, and their moments.

        Features are None without networks. What mean and noise read are the moments,
        (..., n_moments).
        """
        if not self.is_deep:
            return None, None, X.new_zeros(*X.shape[:-1], 2)
        linear, place, *moments = self._features(X)
        return linear, place, moments[0] if moments else X.new_zeros(*X.shape[:-1], 2)

    def _features(self, X: Tensor) -> list[Tensor]:
        """Outputs of the heads, each (..., width), of rows (..., n_features)."""
        hidden = self.body(X.flatten(0, -2))
        if hidden.ndim == 2:  # one embedding for all heads
            hidden = hidden.expand(len(self.heads), -1, -1)
        pairs = zip(self.heads, hidden.unbind(0), strict=True)
        return [head(rows).unflatten(0, X.shape[:-1]) for head, rows in pairs]

    def _mean(self, moments: Tensor) -> Tensor:
        """Mean of each row, (...), from its moments (..., n_moments)."""
        if self.mean == "zero":
            return moments.new_zeros(moments.shape[:-1])
        if self.is_deep:
            return moments[..., 0]
        return self.constant_mean.expand(moments.shape[:-1])

    def _noise_variance(self, moments: Tensor) -> Tensor:
        """Variance of the noise of each row, (...), from its moments."""
        log_variance = 2 * self.log_noise
        if self.noise == "constant":
            return (log_variance.exp() + self.std_floor**2).expand(moments.shape[:-1])
        bounded = MAX_LOG_NOISE * torch.tanh(moments[..., -1] / MAX_LOG_NOISE)
        return torch.exp(log_variance + bounded) + self.std_floor**2

    def _levels(self) -> Levels:
        """Levels of the noise of a task."""
        if not hasattr(self, "level_numbers"):
            return ONE_LEVEL
        return Levels(self.level_numbers("log_level"), self.level_numbers("logit"))

    def _drop_columns(self, X: Tensor) -> Tensor:
        """Set columns of whole training episodes (n_tasks, n_rows, n) to zero."""
        if not (self.training and self.feature_dropout):
            return X
        keep = torch.rand(len(X), 1, X.shape[-1], device=X.device)
        keep = keep >= self.feature_dropout
        keep[..., X.shape[-1] - self.n_kept_columns :] = True
        return X * keep


def _output_width(network: nn.Module, n_features: int) -> int:
    """Width of a network's output, from its last linear layer or by trying it."""
    size = output_size(network)
    if size is None:
        with torch.no_grad():
            size = network(torch.zeros(1, n_features)).shape[-1]
    return size


def _check_options(
    mean: str, noise: str, noise_levels: int, feature_dropout: float
) -> None:
    """Reject unknown options."""
    if not 1 <= noise_levels <= MOST_LEVELS:
        raise ValueError(
            f"noise_levels must be from 1 to {MOST_LEVELS}; got {noise_levels!r}."
        )
    if mean not in _MEANS:
        raise ValueError(f"mean must be one of {_MEANS}; got {mean!r}.")
    if noise not in _NOISES:
        raise ValueError(f"noise must be one of {_NOISES}; got {noise!r}.")
    if not 0 <= feature_dropout < 1:
        raise ValueError(f"feature_dropout must be in [0, 1); got {feature_dropout!r}.")
