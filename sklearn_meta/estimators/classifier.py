"""What meta-classifiers share: labels with one meaning in all tasks, or in each."""

from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets

from sklearn_meta.episodes import ClassEpisodeSampler, RowEpisodeSampler
from sklearn_meta.estimators.few_tasks import are_few_tasks, warn_of_few_tasks
from sklearn_meta.estimators.overlapping_labels import warn_of_overlapping_labels
from sklearn_meta.estimators.usable_classes import usable_classes
from sklearn_meta.functional import categorical_nll
from sklearn_meta.pooling import PooledModel, fit_pooled
from sklearn_meta.targets import (
    LocalClasses,
    check_known_labels,
    log_probabilities,
    one_hot,
    shared_labels,
)
from sklearn_meta.tasks import TaskRows, is_task_sequence, plain_labels

# a class that was ruled out costs much, and not everything
SMALLEST_PROBABILITY = 1e-12

# what needs shared labels, and what does not
LOCAL_LABELS_MESSAGE = (
    "{} needs labels that mean the same in every task, got labels that are local to "
    "their task (label_mode_='task'): a kept model cannot tell the classes of "
    "a new task. Use label_mode='shared' if they do mean the same, else {}."
)

__all__ = ["CLASSIFIER_CONSTRAINTS", "MetaClassifierMixin", "TaskClassifierMixin"]

# what all meta-classifiers take
CLASSIFIER_CONSTRAINTS: dict = {
    "label_mode": [StrOptions({"auto", "shared", "task"})],
    "n_ways": [Interval(Integral, 2, None, closed="left")],
    "pooled_estimator": [
        HasMethods(["fit", "predict_proba"]),
        StrOptions({"auto"}),
        None,
    ],
}


class TaskClassifierMixin(ClassifierMixin):
    """Class labels of any type and their probabilities, for any way to adapt.

    A subclass predicts in ``_class_proba(X, codes)``, in the columns of ``classes_``.
    """

    _numeric_target = False

    def predict(self, X: Any, tasks: Any = None) -> np.ndarray:
        """Predict the most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the adapted task, or of several with ``tasks``.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each row, after ``adapt_tasks``.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels, of the type they had in the support.

        Raises
        ------
        NotAdaptedError
            If the model was fitted on tasks and is not adapted to one.
        ValueError
            If a task id is not among those adapted to.
        """
        proba = self.predict_proba(X, tasks)
        return self.classes_[proba.argmax(1)]

    def predict_proba(self, X: Any, tasks: Any = None) -> np.ndarray:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the adapted task, or of several with ``tasks``.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each row, after ``adapt_tasks``.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; rows sum to 1. A class that is not one of the
            row's task has probability 0.

        Raises
        ------
        NotAdaptedError
            If the model was fitted on tasks and is not adapted to one.
        ValueError
            If a task id is not among those adapted to.
        """
        return self._class_proba(*self._check_query(X, tasks))

    def predict_log_proba(self, X: Any, tasks: Any = None) -> np.ndarray:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the adapted task, or of several with ``tasks``.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each row, after ``adapt_tasks``.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            In nats, in the order of ``classes_``; minus infinity for a class that is
            not one of the row's task.

        Raises
        ------
        NotAdaptedError
            If the model was fitted on tasks and is not adapted to one.
        ValueError
            If a task id is not among those adapted to.
        """
        return log_probabilities(self.predict_proba(X, tasks))

    def score(
        self, X: Any, y: Any = None, sample_weight: Any = None, tasks: Any = None
    ) -> float:
        """Return the accuracy on rows of the adapted task, or its mean over tasks.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or TaskCollection
            Query rows of the task; or whole tasks, each of which is split into
            support and query, adapted to and scored.
        y : array-like of shape (n_samples,), default=None
            Labels of rows.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; only without tasks.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each row.

        Returns
        -------
        score : float
            Accuracy in [0, 1]. Over tasks: the mean, with the middle of ``n_shots`` as
            the number of support rows, per class if labels are local to the task; see
            :func:`sklearn_meta.metrics.few_shot_score`.
        """
        if tasks is not None or is_task_sequence(X):
            stratify = getattr(self, "label_mode_", None) == "task"
            return self._score_on_tasks(X, y, tasks, stratify=stratify)
        return super().score(X, y, sample_weight)

    def _support_range(self) -> tuple[int, int]:
        """Return the fewest and the most support rows, shots being per class."""
        low, high = self._shot_range()
        n_classes = len(self.classes_)
        fewest = low * n_classes if isinstance(self.n_shots, Integral) else low
        return fewest, high * n_classes

    def _log_likelihood(
        self, X: np.ndarray, y: np.ndarray, codes: np.ndarray
    ) -> np.ndarray:
        """Return the logarithm of the probability of each row's class, (n_rows,)."""
        proba = self._class_proba(X, codes)
        place = np.searchsorted(self.classes_, y)
        return np.log(proba[np.arange(len(y)), place].clip(SMALLEST_PROBABILITY))

    def _warn_of_few_tasks(self, rows: TaskRows) -> None:
        """Warn that new tasks will be told less well than their probabilities say."""
        warn_of_few_tasks(rows, "probabilities that are too sure")

    def _learn_shared_labels(self, rows: TaskRows, classes: Any = None) -> None:
        """Learn the labels of an estimator that needs them to be shared."""
        self.label_mode_ = "shared"
        self._learn_classes(rows, classes)
        self._check_label_mode("shared", rows)

    def _check_label_mode(self, label_mode: str, rows: TaskRows) -> None:
        """Raise if labels are not shared, in word or in deed."""
        if label_mode == "task":
            raise ValueError(
                LOCAL_LABELS_MESSAGE.format(type(self).__name__, "ProtoNetClassifier")
            )
        cells = LocalClasses.of(rows.y, rows.codes)
        if len(rows.sizes) > 1 and len(cells.cell_label) == len(cells.labels):
            raise ValueError(
                "Expected labels that mean the same in every task, got tasks of which "
                "no two have a label in common: a kept model cannot tell the classes "
                "of a new task. Use ProtoNetClassifier for labels of a task's own."
            )

    def _learn_classes(self, rows: TaskRows, classes: Any) -> None:
        """Set the sorted labels, those given or else those of the rows."""
        self.classes_ = np.unique(rows.y if classes is None else classes)
        if len(self.classes_) < 2:
            raise ValueError(
                f"Expected at least 2 classes, got one class: {self.classes_.tolist()}."
            )

    def _positions(self, rows: TaskRows) -> np.ndarray:
        """Return the position of each row's label; raise for labels not seen."""
        remedy = "A kept model knows no other labels: fit on tasks that have them."
        return check_known_labels(rows.y, self.classes_, rows.place_of, remedy)

    def _check_targets(self, rows: TaskRows) -> None:
        """Raise if the target is continuous."""
        # Integers and texts are labels. scikit-learn would take its time over them, and
        # warn of support sets with a class for every other row.
        if plain_labels(rows.y):
            return
        with np.errstate(invalid="ignore"):  # of labels too large for an int
            check_classification_targets(rows.y)


