"""Learning from few classes: statistics in closed form, cross-fitted over classes."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.utils import check_random_state

from sklearn_meta.base import SupportLimit
from sklearn_meta.episodes import ClassEpisodeSampler
from sklearn_meta.estimators.classifier import MetaClassifierMixin
from sklearn_meta.estimators.usable_classes import usable_classes
from sklearn_meta.exceptions import FewTasksWarning, warn_user
from sklearn_meta.targets import LocalClasses
from sklearn_meta.tasks import TaskRows
from sklearn_meta.whitening import FORMS, ClassWhitening, cross_fit, cross_fit_folds

__all__ = ["WhitenedClassesMixin"]

# below, none can be held out with two left on both sides
MIN_CLASSES_TO_CROSS_FIT = 4
# rows of a support whose kernel matrix is factored
MAX_HEAD_ROWS = 2000


class WhitenedClassesMixin(MetaClassifierMixin):
    """Whitened rows, and episodes of classes that the whitening has not seen.

    A subclass says in ``_whitens`` whether it wants them, once ``label_mode_`` is
    known; if not, it is a plain meta-classifier.
    """

    @property
    def _forms(self) -> Sequence[str]:
        """The forms of a row that the learner reads, side by side."""
        return FORMS

    @abstractmethod
    def _whitens(self) -> bool:
        """Return whether rows are whitened."""

    def _learn_targets(self, rows: TaskRows) -> None:
        """Learn in closed form how classes differ."""
        super()._learn_targets(rows)
        if self._whitens():
            cells = LocalClasses.of(rows.y, rows.codes)
            X, everything = super()._scale(rows.X), np.ones(len(cells.cell_task), bool)
            self.whitening_ = ClassWhitening.of(X, cells, everything, self._units())

    def _scale(self, X: np.ndarray) -> np.ndarray:
        """Scale features of rows (n_rows, n_features), and whiten them."""
        return self._in_forms(X, self._forms) if self._whitens() else super()._scale(X)

    def _in_forms(self, X: np.ndarray, forms: Sequence[str]) -> np.ndarray:
        """Return forms of rows (n_rows, n_features), side by side."""
        return self.whitening_.transform(super()._scale(X), forms)

    def _class_sampler(
        self, rows: TaskRows, device: torch.device
    ) -> ClassEpisodeSampler:
        """Draw episodes of held-out classes, whitened by the statistics of the rest."""
        if not self._whitens():
            return super()._class_sampler(rows, device)
        rows, classes = usable_classes(rows)
        X, folds = super()._scale(rows.X), self._folds(classes)
        fitted = cross_fit(X, classes, folds, self._units(), self._forms)
        return ClassEpisodeSampler(
            self._tensor(fitted.X, device),
            fitted.cell_sizes,
            fitted.per_task,
            self.n_ways,
            self._shot_range(),
            self.n_queries,
            fitted.is_scored,
            self.order,
        )

    def _support_limits(self) -> list[SupportLimit]:
        """Return how many rows the head can bear."""
        most = self._max_head_rows()
        if most is None:
            return []
        advice = (
            "For large supports use a network, as in "
            "ProtoNetClassifier(embedding='network')."
        )
        return [SupportLimit(most, type(self).__name__, advice)]

    def _max_head_rows(self) -> int | None:
        """Return how many support rows the head can bear; None for all."""
        return MAX_HEAD_ROWS if self._whitens() else None

    def _units(self) -> np.ndarray | None:
        """Return by what the features were divided."""
        return None if self.scaler_ is None else self.scaler_.scale_

    def _folds(self, classes: LocalClasses) -> np.ndarray:
        """Return the classes each fold holds out, (n_folds, n_cells); maybe none."""
        n_cells = len(classes.cell_task)
        if n_cells >= MIN_CLASSES_TO_CROSS_FIT:
            return cross_fit_folds(classes, check_random_state(self.random_state))
        warn_user(
            f"{n_cells} classes are too few to hold some out: how well new classes are "
            "told apart is judged on the classes seen. Expect too sure probabilities "
            f"on new classes, or bring at least {MIN_CLASSES_TO_CROSS_FIT} to learn "
            "from, better 10 and more.",
            FewTasksWarning,
        )
        return np.zeros((1, n_cells), bool)
