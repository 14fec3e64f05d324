"""Strategies for input as careless users give it: nearly right.

Valid rows, targets and ids are drawn first; then a change from the tables below spoils
up to two of them. Input that is wrong throughout is refused at the door: what is almost
right reaches further.
"""

import warnings

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from sklearn_meta import Task, TaskCollection

N_FEATURES = 2
EDGE_NUMBERS = [np.nan, np.inf, -np.inf, 1e300, -1e300, 1.1e120, 1e120, -1e119, 1e60]
EDGE_NUMBERS += [1e39, -1e20, 1e9, 1e-310, 5e-324, -0.0, 0.0]
# what is passed where something quite different is expected
JUNK = [None, "", "abc", 0, -1, 1, 2, 3, 1.5, np.nan, np.inf, True, (), (1,), (2, 1)]
JUNK += [(1, 2), [], [None], {}, {"a": 1}, object(), np.int64(2), np.float32(0.5)]
JUNK += [b"x", 1e300, -0.1, np.array(3), np.array([1, 2]), int, len, 10**30]

numbers = st.sampled_from(EDGE_NUMBERS) | st.floats(width=64)
junk = st.sampled_from(JUNK)


def affordable(value):
    """Return a value, or 3 for a budget that is right but takes forever."""
    return 3 if isinstance(value, int) and value > 10**3 else value


def with_cell(X, value, place):
    """Return a copy with a number in one place."""
    X = np.array(X, dtype=float)
    if X.size:
        X.flat[place % X.size] = value
    return X


def with_object(values, value, place):
    """Return an array of objects with anything in one place."""
    values = np.array(values, dtype=object)
    if values.size:
        values.ravel()[place % values.size : place % values.size + 1].fill(value)
    return values


def frame(X, columns=("u", "v")):
    """Return rows as a DataFrame."""
    return pd.DataFrame(np.asarray(X), columns=list(columns))


# each takes rows, a number and a place, and returns anything
ROW_CHANGES = {
    "cell": with_cell,
    "column": lambda X, value, place: np.c_[X[:, :1], np.full(len(X), value)],
    "all": lambda X, value, place: np.full(X.shape, value),
    "scaled": lambda X, value, place: X * 10.0 ** (place % 240 - 120),
    "no rows": lambda X, value, place: X[:0],
    "one row": lambda X, value, place: X[:1],
    "no columns": lambda X, value, place: X[:, :0],
    "one column": lambda X, value, place: X[:, :1],
    "more columns": lambda X, value, place: np.c_[X, X],
    "same rows": lambda X, value, place: np.repeat(X[:1], len(X), axis=0),
    "1D": lambda X, value, place: X.ravel(),
    "3D": lambda X, value, place: X[None],
    "0D": lambda X, value, place: np.array(value),
    "list": lambda X, value, place: X.tolist(),
    "ragged list": lambda X, value, place: [*X.tolist(), [1.0]],
    "tuple": lambda X, value, place: tuple(map(tuple, X.tolist())),
    "generator": lambda X, value, place: (row for row in X),
    "words": lambda X, value, place: X.astype(str),
    "objects": lambda X, value, place: X.astype(object),
    "object word": lambda X, value, place: with_object(X, "eleven", place),
    "object none": lambda X, value, place: with_object(X, None, place),
    "object list": lambda X, value, place: with_object(X, [1], place),
    "object dict": lambda X, value, place: with_object(X, {}, place),
    "int": lambda X, value, place: X.astype(int),
    "least int": lambda X, value, place: np.full(X.shape, np.iinfo(np.int64).min),
    "bool": lambda X, value, place: X > 0,
    "half": lambda X, value, place: X.astype(np.float16),
    "big endian": lambda X, value, place: X.astype(">f8"),
    "complex": lambda X, value, place: X + 1j,
    "dates": lambda X, value, place: X.astype(int).astype("datetime64[s]"),
    "strided": lambda X, value, place: np.repeat(X, 2, axis=0)[::2],
    "read only": lambda X, value, place: np.broadcast_to(X[:1], X.shape),
    "masked": lambda X, value, place: np.ma.masked_array(X, X > 0),
    "matrix": lambda X, value, place: np.asmatrix(X),
    "torch": lambda X, value, place: torch.as_tensor(X),
    "csr": lambda X, value, place: sparse.csr_matrix(X),
    "coo array": lambda X, value, place: sparse.coo_array(X),
    "frame": lambda X, value, place: frame(X),
    "other frame": lambda X, value, place: frame(X, ["v", "w"]),
    "swapped frame": lambda X, value, place: frame(X, ["v", "u"]),
    "twin frame": lambda X, value, place: frame(X, ["u", "u"]),
    "mixed frame": lambda X, value, place: frame(X, ["u", 1]),
    "numbered frame": lambda X, value, place: frame(X, [0, 1]),
    "frame of NA": lambda X, value, place: frame(X).astype("Float64").mask(X > 0),
    "frame of kinds": lambda X, value, place: frame(X).astype({"v": "category"}),
    "frame of words": lambda X, value, place: frame(X).assign(v="eleven"),
    "series": lambda X, value, place: pd.Series(X[:, 0]),
    "dict": lambda X, value, place: {"u": X[:, 0]},
}