class MetaClassifierMixin(TaskClassifierMixin):
    """Labels shared by all tasks or local to each, for learners of logits."""

    # whether small supports of shared labels are drawn as often as large ones
    _log_uniform_shots = False

    def _class_proba(self, X: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the learner's probabilities, (n_rows, n_classes)."""
        (logits,) = self._query(X, codes)
        proba = _softmax(logits)
        if self.label_mode_ == "shared":
            return proba
        # column j of a task is its j-th class: move it to that class's column
        by_label = np.zeros((len(proba), len(self.classes_) + 1))
        np.put_along_axis(by_label, self.task_columns_[codes], proba, axis=1)
        return by_label[:, :-1]

    def _learn_labels(self, rows: TaskRows, classes: Any) -> None:
        """Decide what labels mean, and learn the shared ones."""
        self.label_mode_ = self._choose_label_mode(rows)
        if self.label_mode == "auto" and self.label_mode_ == "task":
            warn_of_overlapping_labels(rows)
        self._learn_classes(rows, classes)

    def _warn_of_few_tasks(self, rows: TaskRows) -> None:
        """Warn where labels are shared; of local ones it is classes that must be many.

        Those are counted where it matters, as in a whitening.
        """
        if are_few_tasks(rows) and self._choose_label_mode(rows) == "shared":
            super()._warn_of_few_tasks(rows)

    def _choose_label_mode(self, rows: TaskRows) -> str:
        """Return "shared" or "task"; "auto" looks at the label sets of the tasks."""
        if self.label_mode != "auto":
            return self.label_mode
        if len(rows.sizes) == 1:
            return "task"
        return "shared" if shared_labels(rows.y, rows.codes) else "task"

    def _learn_targets(self, rows: TaskRows) -> None:
        """Say how labels were taken."""
        if self.verbose and self.label_mode == "auto":
            mode = self.label_mode_
            print(f"label_mode='auto': the labels of the tasks are taken as {mode!r}.")

    def _fit_pooled(
        self, rows: TaskRows, classes: Any, random_state: Any
    ) -> tuple[PooledModel, np.ndarray]:
        """Fit the pooled model of labels that mean the same in every task."""
        self._learn_labels(rows, classes)
        self._check_label_mode(self.label_mode_, rows)
        return fit_pooled(self.pooled_estimator, rows, self.classes_, random_state)

    def _check_label_mode(self, label_mode: str, rows: TaskRows) -> None:
        """Raise if labels are local and there is to be a pooled model."""
        if label_mode == "task" and self.pooled_estimator is not None:
            raise ValueError(
                LOCAL_LABELS_MESSAGE.format("pooled_estimator", "pooled_estimator=None")
            )

    def _n_offsets(self) -> int:
        return 0 if self.pooled_ is None else self.pooled_.n_columns

    def _n_outputs(self) -> int:
        return len(self.classes_)

    def _hold_out_units(self, rows: TaskRows) -> tuple[int, np.ndarray]:
        """Hold out classes where one table is learned from class by class."""
        if rows.names is not None or self.label_mode_ == "shared":
            return super()._hold_out_units(rows)
        classes, code = np.unique(rows.y, return_inverse=True)
        # two classes must be left on both sides
        return (len(classes) if len(classes) >= 4 else 0), code

    def _sampler(
        self, rows: TaskRows, device: torch.device
    ) -> RowEpisodeSampler | ClassEpisodeSampler:
        """Draw episodes over rows if labels are shared, else over classes."""
        if self.label_mode_ == "task":
            return self._class_sampler(rows, device)
        return self._row_sampler(rows, device)

    def _row_sampler(self, rows: TaskRows, device: torch.device) -> RowEpisodeSampler:
        """Draw episodes over the rows of each task."""
        position = check_known_labels(rows.y, self.classes_, rows.place_of)
        n_classes = len(self.classes_)
        return RowEpisodeSampler(
            self._scaled_tensor(rows.X, device),
            self._tensor(one_hot(position, n_classes), device),
            rows.sizes,
            self._support_range(),
            self.n_queries * n_classes,
            self._log_uniform_shots,
            self.order,
        )

    def _class_sampler(
        self, rows: TaskRows, device: torch.device
    ) -> ClassEpisodeSampler:
        """Draw N-way episodes over the classes of each task."""
        rows, classes = usable_classes(rows)
        return ClassEpisodeSampler(
            self._scaled_tensor(rows.X, device),
            classes.cell_size,
            classes.per_task,
            self.n_ways,
            self._shot_range(),
            self.n_queries,
            order=self.order,
        )

    def _encode_support(self, rows: TaskRows) -> tuple[np.ndarray, dict]:
        """Return one-hot labels, and the classes of the tasks as attributes."""
        if self.label_mode_ == "shared":
            position = check_known_labels(rows.y, self.classes_, rows.place_of)
            return one_hot(position, len(self.classes_)), {}
        classes = LocalClasses.of(rows.y, rows.codes)
        single = np.flatnonzero(classes.per_task < 2)
        if len(single):
            raise ValueError(
                f"The support of {rows.name_of(single[0])} has only the class "
                f"{classes.of_task(single[0]).tolist()[0]!r}: at least 2 classes are "
                "needed to tell them apart. Add rows of another class; if labels mean "
                "the same in every task, fit with label_mode='shared'."
            )
        attributes = {
            "classes_": classes.labels,
            "task_columns_": _columns_of_tasks(classes),
        }
        return one_hot(classes.row_position, classes.per_task.max()), attributes

    @property
    def task_classes_(self) -> dict:
        """The classes of each adapted task, by its id (None for a task without id)."""
        names = self.task_names_ or [None]
        if self.label_mode_ == "shared":
            return dict.fromkeys(names, self.classes_)
        padding = len(self.classes_)
        return {
            name: self.classes_[columns[columns < padding]]
            for name, columns in zip(names, self.task_columns_, strict=True)
        }

    def _criterion(self) -> Any:
        return categorical_nll


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits (n_rows, n_classes)."""
    # class by class: sums over the few classes of a row would take many times as long
    by_class = np.array(logits.T, order="C")
    by_class -= by_class.max(0)
    np.exp(by_class, out=by_class)
    by_class /= by_class.sum(0)
    return by_class.T


def _columns_of_tasks(classes: LocalClasses) -> np.ndarray:
    """Return the label of each task's j-th class, shape (n_tasks, most classes).

    Tasks with fewer classes are filled up with the number of labels.
    """
    per_task = classes.per_task
    columns = np.full((len(per_task), per_task.max()), len(classes.labels))
    columns[classes.cell_task, classes.cell_position] = classes.cell_label
    return columns
