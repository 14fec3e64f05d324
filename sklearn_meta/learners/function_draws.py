"""Joint draws from the posterior of a task's function."""

import torch
from torch import Tensor

from sklearn_meta.learners.kernel import KernelLearner
from sklearn_meta.learners.parts import State

__all__ = ["FunctionDraws"]


class FunctionDraws:
    """Answers queries with draws of the function, where a learner predicts.

    Parameters
    ----------
    learner : KernelLearner
        The learner that was adapted.
    n_draws : int
        Draws of each task's function.
    seed : int
        Source of randomness.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.learners import FunctionDraws, KernelLearner
    >>> learner, X = KernelLearner(2), torch.zeros(1, 3, 2)
    >>> state = learner.adapt(X, X[..., :1], torch.ones(1, 3, dtype=torch.bool))
    >>> FunctionDraws(learner, 5, seed=0).query(state, X).shape
    torch.Size([1, 3, 5])
    """

    def __init__(self, learner: KernelLearner, n_draws: int, seed: int):
        self.learner, self.n_draws = learner, n_draws
        # on the CPU, so that every device gives the same draws
        self.generator = torch.Generator().manual_seed(seed)

    def adapt(
        self, X_support: Tensor, Y_support: Tensor, support_mask: Tensor
    ) -> State:
        """Adapt the learner to tasks whose state was not kept.

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
        dict of str to Tensor
            What `query` reads.
        """
        return self.learner.adapt(X_support, Y_support, support_mask)

    def query(self, state: State, X_query: Tensor) -> Tensor:
        """Draw functions at query rows.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `KernelLearner.adapt`.
        X_query : Tensor of shape (n_tasks, n_query, n_features)
            Query rows.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_draws)
            Values of each draw at the rows, without noise.
        """
        mean, covariance = self.learner.joint_posterior(state, X_query)
        # a row that is asked twice makes it singular: Cholesky would not do
        values, vectors = torch.linalg.eigh(covariance)
        roots = vectors * values.clamp_min(0).sqrt().unsqueeze(-2)
        shape = (*mean.shape, self.n_draws)
        normal = torch.randn(shape, generator=self.generator, dtype=mean.dtype)
        return mean.unsqueeze(-1) + roots @ normal.to(mean.device)
