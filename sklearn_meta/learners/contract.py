"""What every learner can do: adapt to supports, then predict queries."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from sklearn_meta.functional import Gaussian
from sklearn_meta.learners.parts import State


class Learner(nn.Module, ABC):
    """A module that reads the support rows of many tasks, and predicts their queries.

    Tasks come first in every tensor, of the state as well. Padding rows must not matter
    whatever they hold, and no parameter is written to.
    """

    @abstractmethod
    def adapt(
        self, X_support: Tensor, Y_support: Tensor, support_mask: Tensor
    ) -> State:
        """Learn what the supports say of their tasks.

        Parameters
        ----------
        X_support : Tensor of shape (n_tasks, n_support, n_features)
            Support rows.
        Y_support : Tensor of shape (n_tasks, n_support, n_outputs)
            Their targets, or one-hot labels.
        support_mask : Tensor of shape (n_tasks, n_support)
            True for rows that are there, False for padding.

        Returns
        -------
        dict of str to Tensor
            The state of each task.
        """

    @abstractmethod
    def query(self, state: State, X_query: Tensor) -> Tensor | Gaussian:
        """Predict query rows.

        Parameters
        ----------
        state : dict of str to Tensor
            What `adapt` has returned.
        X_query : Tensor of shape (n_tasks, n_query, n_features)
            Query rows; each is answered on its own.

        Returns
        -------
        Gaussian of (n_tasks, n_query) or Tensor of shape (n_tasks, n_query, n_classes)
            A mean and a standard deviation, or logits.
        """

    def forward(
        self,
        X_support: Tensor,
        Y_support: Tensor,
        support_mask: Tensor,
        X_query: Tensor,
    ) -> Tensor | Gaussian:
        """Adapt to the support rows, then predict the query rows; shapes as in both."""
        return self.query(self.adapt(X_support, Y_support, support_mask), X_query)