TARGET_CHANGES = {
    "cell": lambda y, value, place: (with_cell if y.dtype.kind == "f" else with_object)(
        y, value, place
    ),
    "all": lambda y, value, place: np.full(len(y), value),
    "one class": lambda y, value, place: np.repeat(y[:1], len(y)),
    "short": lambda y, value, place: y[:-1],
    "none": lambda y, value, place: y[:0],
    "missing": lambda y, value, place: None,
    "column": lambda y, value, place: y.reshape(-1, 1),
    "two columns": lambda y, value, place: np.c_[y, y],
    "scalar": lambda y, value, place: value,
    "string": lambda y, value, place: "abc",
    "list": lambda y, value, place: y.tolist(),
    "generator": lambda y, value, place: iter(y.tolist()),
    "words": lambda y, value, place: y.astype(str),
    "bytes": lambda y, value, place: y.astype(str).astype(bytes),
    "ints": lambda y, value, place: np.arange(len(y)) % 3,
    "huge ints": lambda y, value, place: np.arange(len(y)) % 2 * 2**62,
    "unsigned": lambda y, value, place: (np.arange(len(y)) % 2).astype(np.uint8),
    "bool": lambda y, value, place: np.arange(len(y)) % 2 == 0,
    "floats": lambda y, value, place: np.linspace(-1, 1, len(y)),
    "whole floats": lambda y, value, place: np.arange(len(y)) % 2 * 1.0,
    "complex": lambda y, value, place: np.arange(len(y)) * 1j,
    "dates": lambda y, value, place: np.arange(len(y)).astype("datetime64[D]"),
    "objects": lambda y, value, place: y.astype(object),
    "mixed": lambda y, value, place: with_object(y, 7, place),
    "hole": lambda y, value, place: with_object(y, None, place),
    "nan object": lambda y, value, place: with_object(y, np.nan, place),
    "lists": lambda y, value, place: with_object(y, [1, 2], place),
    "tuples": lambda y, value, place: with_object(y, (1, 2), place),
    "unknown": lambda y, value, place: np.r_[y[1:].astype(str), ["unheard of"]],
    "series": lambda y, value, place: pd.Series(y, index=np.arange(len(y))[::-1]),
    "categorical": lambda y, value, place: pd.Categorical(y.astype(str)),
    "string dtype": lambda y, value, place: pd.Series(y.astype(str), dtype="string"),
    "masked": lambda y, value, place: np.ma.masked_array(y, np.arange(len(y)) == 0),
    "torch": lambda y, value, place: torch.arange(len(y)),
    "frame": lambda y, value, place: pd.DataFrame({"y": y}),
    "sparse": lambda y, value, place: sparse.csr_matrix(np.arange(len(y))),
}

ID_CHANGES = {
    "cell": lambda ids, value, place: with_cell(np.arange(len(ids)), value, place),
    "missing": lambda ids, value, place: None,
    "short": lambda ids, value, place: ids[:-1],
    "none": lambda ids, value, place: ids[:0],
    "one": lambda ids, value, place: np.repeat(ids[:1], len(ids)),
    "each its own": lambda ids, value, place: np.arange(len(ids)),
    "string": lambda ids, value, place: "a" * len(ids),
    "scalar": lambda ids, value, place: 3,
    "list": lambda ids, value, place: ids.tolist(),
    "generator": lambda ids, value, place: iter(ids.tolist()),
    "dict": lambda ids, value, place: dict(enumerate(ids)),
    "set": lambda ids, value, place: set(ids.tolist()),
    "column": lambda ids, value, place: ids.reshape(-1, 1),
    "mixed": lambda ids, value, place: with_object(ids, 7, place),
    "hole": lambda ids, value, place: with_object(ids, None, place),
    "NA": lambda ids, value, place: with_object(ids, pd.NA, place),
    "NaT": lambda ids, value, place: with_object(ids, pd.NaT, place),
    "nan": lambda ids, value, place: with_object(ids, float("nan"), place),
    "lists": lambda ids, value, place: with_object(ids, [1], place),
    "arrays": lambda ids, value, place: with_object(ids, np.arange(2), place),
    "tuples": lambda ids, value, place: [(i, 1) for i in ids],
    "ragged tuples": lambda ids, value, place: [
        (i,) * (1 + n % 2) for n, i in enumerate(ids)
    ],
    "bool": lambda ids, value, place: np.arange(len(ids)) % 2 == 0,
    "bool and int": lambda ids, value, place: [True, 1, 0, False] * len(ids),
    "int and float": lambda ids, value, place: with_object(
        np.zeros(len(ids), int), 0.0, place
    ),
    "huge": lambda ids, value, place: [10**30 + len(i) for i in ids],
    "dates": lambda ids, value, place: np.arange(len(ids)).astype("datetime64[D]"),
    "bytes": lambda ids, value, place: ids.astype(bytes),
    "complex": lambda ids, value, place: np.arange(len(ids)) * 1j,
    "unknown": lambda ids, value, place: np.r_[ids[1:], ["nobody"]],
    "unicode": lambda ids, value, place: np.char.add(ids, "\ud800☃\x00"),
    "series": lambda ids, value, place: pd.Series(ids, index=np.arange(len(ids))[::-1]),
    "categorical": lambda ids, value, place: pd.Categorical(ids),
    "torch": lambda ids, value, place: torch.arange(len(ids)),
    "frame": lambda ids, value, place: pd.DataFrame({"id": ids}),
    "sparse": lambda ids, value, place: sparse.csr_matrix(np.arange(len(ids))),
}
CHANGES = {"X": ROW_CHANGES, "y": TARGET_CHANGES, "ids": ID_CHANGES}


