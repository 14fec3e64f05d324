"""Generated classification tasks: one Gaussian blob per class."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from sklearn_meta.datasets._draws import (
    COMMON_CONSTRAINTS,
    NON_NEGATIVE,
    POSITIVE_COUNT,
    check_range,
    collect,
    draw_sizes,
)


@validate_params(
    {
        **COMMON_CONSTRAINTS,
        "n_classes": [Interval(Integral, 2, None, closed="left")],
        "n_features": POSITIVE_COUNT,
        "label_mode": [StrOptions({"shared", "task"})],
        "class_std": NON_NEGATIVE,
        "task_std": NON_NEGATIVE,
        "within_std": [tuple],
    },
    prefer_skip_nested_validation=True,
)
def make_blob_tasks(
    n_tasks=100,
    n_samples=50,
    *,
    n_classes=5,
    n_features=8,
    label_mode="shared",
    class_std=2.0,
    task_std=1.0,
    within_std=(0.2, 3.0),
    return_X_y_tasks=False,
    random_state=None,
):
    """Make classification tasks with one Gaussian blob per class.

    All tasks have the same spread within a class, one standard deviation per feature:
    which features carry the classes is what can be learned across tasks, and a handful
    of rows cannot show it.

    Parameters
    ----------
    n_tasks : int, default=100
        Number of tasks.
    n_samples : int or tuple (low, high), default=50
        Rows per task; a pair draws each task's number of rows from
        {low, ..., high}. Classes are as balanced as that allows.
    n_classes : int, default=5
        Classes per task, labelled 0 to ``n_classes - 1``.
    n_features : int, default=8
        Number of features.
    label_mode : {"shared", "task"}, default="shared"
        "shared": a label means the same in every task (its centre moves with the
        task, by ``task_std``). "task": each task draws new centres, and its labels
        mean nothing elsewhere.
    class_std : float, default=2.0
        Standard deviation of the class centres, per feature.
    task_std : float, default=1.0
        Standard deviation of the offset of a whole task, per feature.
    within_std : tuple (low, high), default=(0.2, 3.0)
        Range of the standard deviation within a class; drawn once per feature, on a
        logarithmic scale, for all tasks.
    return_X_y_tasks : bool, default=False
        If True, return flat arrays ``(X, y, tasks)`` instead of a collection.
    random_state : int, RandomState instance or None, default=None
        Seed or generator of all draws.

    Returns
    -------
    TaskCollection of n_tasks tasks
        X has shape (n_samples, n_features), y has shape (n_samples,). With
        ``return_X_y_tasks=True``: X, y and the task id of each row.

    Raises
    ------
    ValueError
        If ``within_std`` is not in order and positive, or ``n_samples`` is not
        positive.

    Examples
    --------
    >>> from sklearn_meta.datasets import make_blob_tasks
    >>> tasks = make_blob_tasks(
    ...     n_tasks=6, n_samples=(10, 20), label_mode="task", random_state=0
    ... )
    >>> [len(task) for task in tasks]
    [15, 10, 13, 13, 17, 19]
    """
    rng = check_random_state(random_state)
    sizes = draw_sizes(n_samples, n_tasks, rng)
    n_max = sizes.max()
    low, high = check_range("within_std", within_std, positive=True)
    within = np.exp(rng.uniform(np.log(low), np.log(high), size=n_features))
    n_sets = 1 if label_mode == "shared" else n_tasks
    centers = class_std * rng.standard_normal((n_sets, n_classes, n_features))
    offset = task_std * rng.standard_normal((n_tasks, 1, n_features))
    # The first `size` rows hold every class evenly: cut to size first, shuffle after.
    y = np.tile(np.arange(n_max) % n_classes, (n_tasks, 1))
    for row, size in zip(y, sizes, strict=True):
        rng.shuffle(row[:size])
    owner = np.zeros(n_tasks, dtype=int) if n_sets == 1 else np.arange(n_tasks)
    noise = within * rng.standard_normal((n_tasks, n_max, n_features))
    X = centers[owner[:, None], y] + offset + noise
    return collect(X, y, sizes, return_X_y_tasks)
