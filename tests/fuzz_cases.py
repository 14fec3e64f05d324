"""Every public entry point as a strategy of cases; those of estimators are here."""

import copy

import numpy as np
from fuzz_inputs import N_FEATURES, affordable, junk, numbers, sequences, spoiled
from fuzz_laws import Case
from fuzz_models import (
    CLASSIFIERS,
    MODELS,
    REGRESSORS,
    ask,
    copies,
    finite_numbers,
    fitted,
    fitted_pipeline,
    labels_of,
    model_names,
    predictions,
)
from fuzz_tools import (
    collection_cases,
    comparison_cases,
    file_cases,
    generator_cases,
    metadata_cases,
    score_cases,
    splitter_cases,
    wrapper_cases,
)
from hypothesis import strategies as st
from small_estimators import tasks_for

import sklearn_meta
from sklearn_meta import AdaptedClassifier, AdaptedRegressor

# ---------------------------------------------------------------- learning


@st.composite
def fit_cases(draw):
    """Cases of fit and partial_fit, of flat rows, of one table, of sequences."""
    name = draw(model_names)
    model = copies(name, adapted=True) if draw(st.booleans()) else None
    model = copy.deepcopy(MODELS[name]) if model is None else model
    more = hasattr(model, "partial_fit") and draw(st.booleans())
    call = model.partial_fit if more else model.fit
    if draw(st.booleans()):
        tasks, how = draw(sequences(labels_of(name)))
        inputs = (tasks, draw(st.sampled_from([None, None, None, [1, 2]])))
    else:
        table, how = draw(spoiled(labels_of(name)))
        inputs = (table["X"], table["y"])
        inputs += draw(st.sampled_from([(table["ids"],), ()]))
    what = f"{name}.{call.__name__} with {how} ({len(inputs)} arguments)"
    return Case(what, lambda: call(*inputs), model, inputs, ask)


@st.composite
def parameter_cases(draw):
    """Cases of set_params and fit with up to two parameters that are anything."""
    name = draw(model_names)
    model = copies(name)
    params = [p for p in model.get_params(deep=False) if p not in UNTRIED]
    chosen = draw(
        st.lists(st.sampled_from(params), min_size=1, max_size=2, unique=True)
    )
    values = {p: draw(junk | numbers) for p in chosen}
    values = {p: affordable(v) for p, v in values.items()}
    tasks = tasks_for(MODELS[name], n_tasks=3)

    def call():
        model.set_params(**values)
        watched.append(model)
        return model.fit(tasks)

    watched = []
    return Case(f"{name}.fit with {values}", call, None, tasks, ask)


# ---------------------------------------------------------------- one task, many tasks


@st.composite
def adapt_cases(draw):
    """Cases of adapting in place to the support of one task."""
    name = draw(model_names)
    model = copies(name, adapted=draw(st.booleans()))
    table, how = draw(spoiled(labels_of(name), ("X", "y")))
    inputs = (table["X"], table["y"])
    what = f"{name}.adapt with {how}"
    return Case(what, lambda: model.adapt(*inputs), model, inputs, ask)


@st.composite
def adapt_tasks_cases(draw):
    """Cases of adapting in place to many tasks, flat or as a sequence."""
    name = draw(model_names)
    model = copies(name, adapted=draw(st.booleans()))
    if draw(st.booleans()):
        tasks, how = draw(sequences(labels_of(name)))
        inputs = (tasks,)
    else:
        table, how = draw(spoiled(labels_of(name)))
        inputs = (table["X"], table["y"], table["ids"])
    what = f"{name}.adapt_tasks with {how}"
    return Case(what, lambda: model.adapt_tasks(*inputs), model, inputs, ask)


@st.composite
def function_cases(draw):
    """Cases of the functions adapt and adapt_tasks, of models and composites."""
    name = draw(model_names)
    model = fitted(name)
    wrap = draw(st.sampled_from(["model", "pipeline", "adapted", "unfitted", "word"]))
    if wrap == "pipeline":
        model = fitted_pipeline(name)
    elif wrap == "adapted":
        kind = AdaptedClassifier if name in CLASSIFIERS else AdaptedRegressor
        model = kind(model)
    elif wrap != "model":
        model = {"unfitted": MODELS[name], "word": "model"}[wrap]
    many = draw(st.booleans())
    function = sklearn_meta.adapt_tasks if many else sklearn_meta.adapt
    table, how = draw(spoiled(labels_of(name)))
    inputs = (table["X"], table["y"], table["ids"])[: 3 if many else 2]
    what = f"{function.__name__} of {wrap} {name} with {how}"
    query = np.ones((3, N_FEATURES))

    def call():
        adapted = function(model, *inputs)
        return adapted if many else adapted.predict(query)

    probe = (lambda adapted: ()) if many else finite_numbers
    return Case(what, call, model, inputs, probe, is_pure=True)


@st.composite
def predict_cases(draw):
    """Cases of everything that a model says of rows, with ids or without."""
    name = draw(model_names)
    many = draw(st.booleans())
    model = copies(name, adapted=many)
    if not many and draw(st.integers(0, 9)):
        model.adapt(*tasks_for(model, n_tasks=1)[0])
    table, how = draw(spoiled(labels_of(name), ("X", "ids"), max_tasks=2))
    ids = {"tasks": table["ids"]} if many or not draw(st.integers(0, 4)) else {}
    inputs = (table["X"], ids)
    what = f"{name} predicts {how}, ids: {bool(ids)}"

    def call():
        return predictions(model, table["X"], **ids)

    return Case(what, call, model, inputs, lambda parts: parts, is_pure=True)


@st.composite
def quantile_cases(draw):
    """Cases of predict_quantiles with levels that are anything."""
    model = copies(draw(st.sampled_from(REGRESSORS)))
    model.adapt(*tasks_for(model, n_tasks=1)[0])
    levels = draw(junk | st.lists(numbers | junk, max_size=3))
    X = np.zeros((2, N_FEATURES))
    return Case(
        f"predict_quantiles of {levels!r}",
        lambda: model.predict_quantiles(X, levels),
        model,
        (X, levels),
        lambda values: (values,),
        is_pure=True,
    )


# what prints, starts processes, or trains the default members with all their steps
UNTRIED = {"verbose", "n_jobs", "estimators"}

ENTRIES = {
    "fit, partial_fit": fit_cases,
    "set_params, then fit": parameter_cases,
    "adapt": adapt_cases,
    "adapt_tasks": adapt_tasks_cases,
    "sklearn_meta.adapt, adapt_tasks": function_cases,
    "predict, predict_proba, return_std": predict_cases,
    "predict_quantiles": quantile_cases,
    "score, few_shot_score": score_cases,
    "few_shot_scorer, paired_comparison": comparison_cases,
    "TaskCollection, few_shot_split": collection_cases,
    "TaskKFold, TaskShuffleSplit": splitter_cases,
    "TaskColumn..., FewShotSplit": metadata_cases,
    "Adapted..., Pipeline": wrapper_cases,
    "load_model of altered files": file_cases,
    "make_..._tasks": generator_cases,
}
