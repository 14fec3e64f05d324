"""What the Gaussian processes of classes share: adapting is finding a mode."""

from torch import Tensor

from sklearn_meta.functional import (
    LaplacePosterior,
    laplace_logits,
    laplace_posterior,
    mask_absent,
    zero_padding,
)
from sklearn_meta.learners.contract import Learner
from sklearn_meta.learners.parts import LearnedNumbers, State
from sklearn_meta.learners.process import ProcessLearner

_OF_CORRECTION = "correction_"


class LaplaceLearner(Learner):
    """Adapting is Laplace's approximation with the kernel of a subclass.

    A subclass has ``numbers`` with at least "shots" and "kappa", and fills in what
    rows are, their kernel, and the logits before the support is seen.
    """

    numbers: LearnedNumbers
    correction: ProcessLearner | None

    def adapt(
        self, X_support: Tensor, Y_support: Tensor, support_mask: Tensor
    ) -> State:
        """Find the posterior of every task's logits.

        Parameters
        ----------
        X_support : Tensor of shape (n_tasks, n_support, n_columns)
            Support rows.
        Y_support : Tensor of shape (n_tasks, n_support, n_classes)
            One-hot classes.
        support_mask : Tensor of shape (n_tasks, n_support), bool
            True for a real row.

        Returns
        -------
        dict of str to Tensor, tasks first
            The support's part in the kernel, the posterior, "present" (n_tasks,
            n_classes), and the state of the correction if there is one.
        """
        X = zero_padding(X_support, support_mask)
        Y = zero_padding(Y_support, support_mask)
        state = self._describe(X, Y, support_mask)
        rows = self._rows(state, X)
        scale = (self.numbers("shots") * state["log_count"]).exp()
        kernel = self._kernel(rows, rows) * scale[:, None, None]
        offset = self._offset(state, X)
        posterior = laplace_posterior(kernel, offset, Y, support_mask)
        state |= {"rows": rows, "scale": scale, **posterior._asdict()}
        if self.correction is not None:
            read = self.correction.adapt(X, Y, support_mask)
            state |= {_OF_CORRECTION + name: part for name, part in read.items()}
        return state

    def query(self, state: State, X_query: Tensor) -> Tensor:
        """Return the logits of query rows.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `adapt`.
        X_query : Tensor of shape (n_tasks, n_query, n_columns)
            Query rows; each is scored on its own.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_classes)
            Logits.
        """
        rows = self._rows(state, X_query)
        scale = state["scale"].unsqueeze(1)
        logits = laplace_logits(
            LaplacePosterior(state["coefficients"], state["precision"]),
            self._kernel(rows, state["rows"]) * scale.unsqueeze(1),
            self._variance(rows) * scale,
            self._offset(state, X_query),
            state["present"],
            self.numbers("kappa").exp(),
        )
        if self.correction is None:
            return logits
        start = len(_OF_CORRECTION)
        read = {k[start:]: v for k, v in state.items() if k.startswith(_OF_CORRECTION)}
        return mask_absent(
            logits + self.correction.logits(read, X_query), state["present"]
        )

    def _describe(self, X: Tensor, Y: Tensor, mask: Tensor) -> State:
        """Return "present" (n_tasks, n_classes), "log_count" (n_tasks,), and more."""
        raise NotImplementedError

    def _rows(self, state: State, X: Tensor) -> Tensor:
        """Return what the kernel reads of rows, (n_tasks, n_rows, n_coordinates)."""
        raise NotImplementedError

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the kernel of rows, (n_tasks, n_a, n_b)."""
        raise NotImplementedError

    def _variance(self, rows: Tensor) -> Tensor:
        """Return the kernel of each row with itself, (n_tasks, n_rows)."""
        raise NotImplementedError

    def _offset(self, state: State, X: Tensor) -> Tensor:
        """Return the logits before the support, (n_tasks, n_rows, n_classes)."""
        raise NotImplementedError
