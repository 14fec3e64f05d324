"""Fitting clones of an estimator, and asking them about tasks they did not see."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GroupKFold, KFold
from threadpoolctl import threadpool_limits

from sklearn_meta.tasks import TaskRows

N_FOLDS = 4
MAX_ROWS_FOR_ONE_THREAD = 20_000
# a probability below is not told from it by the few rows of a task
SMALLEST_PROBABILITY = 1e-4


def out_of_fold(
    estimator: Any, rows: TaskRows, classes: np.ndarray | None = None
) -> np.ndarray:
    """Predict each row by a clone that was fitted without the row's task.

    In-fold predictions follow the targets they were fitted to; what a learner sees of
    their errors would be too small for new tasks.

    Parameters
    ----------
    estimator : estimator
        Any scikit-learn estimator; it is cloned.
    rows : TaskRows
        The meta-training rows. Folds are split by task; in one plain table, by row.
    classes : ndarray of shape (n_classes,), default=None
        The sorted labels of a classifier; None for a regressor.

    Returns
    -------
    said : ndarray of shape (n_rows,) or (n_rows, n_classes)
        Out-of-fold predictions, or probabilities.

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
    said = np.empty((len(rows.y), *([] if classes is None else [len(classes)])))
    for train, held_out in folds_by_task(rows):
        model = fit_member(estimator, rows.X[train], rows.y[train])
        said[held_out] = (
            predict_numbers(model, rows.X[held_out])
            if classes is None
            else class_probabilities(model, rows.X[held_out], classes)
        )
    return said


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


def fit_member(estimator: BaseEstimator, X: np.ndarray, y: np.ndarray) -> BaseEstimator:
    """Return a clone fitted on rows of shape (n_rows, n_features) and their targets.

    Most classifiers refuse rows of one class; a constant one takes their place.
    """
    if hasattr(estimator, "predict_proba") and len(np.unique(y)) == 1:
        return DummyClassifier(strategy="prior").fit(X, y)
    return clone(estimator).fit(X, y)


def few_threads(n_rows: int) -> Any:
    """Return a context in which small tables are boosted by one thread.

    Threads wait for each other at every tree; with other work on the machine that
    can take a hundred times as long as the work itself.
    """
    limit = 1 if n_rows <= MAX_ROWS_FOR_ONE_THREAD else None
    return threadpool_limits(limit, user_api="openmp")


def predict_numbers(model: Any, X: np.ndarray) -> np.ndarray:
    """Return what a regressor predicts, of shape (n_rows,); some give a column."""
    return np.asarray(model.predict(X), float).reshape(len(X))


def class_probabilities(model: Any, X: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return probabilities of all classes, 0 for those not seen.

    They are of shape (n_rows, n_classes).
    """
    proba = np.zeros((len(X), len(classes)))
    proba[:, np.searchsorted(classes, model.classes_)] = model.predict_proba(X)
    return proba


def with_seed(estimator: BaseEstimator, seed: int) -> BaseEstimator:
    """Return a clone in which every ``random_state`` that is None is a seed."""
    seeded = clone(estimator)
    names = [
        name
        for name, value in sorted(seeded.get_params().items())
        if value is None and name.split("__")[-1] == "random_state"
    ]
    return seeded.set_params(**dict.fromkeys(names, seed))
