"""Predictions of a pooled model that never saw the task it predicts."""

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict

from sklearn_meta.tasks import TaskRows

__all__ = ["folds_by_task", "out_of_fold"]

N_FOLDS = 4


def out_of_fold(estimator: Any, rows: TaskRows, method: str = "predict") -> np.ndarray:
    """Predict each row by a clone that was fitted without the row's task.

    In-fold predictions follow the targets they were fitted to; what a learner sees of
    their errors would be too small for new tasks.

    Parameters
    ----------
    estimator : estimator
        Any scikit-learn estimator; it is cloned.
    rows : TaskRows
        The meta-training rows. Folds are split by task; in one plain table, by row.
    method : str, default="predict"
        What is called on held-out rows.

    Returns
    -------
    predictions : ndarray of shape (n_rows,) or (n_rows, n_outputs)
        Out-of-fold predictions.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn_meta.pooling import out_of_fold
    >>> from sklearn_meta.tasks import TaskRows
    >>> X, y, sizes = np.zeros((4, 1)), np.array([0, 0, 6, 6]), np.array([2, 2])
    >>> rows = TaskRows(X, y, sizes, names=["a", "b"])
    >>> out_of_fold(DummyRegressor(), rows)
    array([6., 6., 0., 0.])
    """
    return cross_val_predict(
        clone(estimator), rows.X, rows.y, cv=folds_by_task(rows), method=method
    )


def folds_by_task(rows: TaskRows) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, held out) row numbers; the rows of a task are in one fold.

    The rows of a single table are split one by one.
    """
    # splits are made here, so that no groups have to be routed
    if len(rows.sizes) == 1:
        folds = KFold(min(N_FOLDS, len(rows.y)), shuffle=True, random_state=0)
        return list(folds.split(rows.X))
    folds = GroupKFold(min(N_FOLDS, len(rows.sizes)))
    return list(folds.split(rows.X, groups=rows.codes))
