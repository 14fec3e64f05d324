"""Gaussian process learners: exact conditioning on the support of a task."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sklearn_meta.functional import (
    Gaussian,
    KernelRows,
    gaussian_nll,
    kernel_diagonal,
    kernel_matrix,
    log_marginal_likelihood,
    masked_task_mean,
    zero_padding,
)
from sklearn_meta.functional.compiled_process import (
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
from sklearn_meta.learners.kernel_prior import LIMITS, KernelPrior
from sklearn_meta.learners.parts import State
from sklearn_meta.learners.steady import steady_from

__all__ = ["KernelLearner"]


class KernelLearner(KernelPrior, Learner):
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
        """Adapt and query in one pass; shapes are those of both."""
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
        """The target's prediction from that of the function at each level.

        Mean and noise are of shape (n_tasks, n_query), shift and variance of
        (n_tasks, n_levels, n_query), the weight of (n_tasks, n_levels).
        """
        log_level = self._levels().log_level
        noise = noise.unsqueeze(1)
        if log_level is not None:
            noise = noise * log_level.exp().unsqueeze(-1)
        total = variance.clamp_min(LIMITS.least_variance) + noise
        return LevelMixture(mean.unsqueeze(1) + shift, total, log_weight)


def _residual(Y: Tensor, mask: Tensor, mean: Tensor) -> Tensor:
    """What the process must explain, (n_tasks, n_rows), zero at padding."""
    return torch.where(mask, Y.squeeze(-1) - mean, 0)
