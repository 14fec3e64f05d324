"""Rows that carry what a pooled model says of them in their last columns."""

import numpy as np

from sklearn_meta.pooling import PooledModel


class PooledColumnsMixin:
    """Add the columns of ``pooled_`` to new rows; those of ``fit`` are out of fold."""

    pooled_: PooledModel | None

    def _prepare(self, X: np.ndarray) -> np.ndarray:
        """Return new rows (n_rows, n_columns) with those of the pooled model last."""
        if self.pooled_ is None:
            return X
        return np.column_stack([X, self.pooled_.columns(X)])

    def _n_raw_features(self, n_columns: int) -> int:
        """Return how many of the columns of prepared rows are the user's."""
        return n_columns - (0 if self.pooled_ is None else self.pooled_.n_columns)