@st.composite
def tables(draw, labels=None, max_tasks=4):
    """Draw valid rows, targets (numbers, if there are no labels) and ids as a dict."""
    n_tasks = draw(st.integers(1, max_tasks))
    sizes = draw(st.lists(st.integers(1, 7), min_size=n_tasks, max_size=n_tasks))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    n_rows = sum(sizes)
    X = rng.normal(size=(n_rows, N_FEATURES))
    if draw(st.integers(0, 3)) == 0:
        finite = st.floats(-1e30, 1e30)
        X = draw(arrays(np.float64, (n_rows, N_FEATURES), elements=finite))
    y = rng.normal(size=n_rows) if labels is None else rng.choice(labels, size=n_rows)
    names = np.array([f"t{i}" for i in range(n_tasks)])
    return {"X": X, "y": y, "ids": np.repeat(names, sizes)}


@st.composite
def spoiled(draw, labels=None, parts=("X", "y", "ids"), max_tasks=4):
    """Draw rows, targets and ids with up to two parts changed, and how they were."""
    table = draw(tables(labels, max_tasks))
    how = []
    for part in draw(st.lists(st.sampled_from(parts), max_size=2, unique=True)):
        name = draw(st.sampled_from(list(CHANGES[part])))
        value, place = draw(numbers), draw(st.integers(0, 30))
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table[part] = CHANGES[part][name](table[part], value, place)
        how.append(f"{part}: {name} ({value!r}, {place})")
    return table, "; ".join(how) or "unchanged"


@st.composite
def sequences(draw, labels=None):
    """Draw a sequence of tasks with up to two tasks changed, and how they were."""
    tasks, how = [], []
    n_changes = draw(st.integers(0, 2))
    for i in range(draw(st.integers(1, 4))):
        kind = spoiled(labels, ("X", "y"), 1) if i < n_changes else tables(labels, 1)
        drawn = draw(kind)
        table, change = drawn if i < n_changes else (drawn, "unchanged")
        tasks.append((table["X"], table["y"]))
        how.append(change)
    form = draw(st.sampled_from(list(SEQUENCE_FORMS)))
    return SEQUENCE_FORMS[form](tasks), f"{form} of {how}"


class Unreadable:
    """A sequence whose items are not there."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise ValueError(f"Task {index} cannot be read from disk.")


def object_array(items):
    """Return items as an array of objects."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


SEQUENCE_FORMS = {
    "list": list,
    "tuple": tuple,
    "collection": TaskCollection,
    "Tasks": lambda tasks: [Task(*task, name=f"n{i}") for i, task in enumerate(tasks)],
    "twins": lambda tasks: [Task(*task, name="same") for task in tasks],
    "named": lambda tasks: TaskCollection(tasks, [f"n{i}" for i in range(len(tasks))]),
    "mixed names": lambda tasks: TaskCollection(
        tasks, ["a", 1, None, 2.5][: len(tasks)]
    ),
    "list names": lambda tasks: [Task(*task, name=[i]) for i, task in enumerate(tasks)],
    "nan names": lambda tasks: [Task(*task, name=np.nan) for task in tasks],
    "with a word": lambda tasks: [*tasks, "task"],
    "with none": lambda tasks: [*tasks, None],
    "triples": lambda tasks: [(*task, None) for task in tasks],
    "lists": lambda tasks: [list(task) for task in tasks],
    "objects": object_array,
    "generator": iter,
    "dict": lambda tasks: dict(enumerate(tasks)),
    "empty": lambda tasks: TaskCollection([]),
    "empty list": lambda tasks: [],
    "unreadable": lambda tasks: TaskCollection(Unreadable()),
}
