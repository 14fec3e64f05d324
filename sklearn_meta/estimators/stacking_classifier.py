"""A mixture of meta-classifiers."""

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_meta.estimators.classifier import MetaClassifierMixin
from sklearn_meta.estimators.mixture_members import naming_member
from sklearn_meta.estimators.presets import default_classifiers
from sklearn_meta.estimators.stacking import BaseMetaStacking
from sklearn_meta.estimators.usable_classes import usable_classes
from sklearn_meta.held_out import Fold, class_folds, row_folds, shot_grid, task_folds
from sklearn_meta.mixing import pool_weights_on_grid
from sklearn_meta.targets import LocalClasses
from sklearn_meta.tasks import TaskRows

__all__ = ["MetaStackingClassifier"]


class MetaStackingClassifier(MetaClassifierMixin, BaseMetaStacking):
    r"""Mixture of meta-classifiers, weighed by what they say of tasks held out.

    The estimator to start with: which way of learning across tasks fits a collection,
    and with how many rows, is found by trying several on tasks (on classes, where these
    are local to their task) that they have not seen [1]_ [2]_.

    Parameters
    ----------
    estimators : list of (str, estimator), default=None
        Names and meta-classifiers of this package. None takes those of ``preset``;
        "drop" in the place of an estimator leaves it out.
    preset : {"fast", "default", "thorough"}, default="default"
        The members where ``estimators`` is None: see Notes.
    label_mode : {"auto", "shared", "task"}, default="auto"
        "shared": a label means the same in every task. "task": labels are local to
        their task, so that new tasks may bring new classes. "auto": one table (or a
        single task) is learned from class by class ("task"); the labels of several
        tasks are shared if some task has all of them. ``label_mode_`` tells. Members
        get what was found.
    n_folds : int, default=4
        Folds of tasks, at least 2, where labels are shared; at most as many as there
        are tasks, to which the default is lowered. There are 4 folds of classes where
        they are local.
    n_ways : int, default=5
        Most classes of an episode in which members are weighed, at least 2, where
        labels are local to the task.
    n_shots : int or (int, int), default=(1, 10)
        Support rows in an episode, per class. With shared labels rows are drawn without
        regard to class: up to that many per class on average, and for a range as few
        rows as its lower end. Members are weighed at up to four numbers in the range.
    order : {"random", "first"}, default="random"
        Which rows of a task are the support of its episodes: any, or the first ones, in
        the order in which ``fit`` gets them. "first" is for tables that grow in time.
        Members of a preset learn in this order, and all members are weighed in it;
        those in ``estimators`` have an ``order`` of their own.
    n_queries : int, default=16
        Most query rows of an episode in which members are weighed, at least 1; per
        class if labels are local.
    checkpoint : str, path-like or Checkpoint, default=None
        A directory in which members that train keep what they have learned: a fit that
        was killed and is started again trains only what is left, and ends with the same
        weights as one that was not stopped. Members use it in place of their own.
    n_jobs : int, default=None
        Processes for fitting; None is one, -1 all.
    random_state : int, RandomState instance or None, default=None
        Draws folds and episodes, and seeds each ``random_state`` of a member that is
        None.
    verbose : int, default=0
        1 shows which member is fitted on which fold and the time left, 2 also the outer
        steps of each.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels: those of ``fit`` if they are shared, else those of the support.
    label_mode_ : {"shared", "task"}
        What labels mean.
    task_classes_ : dict
        After ``adapt``: the classes of each task, by its id.
    names_ : list of str
        The members that were not dropped.
    estimators_ : list of list of estimator
        Their models: one per fold of tasks; one, fitted on all, for local labels.
    shots_ : ndarray of shape (n_grid,)
        The numbers of shots at which members were weighed: rows of a task if labels are
        shared, rows of a class if they are local.
    weights_ : ndarray of shape (n_grid, n_members)
        The weights there; rows sum to 1.
    held_out_scores_ : ndarray of shape (n_grid, n_members) or None
        Mean log-likelihood of held-out rows, in nats per row; None where nothing could
        be held out.
    n_tasks_ : int
        Tasks seen by ``fit``; 1 for one table.
    n_features_in_ : int
        Number of features seen by ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if they are all strings.

    Raises
    ------
    TypeError
        In ``fit``, if a member is no meta-classifier of this package.
    ValueError
        In ``fit``, if a parameter, also of a member, or the data is not what was
        expected, or if labels are local and a member needs shared ones.

    See Also
    --------
    MetaStackingRegressor : The same for a numeric target.

    Notes
    -----
    The prediction is the linear pool :math:`\sum_m w_m p_m(c \mid x)`. Its weights
    maximise

    .. math::

        \frac{1}{n} \sum_i \log \sum_m w_m p_m(y_i \mid x_i)
        + \frac{0.01}{M} \sum_m \log w_m

    over held-out rows, which pulls them a little towards each other, at each number of
    shots; rows at the neighbouring numbers count too, with 0.3 of their weight.

    Shared labels: members are fitted on folds of tasks, and the models of all folds are
    averaged. Local labels: classes are held out to weigh the members, which are then
    fitted on all classes, as each class tells more about how classes differ. With fewer
    than 4 classes rows are held out, or nothing, with a FewTasksWarning.

    .. list-table:: Members of the presets
       :header-rows: 1

       * - preset
         - shared labels
         - local labels
       * - "fast"
         - PooledClassifier with a shift, and with the level as a feature;
           DeepKernelClassifier
         - ProtoNetClassifier
       * - "default"
         - also DeepKernelClassifier with the correction of a transformer
         - also DeepKernelClassifier
       * - "thorough"
         - also the transformer of ModelBasedMetaClassifier
         - also MAMLClassifier

    References
    ----------
    .. [1] D. H. Wolpert, "Stacked generalization", Neural Networks, 1992.
    .. [2] R. Ranjan, T. Gneiting, "Combining probability forecasts", Journal of the
       Royal Statistical Society B, 2010.

    Examples
    --------
    >>> from sklearn_meta import MetaStackingClassifier, PooledClassifier
    >>> from sklearn_meta import ProtoNetClassifier
    >>> from sklearn_meta.datasets import make_blob_tasks
    >>> tasks = make_blob_tasks(12, 30, n_classes=2, random_state=0)
    >>> members = [
    ...     ("pooled", PooledClassifier(correction="shift")),
    ...     ("prototypes", ProtoNetClassifier(max_iter=20)),
    ... ]
    >>> model = MetaStackingClassifier(members, random_state=0).fit(tasks[:11])
    >>> X, y = tasks[11]
    >>> model.adapt(X[:10], y[:10]).predict(X[10:]).shape
    (20,)
    """

    _parameter_constraints: dict = {
        **BaseMetaStacking._parameter_constraints,
        "label_mode": [StrOptions({"auto", "shared", "task"})],
        "n_ways": [Interval(Integral, 2, None, closed="left")],
    }

    def __init__(
        self,
        estimators=None,
        *,
        preset="default",
        label_mode="auto",
        n_folds=4,
        n_ways=5,
        n_shots=(1, 10),
        order="random",
        n_queries=16,
        checkpoint=None,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.estimators = estimators
        self.preset = preset
        self.label_mode = label_mode
        self.n_folds = n_folds
        self.n_ways = n_ways
        self.n_shots = n_shots
        self.order = order
        self.n_queries = n_queries
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _default_members(self) -> list[tuple[str, Any]]:
        return default_classifiers(
            self.preset, self.label_mode_, self._shot_range(), self.order
        )

    def _own(self, member: Any) -> Any:
        """Give the meaning of labels to members that can be told."""
        known = "label_mode" in member.get_params(deep=False)
        return member.set_params(label_mode=self.label_mode_) if known else member

    def _usable_rows(self, rows: TaskRows) -> TaskRows:
        """Learn what labels mean; classes of a single row teach nothing if local."""
        self._learn_labels(rows, None)
        return usable_classes(rows)[0] if self.label_mode_ == "task" else rows

    def _check_learnable(self, members: list[tuple[str, Any]], rows: TaskRows) -> None:
        """Raise if members, or folds, do not suit the rows and what labels mean."""
        for name, member in members:
            with naming_member(name):
                member._check_label_mode(self.label_mode_, rows)
        super()._check_learnable(members, rows)

    def _shared_classes(self) -> np.ndarray | None:
        return self.classes_ if self.label_mode_ == "shared" else None

    def _shot_grid(self) -> list[int]:
        """Return shots per class if labels are local, else rows of a task."""
        if self.label_mode_ == "task":
            return super()._shot_grid()
        return shot_grid(*self._support_range())

    def _folds(
        self, rows: TaskRows, grid: list[int], rng: np.random.RandomState
    ) -> list[Fold]:
        """Hold out tasks; if labels are local, classes; of a small table, rows."""
        if self.label_mode_ == "task":
            folds = class_folds(
                rows, grid, self.n_ways, self.n_queries, rng, self.order
            )
            if folds:
                return folds
        if len(rows.sizes) == 1:
            return row_folds(rows, self.n_folds, True, rng)
        return task_folds(rows, self.n_folds, grid, self.n_queries, rng, self.order)

    def _averages_folds(self, rows: TaskRows) -> bool:
        return self.label_mode_ == "shared" and len(rows.sizes) > 1

    def _weigh(self, said: list[np.ndarray], weight: list[np.ndarray]) -> np.ndarray:
        return pool_weights_on_grid([np.exp(rows) for rows in said], weight)

    def _shots_of_tasks(self, rows: TaskRows) -> np.ndarray:
        """Return the rows of each support; per class if labels are local."""
        if self.label_mode_ == "shared":
            return rows.sizes
        return rows.sizes / LocalClasses.of(rows.y, rows.codes).per_task

    def _adapt_to(self, rows: TaskRows) -> None:
        """Adapt the members; local labels become those of the support."""
        super()._adapt_to(rows)
        if self.label_mode_ == "task":
            adapted = self.adapted_.models[0]
            self.classes_, self.task_columns_ = adapted.classes_, adapted.task_columns_

    def _class_proba(self, X: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the mixture of the members' probabilities, (n_rows, n_classes)."""
        models, member, weights = self.adapted_
        views = self._views(X, member.tolist())
        pairs = zip(models, views, strict=True)
        said = np.stack([model._class_proba(own, codes) for model, own in pairs])
        return np.einsum("mrc,rm->rc", said, weights[codes])
