"""Fitted models for the cases of fuzzing, and all that they can be asked."""

import copy
import functools
import warnings

import numpy as np
from hypothesis import strategies as st
from sklearn.base import is_classifier
from sklearn.preprocessing import StandardScaler
from small_estimators import all_small, name_of, tasks_for

from sklearn_meta.pipeline import make_meta_pipeline

LABELS = ("a", "b", "c")


def with_few_steps(estimator):
    """Return the estimator with a budget of two outer steps, if it has one."""
    steps = {"max_iter": 2} if "max_iter" in estimator.get_params() else {}
    return estimator.set_params(**steps)


MODELS = {name_of(estimator): with_few_steps(estimator) for estimator in all_small()}
CLASSIFIERS = [name for name, model in MODELS.items() if is_classifier(model)]
REGRESSORS = [name for name in MODELS if name not in CLASSIFIERS]
model_names = st.sampled_from(list(MODELS))


@functools.cache
def fitted(name):
    """Return a model that learned across tasks; it is never changed, only copied."""
    estimator = copy.deepcopy(MODELS[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(tasks_for(estimator))


@functools.cache
def fitted_pipeline(name):
    """Return a pipeline that learned across tasks; it is never changed."""
    pipeline = make_meta_pipeline(StandardScaler(), copy.deepcopy(MODELS[name]))
    return pipeline.fit(tasks_for(MODELS[name]))


def labels_of(name):
    """Return the labels that targets are drawn from; None for numbers."""
    return LABELS if name in CLASSIFIERS else None


def copies(name, adapted=False):
    """Return an independent copy of a fitted model, adapted to two tasks if asked."""
    model = copy.copy(fitted(name))
    if adapted:
        model.adapt_tasks(tasks_for(model, n_tasks=2, seed=1))
    return model


def predictions(model, X, **ids):
    """Return all that a model says of rows."""
    if is_classifier(model):
        proba = model.predict_proba(X, **ids)
        np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-6)
        assert np.isin(model.predict(X, **ids), model.classes_).all()
        return (proba,)
    return (
        *model.predict(X, return_std=True, **ids),
        model.predict_quantiles(X, **ids),
    )


def ask(model):
    """Ask a fitted model about rows of its (first) task, adapting it if need be."""
    query = np.linspace(-1e3, 1e3, 5 * model.n_features_in_)
    query = query.reshape(5, model.n_features_in_)
    if not hasattr(model, "adapted_"):
        classify = is_classifier(model)
        model.adapt(query[:4], model.classes_[[0, 1] * 2] if classify else range(4))
    names = model.task_names_
    ids = {} if names is None else {"tasks": object_list(names[:1] * 5)}
    return predictions(model, query, **ids)


def object_list(values):
    """Return values as a one-dimensional array, whatever they are."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def finite_numbers(values):
    """Return predictions if they are numbers: labels need not be finite."""
    return (values,) if np.asarray(values).dtype.kind == "f" else ()
