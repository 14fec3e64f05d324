"""Gaussian process learners: exact conditioning on the support of a task."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_meta.functional import (
    STD_FLOOR,
    Gaussian,
    KernelRows,
    check_row_independent,
    gaussian_nll,
    kernel_diagonal,
    kernel_matrix,
    log_marginal_likelihood,
    masked_task_mean,
    output_size,
    zero_padding,
)
from sklearn_meta.functional.compiled_process import (
    ONE_LEVEL,
    Features,
    Levels,
    Limits,
    Scales,
    has_process,
    marginal_loss,
    process_loss,
)
from sklearn_meta.functional.noise_levels import (
    LevelMixture,
    condition_on_levels,
    solve_levels,
)
from sklearn_meta.learners.contract import Learner
from sklearn_meta.learners.parts import LearnedNumbers, State, zero_last_layer
from sklearn_meta.learners.steady import steady_from
from sklearn_meta.learners.towers import Towers

__all__ = ["KernelLearner"]

_MEANS = ("zero", "learned")
_NOISES = ("constant", "heteroscedastic")
# features that a network adds: so many to the linear part, so many to the coordinates
N_LINEAR, N_COORDINATES = 16, 8
# they start small beside the columns themselves
LINEAR_SCALE, COORDINATE_SCALE = 0.3, 0.5
# the noise of a row stays within exp(+-1.5), 4.5 times, of the common variance: a row
# on which the model is wrongly sure costs a likelihood more than all others gain
MAX_LOG_NOISE = 1.5
MOST_LEVELS = 8  # of _perceptron.c
# levels of the noise of a task start up to so far from one, and move by so much faster
# than weights of networks
LEVEL_RANGE, LEVEL_REACH = 0.5, 5.0
# how little a fitted shallow kernel is disturbed by the untrained networks
START_SCALE = 0.3
# smallest variance left to the function, so that its logarithm has a gradient
MIN_VARIANCE = 1e-6
LIMITS = Limits(LINEAR_SCALE, COORDINATE_SCALE, MIN_VARIANCE)


class KernelLearner(Learner):
    r"""Gaussian process on the columns of a row and on features learned from them.

    The target is a mean, plus a function drawn from a Gaussian process for each task,
    plus noise. The kernel of the process is

    .. math:: c^2 + \sum_d a_d^2 x_d x'_d + 0.09\, z(x)' z(x')
        + s^2 \exp(-\tfrac12 |v(x) - v(x')|^2),
        \qquad v(x) = [x / l, u(x) / 2],

    with 16 learned features z and 8 learned coordinates u. Adapting is exact: one
    Cholesky factor per task.

    Parameters
    ----------
    n_features : int
        Number of columns that are read, the first ones of a row.
    hidden_layer_sizes : sequence of int, default=(64, 64)
        Hidden layers of the networks of z, of u, and of mean and noise. Empty for none
        of them: the kernel reads the columns alone, and a learned mean is one constant.
    activation : str, default="gelu"
        Activation of the hidden layers.
    network : nn.Module, default=None
        An embedding that z, u, mean and noise share in place of hidden layers of their
        own: maps rows (n, n_features) to (n, embedding_size).
    mean : {"zero", "learned"}, default="learned"
        The mean of the process; a learned one starts at zero.
    noise : {"constant", "heteroscedastic"}, default="heteroscedastic"
        Whether the noise depends on the row; it starts constant. It always is without
        networks.
    noise_levels : int, default=1
        Levels that the noise of a task may have, from 1 to 8: numbers, learned across
        tasks, by which its variances are multiplied. What is said of a row is a mixture
        over them, weighed by the likelihood of the support.
    feature_dropout : float, default=0.0
        Probability in [0, 1) that a column is set to zero in a training episode, in
        support and query alike. The others are not scaled up.
    n_kept_columns : int, default=0
        Columns, the last ones, that are never dropped.

    Raises
    ------
    ValueError
        If an option is unknown or the network mixes rows.

    References
    ----------
    M. Patacchiola et al., "Bayesian Meta-Learning for the Few-Shot Setting via Deep
    Kernels", NeurIPS 2020, equation 7; it is trained on the marginal likelihood, this
    learner on that of query rows given the support.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.learners import KernelLearner
    >>> X, Y = torch.zeros(1, 2, 3), torch.ones(1, 2, 1)
    >>> mask = torch.ones(1, 2, dtype=torch.bool)
    >>> KernelLearner(3)(X, Y, mask, torch.zeros(1, 7, 3)).mean.shape
    torch.Size([1, 7])
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
            self.body, n_embedding = network, embedding_size(network, n_features)
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

    def adapt(
        self, X_support: Tensor, Y_support: Tensor, support_mask: Tensor
    ) -> State:
        """Condition the process on the support rows.

        Parameters
        ----------
        X_support : Tensor of shape (n_tasks, n_support, n_features)
            Support rows.
        Y_support : Tensor of shape (n_tasks, n_support, 1)
            Targets.
        support_mask : Tensor of shape (n_tasks, n_support), bool
            True for a real row.

        Returns
        -------
        dict of str to Tensor, tasks first
            "linear" and "coordinates" (n_tasks, n_support, ...) of the support rows,
            zero at padding but for the coordinates; "factor" (n_tasks, n_levels,
            n_support, n_support), the inverse Cholesky factor at each level of the
            noise; "values" (n_tasks, n_levels, n_support), the residuals times it;
            "log_weight" (n_tasks, n_levels); "mask" (n_tasks, n_support).
        """
        X = zero_padding(X_support, support_mask)
        rows, mean, noise = self._describe(X)
        residual = _residual(Y_support, support_mask, mean)
        factor, values, log_weight = solve_levels(
            rows, 2 * self.log_smooth, noise, residual, support_mask, self._levels()
        )
        return {
            "linear": rows.linear,
            "coordinates": rows.coordinates,
            "factor": factor,
            "values": values,
            "log_weight": log_weight,
            "mask": support_mask,
        }

    def query(self, state: State, X_query: Tensor) -> Gaussian:
        """Predict the targets of query rows, noise included.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `adapt`.
        X_query : Tensor of shape (n_tasks, n_query, n_features)
            Query rows; each is predicted on its own.

        Returns
        -------
        Gaussian of (n_tasks, n_query)
            Mean and standard deviation of the target; those of the mixture over the
            levels of the noise.
        """
        rows, mean, noise = self._describe(X_query)
        shift, whitened = self._project(state, rows)
        prior = kernel_diagonal(rows, 2 * self.log_smooth)
        variance = prior.unsqueeze(1) - whitened.square().sum(-1)
        return self._mixture(
            mean, shift, variance, noise, state["log_weight"]
        ).moments()

    def forward(
        self,
        X_support: Tensor,
        Y_support: Tensor,
        support_mask: Tensor,
        X_query: Tensor,
    ) -> Gaussian:
        """Adapt and query in one pass; shapes are those of both."""
        return self._predict(X_support, Y_support, support_mask, X_query).moments()

    def _predict(
        self,
        X_support: Tensor,
        Y_support: Tensor,
        support_mask: Tensor,
        X_query: Tensor,
    ) -> LevelMixture:
        """Adapt and query in one pass."""
        n = X_support.shape[1]
        X = torch.cat([zero_padding(X_support, support_mask), X_query], 1)
        rows, mean, noise = self._describe(self._drop_columns(X))
        residual = _residual(Y_support, support_mask, mean[:, :n])
        known = rows, 2 * self.log_smooth, noise[:, :n], residual, support_mask
        shift, variance, log_weight = condition_on_levels(*known, self._levels())
        return self._mixture(mean[:, n:], shift, variance, noise[:, n:], log_weight)

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

        The likelihood and its gradient are computed in C where that is there.

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
        if criterion is not gaussian_nll or not has_process(X_support):
            said = self._predict(X_support, Y_support, support_mask, X_query)
            if criterion is gaussian_nll:
                return masked_task_mean(said.nll(Y_query), query_mask)
            return masked_task_mean(criterion(said.moments(), Y_query), query_mask)
        mask = torch.cat([support_mask, query_mask], 1)
        X = self._drop_columns(torch.cat([X_support, X_query], 1))
        X, Y = self._real_rows(X, torch.cat([Y_support, Y_query], 1), mask)
        known = X, Y, mask, support_mask.shape[1]
        return process_loss(*known, *self._process_of(X), LIMITS, self._levels())

    def joint_posterior(self, state: State, X_query: Tensor) -> tuple[Tensor, Tensor]:
        """Return how the function's values at query rows vary together.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `adapt`.
        X_query : Tensor of shape (n_tasks, n_query, n_features)
            Query rows.

        Returns
        -------
        mean : Tensor of shape (n_tasks, n_query)
            Posterior mean of the function.
        covariance : Tensor of shape (n_tasks, n_query, n_query)
            Posterior covariance of the function; noise is not in it. Both are those of
            the mixture over its levels.
        """
        rows, mean, _ = self._describe(X_query)
        shift, whitened = self._project(state, rows)
        prior = kernel_matrix(rows, rows, 2 * self.log_smooth)
        weight = state["log_weight"].exp().unsqueeze(-1)
        common = (weight * shift).sum(1)
        apart = weight.sqrt() * (shift - common.unsqueeze(1))
        root = weight.sqrt().unsqueeze(-1) * whitened
        covariance = prior - (root @ root.mT).sum(1) + apart.mT @ apart
        return mean + common, covariance

    def marginal_loss(self, X: Tensor, Y: Tensor, mask: Tensor) -> Tensor:
        """Minus the log marginal likelihood of whole tasks, to be differentiated once.

        It and its gradient are computed in C where that is there.

        Parameters
        ----------
        X : Tensor of shape (n_tasks, n_rows, n_features)
            All rows of the tasks.
        Y : Tensor of shape (n_tasks, n_rows, 1)
            Targets.
        mask : Tensor of shape (n_tasks, n_rows), bool
            True for a real row.

        Returns
        -------
        Tensor of shape ()
            A mean over the rows of all tasks, in nats.
        """
        if has_process(X):
            X, Y = self._real_rows(X, Y, mask)
            return marginal_loss(X, Y, mask, *self._process_of(X), LIMITS)
        rows, mean, noise = self._describe(zero_padding(X, mask))
        kernel = kernel_matrix(rows, rows, 2 * self.log_smooth)
        residual = _residual(Y, mask, mean)
        density = log_marginal_likelihood(kernel, noise, residual, mask)
        return -density.sum() / mask.sum()

    def _real_rows(self, X: Tensor, Y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (n_rows, n_features) and targets (n_rows,) without those of padding."""
        return X[mask][:, : self.n_features], Y[mask].squeeze(-1)

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
            linear.append(LINEAR_SCALE * linear_features)
            coordinates.append(COORDINATE_SCALE * place)
        rows = KernelRows(torch.cat(linear, -1), torch.cat(coordinates, -1))
        return rows, self._mean(moments), self._noise_variance(moments)

    def _learned_features(
        self, X: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Features z and u, None without networks, and what mean and noise read."""
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

    def _project(self, state: State, rows: KernelRows) -> tuple[Tensor, Tensor]:
        """Change of the mean by the support, and the rows' whitened covariances.

        They have the shapes (n_tasks, n_levels, n_rows) and (..., n_support).
        """
        support = KernelRows(state["linear"], state["coordinates"])
        kernel = kernel_matrix(rows, support, 2 * self.log_smooth)
        kernel = torch.where(state["mask"].unsqueeze(1), kernel, 0)
        whitened = kernel.unsqueeze(1) @ state["factor"].mT
        return (whitened @ state["values"].unsqueeze(-1)).squeeze(-1), whitened

    def _mixture(
        self,
        mean: Tensor,
        shift: Tensor,
        variance: Tensor,
        noise: Tensor,
        log_weight: Tensor,
    ) -> LevelMixture:
        """The target's prediction from that of the function at each level."""
        log_level = self._levels().log_level
        noise = noise.unsqueeze(1)
        if log_level is not None:
            noise = noise * log_level.exp().unsqueeze(-1)
        total = variance.clamp_min(MIN_VARIANCE) + noise
        return LevelMixture(mean.unsqueeze(1) + shift, total, log_weight)

    def _drop_columns(self, X: Tensor) -> Tensor:
        """Set columns of whole training episodes to zero."""
        if not (self.training and self.feature_dropout):
            return X
        keep = torch.rand(len(X), 1, X.shape[-1], device=X.device)
        keep = keep >= self.feature_dropout
        keep[..., X.shape[-1] - self.n_kept_columns :] = True
        return X * keep


def _residual(Y: Tensor, mask: Tensor, mean: Tensor) -> Tensor:
    """What the process must explain, (n_tasks, n_rows), zero at padding."""
    return torch.where(mask, Y.squeeze(-1) - mean, 0)


def embedding_size(network: nn.Module, n_features: int) -> int:
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
