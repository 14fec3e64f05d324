"""An embedding in closed form: directions weighed by what they tell about classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

from sklearn_meta.targets import LocalClasses

__all__ = ["ClassWhitening", "CrossFitted", "cross_fit", "cross_fit_folds"]

WITHIN_SHRINKAGE = 0.1
# few classes say little about how classes spread: pull harder
BETWEEN_SHRINKAGE = 0.3
N_FOLDS = 4
FORMS = ("plain", "scaled", "between")
MAX_HELD_OUT = 5


class ClassWhitening(NamedTuple):
    """Rows in their own units, standardised, and whitened.

    The covariance within classes is made the identity, with axes along which classes
    lie apart. In the form "between", each direction is then scaled by the share of its
    variance that lies between classes, as in a two-covariance model (probabilistic
    linear discriminant analysis [1]_).

    Parameters
    ----------
    center : ndarray of shape (n_features,)
        Mean of the class means.
    axes : ndarray of shape (n_features, n_features)
        Maps centred rows to the space in which classes are white.
    spread : ndarray of shape (n_features,)
        Variance of the class means along each axis there.
    units : ndarray of shape (n_features,)
        Undoes the scaling of each feature, up to a common factor: where all features
        have one unit, as pixels do, their spread tells what matters.

    References
    ----------
    .. [1] S. Ioffe, "Probabilistic linear discriminant analysis", ECCV 2006.
    """

    center: np.ndarray
    axes: np.ndarray
    spread: np.ndarray
    units: np.ndarray

    @classmethod
    def of(
        cls,
        X: np.ndarray,
        classes: LocalClasses,
        cells: np.ndarray,
        units: np.ndarray | None = None,
    ) -> "ClassWhitening":
        """Learn the embedding from the rows of some cells (classes of tasks).

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
            Scaled rows.
        classes : LocalClasses
            The cell of each row.
        cells : ndarray of shape (n_cells,), bool
            The cells to learn from.
        units : ndarray of shape (n_features,), default=None
            By what each feature was divided; None if all have one unit.
        """
        means = _means(X, classes.row_cell, len(cells))
        task_means = _means(means[cells], classes.cell_task[cells])
        inside = (X - means[classes.row_cell])[cells[classes.row_cell]]
        n_tasks = len(np.unique(classes.cell_task[cells]))
        within = _covariance(inside, len(inside) - cells.sum(), WITHIN_SHRINKAGE)
        variances, axes = eigh(within)
        whiten = axes / np.sqrt(variances)
        apart = (means[cells] - task_means[classes.cell_task[cells]]) @ whiten
        between = _covariance(apart, cells.sum() - n_tasks, BETWEEN_SHRINKAGE)
        spread, axes = eigh(between)
        units = np.ones(X.shape[1]) if units is None else units
        units = units / np.sqrt(np.mean(units**2))
        return cls(means[cells].mean(0), whiten @ axes, spread, units)

    @property
    def components(self) -> np.ndarray:
        """Maps centred rows to the form "between", of a mean square of about 1."""
        return self.axes * np.sqrt(self.spread / (1 + self.spread) / self.spread.mean())

    def transform(self, X: np.ndarray, forms: Sequence[str] = FORMS) -> np.ndarray:
        """Return some forms of the rows side by side.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
            Scaled rows.
        forms : sequence of {"plain", "scaled", "white", "between", "spread"}
            "plain" in their own units, "scaled" as they come, "white" with the identity
            as covariance within classes up to a factor, so that the mean square over
            all classes is 1, and "between". "spread" is no form of the row but the
            logarithm of the variance of class means along each axis of "white".

        Returns
        -------
        blocks : ndarray of shape (n_rows, n_forms * n_features)
            Centred.
        """
        centred = X - self.center
        blocks = {
            "plain": lambda: centred * self.units,
            "scaled": lambda: centred,
            "white": lambda: centred @ self.axes / np.sqrt(1 + self.spread.mean()),
            "between": lambda: centred @ self.components,
            "spread": lambda: np.broadcast_to(self._log_spread(), X.shape),
        }
        return np.hstack([blocks[form]() for form in forms])

    def _log_spread(self) -> np.ndarray:
        """Logarithm of the variance of class means along each axis of "white"."""
        return np.log(self.spread / (1 + self.spread.mean()))


class CrossFitted(NamedTuple):
    """Rows embedded by statistics of other classes, fold after fold."""

    X: np.ndarray  # (n_embedded, n_forms * n_features), the rows of a cell adjacent
    cell_sizes: np.ndarray  # (n_embedded_cells,)
    per_task: np.ndarray  # (n_embedded_tasks,), cells of each task
    is_scored: np.ndarray  # (n_embedded_cells,), True where the cell was held out


def cross_fit(
    X: np.ndarray,
    classes: LocalClasses,
    folds: np.ndarray,
    units: np.ndarray | None = None,
    forms: Sequence[str] = FORMS,
) -> CrossFitted:
    """Embed the held-out classes of each fold by the statistics of the others.

    The seen classes of the same tasks come along, so that episodes have enough ways.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        Scaled rows, those of a cell adjacent.
    classes : LocalClasses
        Their cells.
    folds : ndarray of shape (n_folds, n_cells), bool
        The cells each fold holds out; a fold that holds none out counts them all.
    units : ndarray of shape (n_features,), default=None
        By what each feature was divided.
    forms : sequence of str, default=("plain", "scaled", "between")
        As of `ClassWhitening.transform`.

    Returns
    -------
    fitted : CrossFitted
        A task for each task of each fold.
    """
    parts = [_embed_fold(X, classes, held, units, forms) for held in folds]
    return CrossFitted(*map(np.concatenate, zip(*parts, strict=True)))


def _embed_fold(
    X: np.ndarray,
    classes: LocalClasses,
    held_out: np.ndarray,
    units: np.ndarray | None,
    forms: Sequence[str],
) -> CrossFitted:
    """Embed the tasks that have held-out cells."""
    scored = held_out if held_out.any() else np.ones_like(held_out)
    tasks = np.unique(classes.cell_task[scored])
    cells = np.isin(classes.cell_task, tasks)
    whitening = ClassWhitening.of(X, classes, ~held_out, units)
    return CrossFitted(
        whitening.transform(X[cells[classes.row_cell]], forms),
        classes.cell_size[cells],
        classes.per_task[tasks],
        scored[cells],
    )


def cross_fit_folds(classes: LocalClasses, rng: np.random.RandomState) -> np.ndarray:
    """Choose the cells that each fold holds out of its statistics.

    Classes that the statistics have seen look better separated than new ones will be;
    what is learned on held-out classes carries over to new ones.

    Parameters
    ----------
    classes : LocalClasses
        The cells.
    rng : RandomState
        Draws the folds.

    Returns
    -------
    held_out : ndarray of shape (n_folds, n_cells), bool
        Whole tasks where there are enough of them, else classes.
    """
    n_tasks, n_cells = len(classes.per_task), len(classes.cell_task)
    if n_tasks >= N_FOLDS:
        fold_of_task = rng.permutation(n_tasks) % N_FOLDS
        return fold_of_task[classes.cell_task] == np.arange(N_FOLDS)[:, None]
    n_held = max(2, min(MAX_HELD_OUT, round(n_cells / 3)))
    order = rng.permutation(n_cells)
    held_out = np.zeros((N_FOLDS, n_cells), bool)
    for fold in range(N_FOLDS):
        begin = fold * n_cells // N_FOLDS
        held_out[fold, order[(begin + np.arange(n_held)) % n_cells]] = True
    return held_out


def _means(X: np.ndarray, codes: np.ndarray, n_groups: int | None = None) -> np.ndarray:
    """Return the mean row of each group, zero for a group without rows."""
    n_groups = codes.max() + 1 if n_groups is None else n_groups
    sums = np.zeros((n_groups, X.shape[1]))
    np.add.at(sums, codes, X)
    counts = np.bincount(codes, minlength=n_groups)
    return sums / np.maximum(counts, 1)[:, None]


def _covariance(deviations: np.ndarray, freedom: int, shrinkage: float) -> np.ndarray:
    """Return a covariance shrunk to a multiple of the identity; never singular."""
    size = deviations.shape[1]
    covariance = deviations.T @ deviations / max(freedom, 1)
    scale = np.trace(covariance) / size
    if scale <= 0:  # rows that do not differ say nothing of directions
        return np.eye(size)
    return (1 - shrinkage) * covariance + shrinkage * scale * np.eye(size)
