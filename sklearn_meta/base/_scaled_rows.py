"""Rows in the scales of meta-training, as a table and on a device."""

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches

# standardised features are cut here: one wild value must not own a small task
FEATURE_LIMIT = 6.0
# rows that are scaled at a time: temporary copies stay small beside a large table
BLOCK_ROWS = 2**17
CACHED_NUMBERS = 2**14


class ScaledRowsMixin:
    """Scale rows by ``scaler_``; the columns after its own keep their unit."""

    scaler_: StandardScaler | None

    def _scale(self, X: np.ndarray) -> np.ndarray:
        """Scale features of (n_rows, n_columns) by those of meta-training.

        Offsets, the columns behind them, keep their unit.
        """
        if self.scaler_ is None:
            return X
        # by hand: the rows are checked, and a second check takes longer than a query
        n_scaled = len(self.scaler_.mean_)
        scaled = np.empty((len(X), n_scaled))
        # several passes over rows that are in the cache
        n_rows = max(1, CACHED_NUMBERS // max(1, n_scaled))
        for begin in range(0, len(X), n_rows):
            rows = slice(begin, begin + n_rows)
            self._scale_block(X[rows, :n_scaled], scaled[rows])
        return (
            scaled if n_scaled == X.shape[1] else np.hstack([scaled, X[:, n_scaled:]])
        )

    def _scale_block(self, X: np.ndarray, out: np.ndarray) -> None:
        """Write the scaled features of some rows, (n_rows, n_features)."""
        scaler: StandardScaler = self.scaler_
        np.subtract(X, scaler.mean_, out=out)
        out /= scaler.scale_
        out.clip(-FEATURE_LIMIT, FEATURE_LIMIT, out=out)

    def _tensor(self, array: np.ndarray, device: torch.device) -> torch.Tensor:
        """Move an array of any shape to where training happens, once."""
        return torch.as_tensor(array, dtype=torch.float32, device=device)

    def _scaled_tensor(self, X: np.ndarray, device: torch.device) -> torch.Tensor:
        """Scale rows (n_rows, n_columns) where training happens, a block at a time."""
        if len(X) <= BLOCK_ROWS:
            return self._tensor(self._scale(X), device)
        table = torch.empty(X.shape, dtype=torch.float32, device=device)
        for block in gen_batches(len(X), BLOCK_ROWS):
            table[block] = self._tensor(self._scale(X[block]), device)
        return table


def fit_scaler(X: np.ndarray) -> StandardScaler:
    """Learn the scales of the columns of X, of shape (n_rows, n_features).

    It is given in parts: scikit-learn copies all that it is given at once.
    """
    scaler = StandardScaler()
    for block in gen_batches(len(X), BLOCK_ROWS):
        scaler.partial_fit(X[block])
    return scaler
