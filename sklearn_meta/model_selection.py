"""Splitters by task: all rows of a task on one side, or its support on the other."""

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.model_selection import (
    BaseCrossValidator,
    GroupKFold,
    GroupShuffleSplit,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import _num_samples, check_consistent_length

from sklearn_meta.tasks import (
    NO_TASKS_MESSAGE,
    group_rows,
    has_class_labels,
    is_task_sequence,
    separate_ids,
    support_query_indices,
)

__all__ = ["FewShotSplit", "TaskKFold", "TaskShuffleSplit"]


class _SplitByTask:
    """What a splitter of scikit-learn by groups needs to be one by tasks."""

    n_splits: int

    __metadata_request__split = {"tasks": True}

    def split(
        self, X: Any, y: Any = None, tasks: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Generate the row numbers of each split.

        Parameters
        ----------
        X : TaskCollection, sequence of Task or (X, y), or array-like of shape \
(n_samples, n_features)
            The tasks, or flat rows.
        y : array-like of shape (n_samples,), default=None
            Not used.
        tasks : array-like of shape (n_samples,), default=None
            Task id of each flat row; None with a sequence of tasks.
        groups : array-like of shape (n_samples,), default=None
            Another name for ``tasks``, the one that scikit-learn uses where metadata
            routing is off.

        Returns
        -------
        splits : iterator of (train, test)
            Row numbers of flat rows, or positions in a sequence of tasks.

        Raises
        ------
        ValueError
            If flat rows come without ids, if ``tasks`` and ``groups`` differ, or if
            there are fewer tasks than folds.
        """
        codes = _task_codes(X, tasks, groups, type(self).__name__)
        self._check_number(len(np.unique(codes)))
        by_group: Any = super()  # the splitter that this is mixed into
        return by_group.split(X, y, codes)

    def get_n_splits(
        self, X: Any = None, y: Any = None, tasks: Any = None, groups: Any = None
    ) -> int:
        """Return the number of splits.

        Parameters
        ----------
        X : array-like, default=None
            Not used.
        y : array-like, default=None
            Not used.
        tasks : array-like, default=None
            Not used.
        groups : array-like, default=None
            Not used.

        Returns
        -------
        n_splits : int
            As given to the constructor.
        """
        return self.n_splits

    def _check_number(self, n_tasks: int) -> None:
        """Raise if tasks are too few to be split; any number may do."""


class TaskKFold(_SplitByTask, GroupKFold):
    """Split into K folds by task, so that a task is never in two folds.

    It is scikit-learn's ``GroupKFold`` that asks for ``tasks``: under metadata
    routing one ``fit(X, y, tasks=ids)`` reaches the splitter, the estimator and the
    scorer. With a sequence of tasks each sample is a task and no id is needed.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2 and at most the number of tasks.
    shuffle : bool, default=False
        Whether tasks are shuffled first. Otherwise they are dealt out so that the
        folds have about the same number of rows.
    random_state : int, RandomState instance or None, default=None
        Orders the tasks where ``shuffle=True``.

    See Also
    --------
    TaskShuffleSplit : Draw the held-out tasks at random, any number of times.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.model_selection import TaskKFold
    >>> X, ids = np.zeros((6, 1)), np.array(["a", "b", "a", "c", "b", "c"])
    >>> for train, test in TaskKFold(n_splits=3).split(X, tasks=ids):
    ...     print(np.unique(ids[train]), np.unique(ids[test]))
    ['a' 'b'] ['c']
    ['a' 'c'] ['b']
    ['b' 'c'] ['a']
    """

    def _check_number(self, n_tasks: int) -> None:
        """Raise unless there is a task for each fold."""
        if n_tasks < self.n_splits:
            raise ValueError(
                f"{type(self).__name__}(n_splits={self.n_splits}) needs at least "
                f"{self.n_splits} tasks, got {n_tasks}. Lower n_splits."
            )


class TaskShuffleSplit(_SplitByTask, GroupShuffleSplit):
    """Hold out tasks drawn at random, several times.

    It is scikit-learn's ``GroupShuffleSplit`` that asks for ``tasks``; see
    :class:`TaskKFold`.

    Parameters
    ----------
    n_splits : int, default=10
        Number of draws.
    test_size : float or int, default=None
        Held-out tasks: a share in (0, 1) or a number. None: what ``train_size``
        leaves, or 0.2 if that is None too.
    train_size : float or int, default=None
        Tasks to train on, given likewise. None: what ``test_size`` leaves.
    random_state : int, RandomState instance or None, default=None
        Draws the tasks.

    See Also
    --------
    TaskKFold : Hold out each task exactly once.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.model_selection import TaskShuffleSplit
    >>> cv = TaskShuffleSplit(n_splits=2, test_size=1, random_state=0)
    >>> ids = np.array([7, 7, 8, 8, 9, 9])
    >>> [ids[test].tolist() for _, test in cv.split(np.zeros((6, 1)), tasks=ids)]
    [[9, 9], [9, 9]]
    """

    def __init__(
        self,
        n_splits: int = 10,
        *,
        test_size: Any = None,
        train_size: Any = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            n_splits,
            test_size=test_size,
            train_size=train_size,
            random_state=random_state,
        )


class FewShotSplit(BaseCrossValidator):
    """Hold tasks out, but leave a few rows of each to the training fold.

    It is the splitter for :class:`~sklearn_meta.task_column.TaskColumnClassifier` and
    ``TaskColumnRegressor``, which take the task of a row from a column of X: they adapt
    to the support rows of a held-out task in the training fold and are scored on its
    query rows, the test fold, by any scorer of scikit-learn.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2 and at most the number of tasks. Each task is held
        out once.
    task_column : str or int, default=-1
        The column of X with the task ids: a name, or a position from the left, or from
        the right if negative.
    n_shots : int, default=5
        Support rows of each held-out task in the training fold: per class if
        ``stratify``, else per task. At least 1.
    n_queries : int, default=None
        Rows of each held-out task in the test fold, counted likewise; None takes all
        the rest.
    stratify : bool, default=None
        Whether rows are drawn and counted per class. None: yes if ``y`` holds class
        labels; where these are shared by all tasks pass False, see the Notes of
        :func:`~sklearn_meta.metrics.few_shot_scorer`.
    order : {"random", "first"}, default="random"
        "first" takes the first rows of each held-out task as support, for tables that
        grow in time.
    random_state : int, RandomState instance or None, default=None
        Deals the tasks to folds and draws their rows.

    See Also
    --------
    TaskKFold : Holds whole tasks out, for scorers that adapt.
    sklearn_meta.metrics.few_shot_scorer : The reference for scores over tasks.

    Notes
    -----
    A scorer of scikit-learn pools the query rows of all held-out tasks. The level of a
    task then explains much of the variance between rows, which flatters every model
    that knows it. The mean of scores per task comes from ``few_shot_scorer``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.model_selection import FewShotSplit
    >>> ids, y = np.repeat([7, 8], 4), np.linspace(0.5, 4, 8)
    >>> X = np.column_stack([y, ids])
    >>> cv = FewShotSplit(n_splits=2, n_shots=1, random_state=0)
    >>> for train, test in cv.split(X, y):
    ...     print(np.bincount(ids[train])[7:], np.bincount(ids[test], minlength=9)[7:])
    [4 1] [0 3]
    [1 4] [3 0]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        task_column: Any = -1,
        n_shots: int = 5,
        n_queries: int | None = None,
        stratify: bool | None = None,
        order: str = "random",
        random_state: Any = None,
    ) -> None:
        self.n_splits = n_splits
        self.task_column = task_column
        self.n_shots = n_shots
        self.n_queries = n_queries
        self.stratify = stratify
        self.order = order
        self.random_state = random_state

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Generate the row numbers of each split.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features + 1)
            Features and the column of task ids.
        y : array-like of shape (n_samples,), default=None
            Targets; they must be given.
        groups : array-like of shape (n_samples,), default=None
            Not used.

        Returns
        -------
        splits : iterator of (train, test)
            Row numbers. Support rows of held-out tasks come first in ``train``.

        Raises
        ------
        ValueError
            If there is no such column, if there are fewer tasks than folds, or if a
            task has too few rows; the message names the task.
        """
        codes, names = self._check_tasks(X, y)
        y = np.asarray(y)
        stratify = has_class_labels(y) if self.stratify is None else self.stratify
        random_state = check_random_state(self.random_state)
        shuffled = random_state.permutation(len(names))
        for held_out in np.array_split(shuffled, self.n_splits):
            support, query = [], []
            for task in held_out:
                rows = np.flatnonzero(codes == task)
                known, scored = support_query_indices(
                    y[rows],
                    n_shots=self.n_shots,
                    n_queries=self.n_queries,
                    stratify=stratify,
                    order=self.order,
                    random_state=random_state,
                    name=names[task],
                )
                support.append(rows[known])
                query.append(rows[scored])
            # first, so that learning_curve, which cuts the end, keeps them
            train = [*support, np.flatnonzero(~np.isin(codes, held_out))]
            yield np.concatenate(train), np.sort(np.concatenate(query))

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X : array-like, default=None
            Not used.
        y : array-like, default=None
            Not used.
        groups : array-like, default=None
            Not used.

        Returns
        -------
        n_splits : int
            As given to the constructor.
        """
        return self.n_splits

    def _check_tasks(self, X: Any, y: Any) -> tuple[np.ndarray, list]:
        """Return the task of each row as a position, and the ids."""
        if is_task_sequence(X) or y is None:
            raise ValueError(
                "FewShotSplit takes rows X, y with the task ids as a column of X. For "
                "a sequence of tasks use cv=5 and scoring=few_shot_scorer(...)."
            )
        ids = separate_ids(X, self.task_column)[1]
        check_consistent_length(X, y)
        codes, names = group_rows(ids, _num_samples(X))
        is_int = isinstance(self.n_splits, Integral)
        if not (is_int and 2 <= self.n_splits <= len(names)):
            raise ValueError(
                "Expected n_splits as an int from 2 to the number of tasks, "
                f"{len(names)}, got {self.n_splits!r}. Is task_column="
                f"{self.task_column!r} the column of task ids?"
            )
        return codes, names


def _task_codes(X: Any, tasks: Any, groups: Any, caller: str) -> np.ndarray:
    """Return the task of each sample as an int, of shape (n_samples,)."""
    if tasks is not None and groups is not None and not np.array_equal(tasks, groups):
        raise ValueError(
            "tasks and groups are two names for the task of a row and differ: give "
            "one of them."
        )
    ids = groups if tasks is None else tasks
    if ids is not None:
        return group_rows(ids, _num_samples(X))[0]
    if is_task_sequence(X):
        return np.arange(len(X))
    raise ValueError(NO_TASKS_MESSAGE.format(caller=caller))
