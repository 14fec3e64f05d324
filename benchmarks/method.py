"""What every method that is compared has to do."""

from abc import ABC, abstractmethod


class Method(ABC):
    """A way to learn from the training tasks of a split and to predict its episodes."""

    # whether the seconds of `pooled_stage` belong to this method's fit
    uses_pooled_stage = False

    def suits(self, split, k):
        """Return whether it can predict from `k` support rows; not to be tried else."""
        return True

    @abstractmethod
    def fit(self, split):
        """Learn from the training rows."""

    @abstractmethod
    def predict(self, split, k):
        """Return the prediction of each episode with `k` support rows.

        That is a ``Normal`` for targets; for classes an array of probabilities with a
        column per class of the split where labels are shared, and per class of the
        support, sorted, where classes are new.
        """
