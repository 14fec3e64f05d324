"""Held-out tasks and held-out classes: the episodes on which all methods are scored.

Tasks: 30 % of them (10 to 60) are held out, up to 400 of the others are learned from.
A permutation of a held-out task gives K support rows, and up to 200 query rows that
are the same for every K. Classes: 40 % of them (5 or more) are held out; an episode has
five of them, and 15 query rows of each.
"""

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from columns import linear_columns, tree_columns

from sklearn_meta.datasets import list_task_collections, load_task_collection

REGRESSION, SHARED, NEW = "regression", "shared classes", "new classes"
KIND = {info.name: info.kind for info in list_task_collections()}
# rows of these are in the order of time: scores from the first rows of a task are kept
# under the collection's name with this at its end
GROWING = ("nox", "gapminder", "chickweight", "cigar")
FIRST = "-first"

SHOTS = (1, 5, 10)
TEST_FRACTION, TEST_TASKS, MAX_TRAIN_TASKS = 0.3, (10, 60), 400
MAX_QUERIES = 200
# where the median task has fewer rows than this, 10 of them cannot be spared
MIN_ROWS_FOR_TEN = 18
TEST_CLASS_FRACTION, N_WAYS, CLASS_QUERIES, CLASS_EPISODES = 0.4, 5, 15, 20


class Episode(NamedTuple):
    """Row numbers of one draw of a task."""

    support: np.ndarray
    query: np.ndarray


@dataclass(eq=False)
class Split:
    """One way to hold tasks (or classes) of a collection out.

    Parameters
    ----------
    name, kind : str
        The collection and its kind.
    repeat : int
        Number of the split, and seed of what is random in a method.
    X : DataFrame of shape (n_rows, n_columns)
        All rows, as they are in the source.
    y : ndarray of shape (n_rows,)
        Targets standardised by the training rows, or numbers of classes.
    task : ndarray of shape (n_rows,)
        Number of each row's task; of its class, where classes are held out.
    train : ndarray of shape (n_train,)
        Rows to learn from.
    episodes : dict of int to list of Episode
        Episodes by number of support rows (per class, where classes are held out).
    """

    name: str
    kind: str
    repeat: int
    X: pd.DataFrame
    y: np.ndarray
    task: np.ndarray
    train: np.ndarray
    episodes: dict

    @cached_property
    def linear(self):
        """Standardised one-hot columns of all rows."""
        return linear_columns(self.X, self.train)

    @cached_property
    def tree(self):
        """Numbers and codes of categories of all rows, and which are categories."""
        return tree_columns(self.X, self.train)

    @property
    def n_classes(self):
        """Number of classes; 0 for regression."""
        return 0 if self.kind == REGRESSION else int(self.y.max()) + 1

    def some_rows(self, max_rows):
        """Return at most so many training rows, drawn from all tasks."""
        rng = np.random.default_rng(self.repeat)
        return np.sort(rng.permutation(self.train)[:max_rows])


def split_collection(name, repeat, first_rows=False):
    """Return one split of a collection; `first_rows` makes the support of them."""
    X, y, tasks = load_task_collection(name, return_X_y_tasks=True, as_frame=True)
    rng = np.random.default_rng([repeat, zlib.crc32(name.encode())])
    if KIND[name] == NEW:
        return _split_classes(name, repeat, X, pd.factorize(y, sort=True)[0], rng)
    return _split_tasks(name, repeat, X, y, pd.factorize(tasks)[0], rng, first_rows)


def _split_tasks(name, repeat, X, y, task, rng, first_rows):
    """Hold tasks out."""
    kind, order = KIND[name], rng.permutation(task.max() + 1)
    n_test = int(np.clip(round(TEST_FRACTION * len(order)), *TEST_TASKS))
    test, known = order[:n_test], order[n_test : n_test + MAX_TRAIN_TASKS]
    train = np.flatnonzero(np.isin(task, known))
    if kind == REGRESSION:
        y = (y - y[train].mean()) / y[train].std()
    else:
        y = pd.factorize(y, sort=True)[0]
    shots = SHOTS if np.median(np.bincount(task)) >= MIN_ROWS_FOR_TEN else SHOTS[:2]
    rows = [np.flatnonzero(task == t) for t in test]
    drawn = [_draw(r, shots, rng, first_rows) for r in rows if len(r) > shots[-1] + 1]
    episodes = {k: [Episode(e.support[:k], e.query) for e in drawn] for k in shots}
    return Split(name, kind, repeat, X, y, task, train, episodes)


def _draw(rows, shots, rng, first_rows):
    """Draw the largest support of a task, and its queries."""
    order = rng.permutation(rows)
    if first_rows:
        order = np.concatenate([rows[: shots[-1]], rng.permutation(rows[shots[-1] :])])
    return Episode(order[: shots[-1]], order[shots[-1] :][:MAX_QUERIES])


def _split_classes(name, repeat, X, y, rng):
    """Hold classes out."""
    classes = rng.permutation(y.max() + 1)
    n_test = max(N_WAYS, round(TEST_CLASS_FRACTION * len(classes)))
    rows = {c: np.flatnonzero(y == c) for c in classes}
    episodes = {
        k: [
            draw_ways(rng.permutation(classes[:n_test])[:N_WAYS], rows, k, rng)
            for _ in range(CLASS_EPISODES)
        ]
        for k in SHOTS
    }
    train = np.flatnonzero(np.isin(y, classes[n_test:]))
    return Split(name, NEW, repeat, X, y, y, train, episodes)


def draw_ways(ways, rows, n_shots, rng, n_queries=CLASS_QUERIES):
    """Draw `n_shots` support rows and the query rows of each of some classes."""
    drawn = [rng.permutation(rows[c])[: n_shots + n_queries] for c in ways]
    support, query = ([d[:n_shots] for d in drawn], [d[n_shots:] for d in drawn])
    return Episode(np.concatenate(support), np.concatenate(query))
