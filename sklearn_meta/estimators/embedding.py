"""Features that were learned across tasks, for any estimator of scikit-learn."""

from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import Tags, _safe_indexing, check_random_state
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import (
    _check_feature_names_in,
    _num_samples,
    check_is_fitted,
)

from sklearn_meta.base._state import unchanged_on_error
from sklearn_meta.estimators.metric import ProtoNetClassifier
from sklearn_meta.estimators.ridge_regressor import RidgeHeadRegressor
from sklearn_meta.pooling import with_seed
from sklearn_meta.tasks import (
    TaskCollection,
    as_task_collection,
    check_magnitude,
    check_table,
    is_task_sequence,
)

__all__ = ["BlockScale", "MetaEmbedding"]

# tasks of a lazy collection that are read to tell labels from numbers and to scale
MAX_TASKS_TO_LOOK_AT = 1000
MAX_ROWS_TO_SCALE = 100_000


class BlockScale(NamedTuple):
    """Moves blocks of columns to mean zero, each with the same sum of variances."""

    center: np.ndarray  # (n_columns,)
    factor: np.ndarray  # (n_columns,), the same in a block

    @classmethod
    def of(cls, blocks: list[np.ndarray], total: float) -> "BlockScale":
        """Learn the scale from blocks (n_rows, width); ``total`` is the sum."""
        centers = [block.mean(0) for block in blocks]
        factors = []
        for block, center in zip(blocks, centers, strict=True):
            size = np.sqrt(((block - center) ** 2).sum(1).mean())
            factor = np.sqrt(total) / size if size > 0 else 1.0
            factors.append(np.full(block.shape[1], factor))
        return cls(np.concatenate(centers), np.concatenate(factors))

    def apply(self, blocks: list[np.ndarray]) -> np.ndarray:
        """Return blocks (n_rows, width) side by side, scaled."""
        return (np.hstack(blocks) - self.center) * self.factor


class MetaEmbedding(TransformerMixin, BaseEstimator):
    """Columns that were learned across tasks, for any estimator of scikit-learn.

    ``fit`` learns from tasks a space in which new tasks are easy. ``transform`` takes
    rows of any task there, so that a support vector machine, a forest or a logistic
    regression learns a new one from a few rows: the features of a model that does well
    on new tasks do so under other models too [1]_.

    Parameters
    ----------
    estimator : estimator, default=None
        What learns the space: a :class:`ProtoNetClassifier`, a
        :class:`RidgeHeadClassifier` or a :class:`RidgeHeadRegressor`. None is
        ``ProtoNetClassifier()`` for labels and ``RidgeHeadRegressor()`` for a target
        with broken numbers.
    passthrough : bool, default=True
        Whether the columns themselves stay, standardised, beside those that were
        learned; where rows are whitened, in their own units too.
    random_state : int, RandomState instance or None, default=None
        Seeds each ``random_state`` of ``estimator`` that is None.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator. It adapts and predicts by itself, too.
    block_sizes_ : list of int
        Number of columns of each block: what is passed through, then what was learned.
    scale_ : BlockScale
        By what each column is moved and multiplied.
    n_features_in_ : int
        Number of features seen by ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if they are all strings.

    Raises
    ------
    ValueError
        In ``fit``, if a parameter or the data is not what was expected.

    See Also
    --------
    ProtoNetClassifier : Has a head of its own on these columns.
    TaskEnsembleClassifier : Another way from old tasks to any estimator.
    sklearn.decomposition.PCA : A space that knows neither labels nor tasks.

    Notes
    -----
    What a ``ProtoNetClassifier`` has learned are rows whitened by the covariances
    within and between the classes known, or the outputs of its network [1]_. A ridge
    head has features [2]_ and, if it has one, the prediction of its head of all tasks,
    before any row of the task is seen.

    Penalties, kernels and distances depend on the size of columns. So each block, that
    of the columns passed through among them, has mean zero over the rows of ``fit``,
    and variances whose sum is the number of features.

    ``fit_transform`` of rows from which the space was learned looks better than
    ``transform`` of new ones will: a model is to be judged on tasks that neither has
    seen, as by :func:`sklearn_meta.metrics.few_shot_score`.

    References
    ----------
    .. [1] J. Snell, K. Swersky and R. Zemel, "Prototypical networks for few-shot
       learning", NeurIPS 2017, equations 1 and 2.
    .. [2] L. Bertinetto, J. F. Henriques, P. H. S. Torr and A. Vedaldi, "Meta-learning
       with differentiable closed-form solvers", ICLR 2019, equations 4 to 6.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.frozen import FrozenEstimator
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import SVC
    >>> from sklearn_meta import MetaEmbedding, ProtoNetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> space = ProtoNetClassifier(embedding="whitened", max_iter=20, random_state=0)
    >>> embedding = MetaEmbedding(space).fit(X[y < 6], y[y < 6])
    >>> X_new, y_new = X[y >= 6], y[y >= 6]  # digits it has not seen
    >>> model = make_pipeline(FrozenEstimator(embedding), SVC())
    >>> model.fit(X_new[:20], y_new[:20]).predict(X_new[20:]).shape
    (694,)
    """

    # requests of the class, so that users need no set_fit_request call
    __metadata_request__fit = {"tasks": True}

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "adapt"]), None],
        "passthrough": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(self, estimator=None, *, passthrough=True, random_state=None):
        self.estimator = estimator
        self.passthrough = passthrough
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, tasks: Any = None) -> Self:
        """Learn the space from tasks.

        Parameters
        ----------
        X : TaskCollection, sequence of (X, y), or array-like of shape \
(n_samples, n_features)
            Tasks, or flat rows.
        y : array-like of shape (n_samples,), default=None
            Targets of flat rows; None where X is a sequence of tasks.
        tasks : array-like of shape (n_samples,), default=None
            The id of each flat row's task, any hashable. Without it, X is one table,
            in which classes (or, of numbers, rows) take the place of tasks.

        Returns
        -------
        self : object
            Fitted.

        Raises
        ------
        ValueError
            If the input is not what was expected; the message names the task. The
            transformer is then as it was before.
        """
        with unchanged_on_error(self):
            random_state = check_random_state(self.random_state)
            estimator = with_seed(
                self._base_estimator(X, y), random_state.randint(2**31)
            )
            self._keep(estimator.fit(X, y, tasks=tasks))
            blocks = self._blocks(self._check_new(_some_rows(X, random_state)))
            self.block_sizes_ = [block.shape[1] for block in blocks]
            self.scale_ = BlockScale.of(blocks, self.n_features_in_)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Take rows into the space, each by itself.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of any task.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_columns)
            The blocks side by side.

        Raises
        ------
        NotFittedError
            If the transformer is not fitted.
        ValueError
            If the rows are not what ``fit`` saw.
        """
        check_is_fitted(self)
        return self.scale_.apply(self._blocks(self._check_new(X)))

    def fit_transform(self, X: Any, y: Any = None, tasks: Any = None) -> np.ndarray:
        """Learn the space from tasks, and take their rows there.

        Parameters
        ----------
        X : TaskCollection, sequence of (X, y), or array-like of shape \
