"""An embedding in closed form: directions weighed by what they tell about classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh

from sklearn_meta.targets import LocalClasses

__all__ = ["ClassWhitening", "CrossFitted", "cross_fit", "cross_fit_folds"]


class View(NamedTuple):
    """Where rows are whitened: in their own units or not, and how hard it is pulled."""

    in_units: bool
    shrinkage: float


# the more a covariance is pulled to the identity, the more the units matter
VIEWS = {
    "white": View(False, 0.1),
    "soft": View(False, 0.6),
    "white plain": View(True, 0.1),
    "soft plain": View(True, 0.6),
}
# few classes say little about how classes spread: as many say that all is equal
BETWEEN_PSEUDO_CLASSES = 8
N_FOLDS = 4
FORMS = ("plain", "scaled", "white/between")
MAX_HELD_OUT = 5


class ClassWhitening(NamedTuple):
    """Rows in their own units, standardised, and whitened in several views.

    In each view the covariance within classes is made the identity, with axes along
    which classes lie apart, as in a two-covariance model (probabilistic linear
    discriminant analysis [1]_).

    Parameters
    ----------
    center : ndarray of shape (n_features,)
        Mean of the class means.
    axes : ndarray of shape (n_views, n_features, n_features)
        Maps centred rows to the space in which classes are white, for each of
        ``VIEWS``.
    spread : ndarray of shape (n_views, n_features)
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
        units = np.ones(X.shape[1]) if units is None else units
        units = units / np.sqrt(np.mean(units**2))
        means = _means(X, classes.row_cell, len(cells))
        task_means = _means(means[cells], classes.cell_task[cells])
        inside = (X - means[classes.row_cell])[cells[classes.row_cell]]
        apart = means[cells] - task_means[classes.cell_task[cells]]
        n_tasks = len(np.unique(classes.cell_task[cells]))
        degrees = len(inside) - cells.sum(), cells.sum() - n_tasks
        axes, spread = zip(
            *(
                _whiten(inside, apart, degrees, view.shrinkage, units**view.in_units)
                for view in VIEWS.values()
            ),
            strict=True,
        )
        return cls(means[cells].mean(0), np.stack(axes), np.stack(spread), units)

    def transform(self, X: np.ndarray, forms: Sequence[str] = FORMS) -> np.ndarray:
        """Return some forms of the rows side by side.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
            Scaled rows.
        forms : sequence of str
            "plain" in their own units, "scaled" as they come, and for each view of
            ``VIEWS``: "<view>" with a multiple of the identity as covariance within
            classes, so that the mean square over all classes is 1;
            "<view>/between" with each axis then scaled by the share of its variance
            that lies between classes; and "<view>/spread", which is no form of the row
            but the logarithm of the variance of class means along each axis of
            "<view>", the same in all rows.

        Returns
        -------
        blocks : ndarray of shape (n_rows, n_forms * n_features)
            Centred.
        """
        return np.hstack([self._form(X - self.center, *f.split("/")) for f in forms])

    def _form(self, centred: np.ndarray, name: str, part: str = "") -> np.ndarray:
        """Return one form of centred rows, of their shape."""
        if name in ("plain", "scaled"):
            return centred * self.units if name == "plain" else centred
        view = list(VIEWS).index(name)
        axes, spread = self.axes[view], self.spread[view]
        if part == "spread":
            level = np.log(spread / (1 + spread.mean()))
            return np.broadcast_to(level, centred.shape)
        if part == "between":
            return centred @ (axes * np.sqrt(spread / (1 + spread) / spread.mean()))
        return centred @ axes / np.sqrt(1 + spread.mean())


def _whiten(
    inside: np.ndarray,
    apart: np.ndarray,
    degrees: tuple[int, int],
    shrinkage: float,
    units: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the axes along which classes are white, and how far they spread there.

    Axes are the columns of (n_features, n_features), the spread is (n_features,). They
    follow from deviations inside classes (n_rows, n_features) and of their means.
    """
    n_rows, n_classes = degrees
    variances, axes = eigh(_covariance(inside * units, n_rows, shrinkage))
    whiten = units[:, None] * axes / np.sqrt(variances)
    pull = BETWEEN_PSEUDO_CLASSES / (BETWEEN_PSEUDO_CLASSES + n_classes)
    spread, axes = eigh(_covariance(apart @ whiten, n_classes, pull))
    return whiten @ axes, spread


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
    """Embed the tasks with cells ``held_out`` (n_cells,); see `cross_fit`."""
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
    """Return the mean row of each group, (n_groups, n_features), zero without rows."""
    n_groups = codes.max() + 1 if n_groups is None else n_groups
    sums = np.zeros((n_groups, X.shape[1]))
    np.add.at(sums, codes, X)
    counts = np.bincount(codes, minlength=n_groups)
    return sums / np.maximum(counts, 1)[:, None]


def _covariance(deviations: np.ndarray, freedom: int, shrinkage: float) -> np.ndarray:
    """Return a covariance (d, d) of deviations (n, d), shrunk to be non-singular."""
    size = deviations.shape[1]
    covariance = deviations.T @ deviations / max(freedom, 1)
    scale = np.trace(covariance) / size
    if scale <= 0:  # rows that do not differ say nothing of directions
        return np.eye(size)
    return (1 - shrinkage) * covariance + shrinkage * scale * np.eye(size)
