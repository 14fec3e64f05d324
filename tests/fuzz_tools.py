"""Cases of what surrounds the estimators: scores, tasks, splits, wrappers, files."""

import copy
import functools
import tempfile
import warnings
from pathlib import Path

import numpy as np
from fuzz_inputs import JUNK, N_FEATURES, affordable, junk, numbers, sequences, spoiled
from fuzz_laws import Case
from fuzz_models import (
    CLASSIFIERS,
    LABELS,
    MODELS,
    REGRESSORS,
    copies,
    finite_numbers,
    fitted,
    labels_of,
    model_names,
    predictions,
)
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline

import sklearn_meta
from sklearn_meta import AdaptedClassifier, AdaptedRegressor, TaskCollection
from sklearn_meta.datasets import make_blob_tasks, make_gp_tasks, make_sinusoid_tasks
from sklearn_meta.metrics import few_shot_score, few_shot_scorer, paired_comparison
from sklearn_meta.model_selection import FewShotSplit, TaskKFold, TaskShuffleSplit
from sklearn_meta.persistence import load_model, save_model
from sklearn_meta.task_column import TaskColumnClassifier, TaskColumnRegressor

# ---------------------------------------------------------------- scores


@st.composite
def score_cases(draw):
    """Cases of score, few_shot_score and its scorer, with any parameters."""
    name = draw(model_names)
    model = copies(name, adapted=draw(st.booleans()))
    if draw(st.booleans()):
        tasks, how = draw(sequences(labels_of(name)))
        inputs = (tasks, None, None)
    else:
        table, how = draw(spoiled(labels_of(name)))
        inputs = (table["X"], table["y"], table["ids"])
    if draw(st.booleans()):
        call = lambda: model.score(inputs[0], inputs[1], tasks=inputs[2])  # noqa: E731
        return Case(f"{name}.score of {how}", call, model, inputs, is_pure=True)
    names = draw(st.sets(st.sampled_from(SCORE_PARAMS), max_size=2))
    params = {"n_shots": 1} | {p: draw(junk) for p in names}
    params = {p: affordable(v) for p, v in params.items()}
    call = lambda: few_shot_score(model, *inputs, **params)  # noqa: E731
    what = f"few_shot_score of {name}, {params} on {how}"
    return Case(what, call, model, inputs, is_pure=True)


SCORE_PARAMS = ["scoring", "n_shots", "n_queries", "stratify", "order", "n_episodes"]
SCORE_PARAMS += ["aggregate", "random_state", "return_tasks"]


@st.composite
def comparison_cases(draw):
    """Cases of paired_comparison and of scorers made from anything."""
    if draw(st.booleans()):
        names = draw(st.sets(st.sampled_from(SCORE_PARAMS[:-1]), min_size=1))
        params = {p: draw(junk) for p in names}
        return Case(f"few_shot_scorer({params})", lambda: few_shot_scorer(**params))
    pair = tuple(draw(junk | st.lists(numbers, max_size=4)) for _ in range(2))
    what = f"paired_comparison of {pair!r}"
    return Case(what, lambda: paired_comparison(*pair), inputs=pair)


# ---------------------------------------------------------------- tasks and splits


@st.composite
def collection_cases(draw):
    """Cases of TaskCollection and what it offers, and of few_shot_split."""
    table, how = draw(spoiled(draw(st.sampled_from([None, LABELS]))))
    X, y, ids = table["X"], table["y"], table["ids"]
    which = draw(st.sampled_from(["from_arrays", "from_frame", "init", "split"]))
    anything = draw(junk)
    tasks, form = draw(sequences(None))

    def call():
        if which == "from_arrays":
            return read(TaskCollection.from_arrays(X, y, ids))
        if which == "from_frame":
            named = with_columns(X, y, ids) if hasattr(X, "assign") else X
            return read(TaskCollection.from_frame(named, task="id", target="y"))
        if which == "init":
            return read(TaskCollection(tasks, anything))
        return sklearn_meta.few_shot_split(
            X, y, n_shots=1 if anything is None else anything, random_state=0
        )

    what = f"{which} with {how}, {form}, {anything!r}"
    return Case(what, call, inputs=(X, y, ids, tasks))