(n_samples, n_features)
            Tasks, or flat rows.
        y : array-like of shape (n_samples,), default=None
            Targets of flat rows.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each flat row.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_columns)
            The rows in their order, those of a collection task by task.

        Raises
        ------
        ValueError
            If the input is not what was expected.
        """
        self.fit(X, y, tasks)
        return self.transform(_flat(X) if is_task_sequence(X) else X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns.

        Parameters
        ----------
        input_features : array-like of str of shape (n_features,), default=None
            Names of the features, if ``fit`` saw none.

        Returns
        -------
        names : ndarray of str
            Those of the standardised features with ``passthrough``, then
            "metaembedding0" and so on.

        Raises
        ------
        NotFittedError
            If the transformer is not fitted.
        ValueError
            If the names differ from those that ``fit`` saw.
        """
        check_is_fitted(self)
        kept = _check_feature_names_in(self, input_features)
        if not self.passthrough:
            kept = kept[:0]
        n_learned = sum(self.block_sizes_) - len(kept)
        learned = [f"{type(self).__name__.lower()}{i}" for i in range(n_learned)]
        return np.array([*kept, *learned], dtype=object)

    def _base_estimator(self, X: Any, y: Any) -> BaseEstimator:
        """Return what learns the space, not fitted."""
        if self.estimator is None:
            number = _is_number(_targets(X) if is_task_sequence(X) else y)
            return RidgeHeadRegressor() if number else ProtoNetClassifier()
        if not hasattr(self.estimator, "_learned_blocks"):
            raise ValueError(
                "Expected estimator to be a ProtoNetClassifier, a RidgeHeadClassifier, "
                f"a RidgeHeadRegressor or None, got {type(self.estimator).__name__}, "
                "which has no space of its own for rows. Use it on the new columns, as "
                "the last step of a Pipeline."
            )
        return self.estimator

    def _keep(self, estimator: BaseEstimator) -> None:
        """Set the fitted estimator, and what it knows of the features."""
        self.estimator_ = estimator
        self.n_features_in_ = estimator.n_features_in_
        self.__dict__.pop("feature_names_in_", None)
        if hasattr(estimator, "feature_names_in_"):
            self.feature_names_in_ = estimator.feature_names_in_

    def _check_new(self, X: Any) -> np.ndarray:
        """Return checked rows in float64."""
        X = check_table(self, X)
        check_magnitude("X", X)
        return X

    def _blocks(self, X: np.ndarray) -> list[np.ndarray]:
        """Return the columns of checked rows in blocks, each (n_rows, width)."""
        blocks = self.estimator_._learned_blocks(self.estimator_._prepare(X))
        return blocks if self.passthrough else blocks[1:]

    @property
    def _n_features_out(self) -> int:
        """Number of columns; scikit-learn's tools ask for it."""
        return sum(self.block_sizes_)

    def __sklearn_tags__(self) -> Tags:
        """Say that targets are needed."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there is a space."""
        return hasattr(self, "scale_")


def _flat(X: Any) -> Any:
    """Return the rows of a sequence of tasks, one task after the other."""
    return as_task_collection(X, caller="MetaEmbedding").to_flat()[0]


def _some_rows(X: Any, random_state: np.random.RandomState) -> Any:
    """Return rows enough to know how large columns are."""
    if is_task_sequence(X):
        return _flat(_some_tasks(X))
    n_rows = _num_samples(X)
    if n_rows <= MAX_ROWS_TO_SCALE:
        return X
    chosen = random_state.permutation(n_rows)[:MAX_ROWS_TO_SCALE]
    return _safe_indexing(X, np.sort(chosen))


def _some_tasks(tasks: Any) -> TaskCollection:
    """Return the first tasks of a sequence that may be larger than memory."""
    return as_task_collection(tasks, caller="MetaEmbedding")[:MAX_TASKS_TO_LOOK_AT]


def _targets(tasks: Any) -> np.ndarray:
    """Return the targets of some tasks."""
    return np.concatenate([np.asarray(y) for _, y in _some_tasks(tasks)])


def _is_number(y: Any) -> bool:
    """Return whether targets are no labels: numbers of which some are broken."""
    y = np.asarray(y)
    return y.dtype.kind == "f" and bool(np.any(y != np.floor(y)))
