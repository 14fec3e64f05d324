"""One model of all rows, whose predictions other learners start from."""

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from sklearn_meta.pooling._automatic import choose_pooled
from sklearn_meta.pooling._cross_fit import (
    SMALLEST_PROBABILITY,
    class_probabilities,
    few_threads,
    fit_member,
    out_of_fold,
    predict_numbers,
    with_seed,
)
from sklearn_meta.targets import check_known_labels
from sklearn_meta.tasks import TaskRows


class PooledModel(NamedTuple):
    """A model of the rows of all tasks, as columns that a learner can start from.

    Parameters
    ----------
    model : estimator
        The fitted scikit-learn estimator.
    classes : ndarray of shape (n_classes,) or None
        The sorted labels of a classifier; None for a regressor.
    name : str
        What was chosen: "linear", "boosting" or "mean" by "auto", else the class of
        the estimator.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn_meta.pooling import PooledModel
    >>> model = DummyClassifier().fit(np.zeros((4, 1)), [0, 0, 0, 1])
    >>> PooledModel(model, np.arange(2), "DummyClassifier").columns(np.zeros((1, 1)))
    array([[ 0.54930614, -0.54930614]])
    """

    model: Any
    classes: np.ndarray | None
    name: str

    @property
    def n_columns(self) -> int:
        """Columns: 1 of a regressor, one per class of a classifier."""
        return 1 if self.classes is None else len(self.classes)

    def columns(self, X: np.ndarray) -> np.ndarray:
        """Return what the model says of rows of tasks that it did not see.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
            The rows.

        Returns
        -------
        columns : ndarray of shape (n_rows, n_columns)
            A regressor's prediction; a classifier's logarithms of probabilities, cut
            at 1e-4 from below and centred in each row.
        """
        if self.classes is None:
            return as_columns(predict_numbers(self.model, X))
        return as_columns(class_probabilities(self.model, X, self.classes))

    def out_of_fold_columns(self, rows: TaskRows) -> np.ndarray:
        """Return the columns of clones that were fitted without the row's task."""
        return as_columns(out_of_fold(self.model, rows, self.classes))


def as_columns(said: np.ndarray) -> np.ndarray:
    """Return predictions (n_rows,) as a column, probabilities as centred logarithms."""
    if said.ndim == 1:
        return said[:, None]
    logs = np.log(said.clip(SMALLEST_PROBABILITY, 1))
    return logs - logs.mean(1, keepdims=True)


def fit_pooled(
    estimator: Any,
    rows: TaskRows,
    classes: np.ndarray | None = None,
    random_state: Any = None,
) -> tuple[PooledModel, np.ndarray]:
    """Fit a pooled model and predict the rows as if their task were new.

    Parameters
    ----------
    estimator : estimator or "auto"
        A scikit-learn regressor, or a classifier with ``predict_proba``; it is cloned.
        "auto" takes a linear model, gradient boosting or their mean, whichever has the
        least squared error or log-loss out of fold.
    rows : TaskRows
        The meta-training rows.
    classes : ndarray of shape (n_classes,), default=None
        The sorted labels of a classifier; None for a regressor.
    random_state : int, RandomState instance or None, default=None
        Seeds each ``random_state`` of the estimator that is None.

    Returns
    -------
    pooled : PooledModel
        Fitted on all rows, for new tasks.
    columns : ndarray of shape (n_rows, n_columns)
        Its columns, each row's from a clone that did not see the row's task.

    Raises
    ------
    ValueError
        If a label is not among the classes.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn_meta.pooling import fit_pooled
    >>> from sklearn_meta.tasks import TaskRows
    >>> X, y, sizes = np.zeros((4, 1)), np.array([0, 0, 6, 6]), np.array([2, 2])
    >>> pooled, columns = fit_pooled(DummyRegressor(), TaskRows(X, y, sizes, [0, 1]))
    >>> columns.ravel(), pooled.columns(X[:1]).ravel()
    (array([6., 6., 0., 0.]), array([3.]))
    """
    if classes is not None:
        check_known_labels(rows.y, classes, rows.place_of)
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    with few_threads(len(rows.y)):
        if isinstance(estimator, str):
            name, chosen, said = choose_pooled(rows, classes, seed)
        else:
            name, chosen = type(estimator).__name__, with_seed(estimator, seed)
            said = out_of_fold(chosen, rows, classes)
        model = fit_member(chosen, rows.X, rows.y)
    return PooledModel(model, classes, name), as_columns(said)