def with_columns(X, y, ids):
    """Return a frame with targets and ids; what pandas says of them is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return X.assign(y=y, id=ids)


def read(collection):
    """Use a collection as scikit-learn and estimators do."""
    assert repr(collection)
    return collection.names, collection[: len(collection)].to_flat()


@st.composite
def splitter_cases(draw):
    """Cases of splitters by task."""
    kind = draw(st.sampled_from([TaskKFold, TaskShuffleSplit]))
    names = {
        "n_splits",
        "random_state",
        "shuffle" if kind is TaskKFold else "test_size",
    }
    params = {p: draw(junk) for p in draw(st.sets(st.sampled_from(sorted(names))))}
    params = {p: affordable(v) for p, v in params.items()}
    if draw(st.booleans()):
        tasks, how = draw(sequences(None))
        given, inputs = {}, (tasks,)
    else:
        table, how = draw(spoiled(None, ("X", "ids")))
        given, inputs = {"tasks": table["ids"]}, (table["X"], table["y"])
    what = f"{kind.__name__}({params}) with {how}"

    def call():
        return list(kind(**{"n_splits": 2} | params).split(*inputs, **given))

    return Case(what, call, inputs=(inputs, given))


@st.composite
def metadata_cases(draw):
    """Cases of task columns and splitters of rows that have the ids inside."""
    name = draw(st.sampled_from(["TaskColumn", "FewShotSplit"]))
    labels = draw(st.sampled_from([None, LABELS]))
    table, how = draw(spoiled(labels, ("X", "y")))
    column = draw(st.sampled_from([-1, 0, 1, 2, "u", "v", 7, None, 1.0, (1,), "task"]))
    inputs = (table["X"], table["y"])
    what = f"{name} with {how}, column {column!r}, labels {labels}"
    if name == "FewShotSplit":
        params = {p: draw(junk) for p in draw(st.sets(st.sampled_from(SPLIT_PARAMS)))}
        params = {"n_splits": 2, "n_shots": 1, "task_column": column} | params
        cv = FewShotSplit(**params)
        return Case(f"{what} {params}", lambda: list(cv.split(*inputs)), cv, inputs)
    wrapper = TaskColumnClassifier if labels else TaskColumnRegressor
    inner = draw(st.sampled_from(CLASSIFIERS if labels else REGRESSORS))
    model = wrapper(copy.deepcopy(MODELS[inner]), task_column=column)

    def call():
        return model.fit(*inputs).predict(inputs[0])

    return Case(what, call, None, inputs, finite_numbers)


SPLIT_PARAMS = ["n_splits", "n_shots", "n_queries", "stratify", "random_state"]


# ---------------------------------------------------------------- wrappers and files


@st.composite
def wrapper_cases(draw):
    """Cases of AdaptedClassifier, AdaptedRegressor and pipelines: fit and predict."""
    name = draw(model_names)
    wrapper = draw(
        st.sampled_from([AdaptedClassifier, AdaptedRegressor, make_pipeline])
    )
    inner = draw(st.sampled_from([fitted(name), copy.deepcopy(MODELS[name]), "model"]))
    if wrapper is make_pipeline:
        inner = copy.deepcopy(MODELS[name])
    table, how = draw(spoiled(labels_of(name), ("X", "y"), max_tasks=1))
    query, how_query = draw(spoiled(labels_of(name), ("X",), max_tasks=1))
    inputs = (table["X"], table["y"], query["X"])
    model = wrapper(inner)

    def call():
        return model.fit(*inputs[:2]).predict(inputs[2])

    what = f"{wrapper.__name__}({inner}) with {how}, asked {how_query}"
    return Case(what, call, None, inputs, finite_numbers)


@functools.cache
def saved(name):
    """Return the bytes of the file of an adapted model."""
    with tempfile.TemporaryDirectory() as folder:
        save_model(copies(name, adapted=True), path := Path(folder) / "model")
        return path.read_bytes()


@st.composite
def file_cases(draw):
    """Cases of load_model of a file with up to three places altered, or cut."""
    name = draw(st.sampled_from(["MAMLRegressor-maml", "TaskEnsembleClassifier-none"]))
    name = next((n for n in MODELS if n.startswith(name)), name)
    content = bytearray(saved(name))
    how = draw(st.sampled_from(["alter", "cut", "insert", "ends", "junk"]))
    places = draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3))
    if draw(st.booleans()):  # the directory of a zip is at its end
        places = [len(content) - 1 - place % 900 for place in places]
    for place in places if how == "alter" else ():
        content[place] ^= draw(st.integers(1, 255))
    if how == "cut":
        del content[places[0] :]
    elif how == "insert":
        content[places[0] : places[0]] = draw(st.binary(min_size=1, max_size=9))
    elif how == "ends":
        content = draw(st.binary(max_size=9)) + content + draw(st.binary(max_size=9))
    elif how == "junk":
        content = draw(st.binary(max_size=300))
    return Case(f"load {name}, {how} at {places}", lambda: load_same(name, content))


def load_same(name, content):
    """Load a file from its bytes; what loads must be the model that was saved."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model").write_bytes(bytes(content))
        loaded = load_model(Path(folder) / "model")
    original = copies(name, adapted=True)
    X, ids = np.ones((2, N_FEATURES)), original.task_names_
    for a, b in zip(
        predictions(loaded, X, tasks=ids),
        predictions(original, X, tasks=ids),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@st.composite
def generator_cases(draw):
    """Cases of the generators of tasks with parameters that are anything."""
    make = draw(st.sampled_from([make_blob_tasks, make_gp_tasks, make_sinusoid_tasks]))
    names = [p for p in make.__wrapped__.__code__.co_varnames if p in GENERATOR_PARAMS]
    chosen = draw(st.sets(st.sampled_from(names), min_size=1, max_size=2))
    params = {"n_tasks": 2, "n_samples": 5, "random_state": 0}
    params |= {p: draw(st.sampled_from(JUNK)) for p in chosen}
    params = {p: affordable(v) for p, v in params.items()}
    return Case(f"{make.__name__}({params})", lambda: make(**params))


GENERATOR_PARAMS = {"n_tasks", "n_samples", "n_classes", "n_features", "label_mode"}
GENERATOR_PARAMS |= {"class_std", "task_std", "within_std", "return_X_y_tasks", "noise"}
GENERATOR_PARAMS |= {"random_state", "amplitude", "phase", "x_range", "kernel"}
GENERATOR_PARAMS |= {"length_scale", "output_scale", "period"}
