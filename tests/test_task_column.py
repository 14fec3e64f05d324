"""The task of a row as a column of X: wrappers and their splitter."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_estimators import class_tasks, regression_tasks, small
from toy_estimators import AdaptOnlyRegressor, ShiftRegressor

from sklearn_meta import MAMLRegressor, ProtoNetClassifier, adapt_tasks
from sklearn_meta.metrics import few_shot_scorer
from sklearn_meta.model_selection import TaskKFold
from sklearn_meta.task_column import TaskColumnClassifier, TaskColumnRegressor
from sklearn_meta.tasks import separate_ids


@pytest.fixture
def flat():
    """Rows of six tasks with a number as id in the last column."""
    X, y, ids = regression_tasks().to_flat()
    return np.column_stack([X, [int(name[1:]) for name in ids]]), y


@pytest.fixture
def frame():
    """Rows of six tasks with a text as id, in the first column."""
    X, y, ids = class_tasks().to_flat()
    return pd.DataFrame({"task": ids, "a": X[:, 0], "b": X[:, 1]}), y


# ---------------------------------------------------------------- the column


@pytest.mark.parametrize("column", [1, -2, np.int64(1)])
def test_separate_ids_when_array_then_position_counts_from_both_ends(column):
    # Transformers may put the column first or last.
    rows, ids = separate_ids([[0.0, 7.0, 2.0]], column)
    assert rows.tolist() == [[0.0, 2.0]] and ids.tolist() == [7.0]


def test_separate_ids_when_frame_then_name_or_position(frame):
    # A frame stays one, so that its names can be compared.
    X, _ = frame
    for column in ("task", 0, -3):
        rows, ids = separate_ids(X, column)
        assert list(rows.columns) == ["a", "b"]
        assert ids.tolist() == X["task"].tolist()


@pytest.mark.parametrize("column", ["site", 3, -4, 1.0])
def test_separate_ids_when_there_is_no_such_column_then_raises(frame, column):
    # A transformer may have dropped or renamed it.
    with pytest.raises(ValueError, match="got .* and the columns .*passthrough"):
        separate_ids(frame[0], column)
    with pytest.raises(ValueError, match="3 columns without names"):
        separate_ids(np.zeros((2, 3)), column)


# ---------------------------------------------------------------- the wrappers


def test_fit_when_called_then_is_fit_and_adapt_tasks(flat):
    # The wrapper only takes the ids out of X.
    X, y = flat
    meta = small(MAMLRegressor)
    wrapped = TaskColumnRegressor(meta).fit(X, y)
    ids = X[:, -1]
    expected = adapt_tasks(clone(meta).fit(X[:, :-1], y, tasks=ids), X[:, :-1], y, ids)
    np.testing.assert_array_equal(
        wrapped.predict(X, return_std=True),
        expected.predict(X[:, :-1], return_std=True, tasks=ids),
    )
    assert wrapped.n_features_in_ == 3 and len(wrapped.tasks_) == 6
    assert not hasattr(meta, "learner_")


def test_fit_when_frame_has_text_ids_then_works(frame):
    # Ids need not be numbers where columns have names.
    X, y = frame
    model = TaskColumnClassifier(small(ProtoNetClassifier), task_column="task")
    model.fit(X, y)
    assert model.predict_proba(X).shape == (len(X), 3)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.score(X, y) > 0.5
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X.rename(columns={"a": "c"}))


def test_fit_when_stock_pipeline_is_inside_then_ids_reach_its_last_step(flat):
    # Its transformers see the features alone.
    X, y = flat
    model = TaskColumnRegressor(make_pipeline(StandardScaler(), ShiftRegressor()))
    model.fit(X, y)
    np.testing.assert_allclose(model.estimator_[0].mean_, X[:, :-1].mean(0))
    assert model.estimator_[-1].n_tasks_ == 6


def test_fit_when_search_is_inside_then_its_best_is_adapted(flat):
    # The inner search sees the training rows of a fold only.
    X, y = flat
    scorer = few_shot_scorer("neg_mean_squared_error", n_shots=3)
    grid = {"prior_rows": [0.0, 5.0]}
    search = GridSearchCV(ShiftRegressor(), grid, cv=TaskKFold(2), scoring=scorer)
    model = TaskColumnRegressor(search).fit(X, y)
    assert model.estimator_.prior_rows == 0.0


def test_fit_when_frozen_then_meta_training_is_kept(flat):
    # A model that has learned across other tasks is adapted to these.
    X, y = flat
    meta = small(MAMLRegressor).fit(regression_tasks(seed=3))
    model = clone(TaskColumnRegressor(FrozenEstimator(meta))).fit(X, y)
    ids = X[:, -1]
    expected = adapt_tasks(meta, X[:, :-1], y, ids).predict(X[:, :-1], tasks=ids)
    np.testing.assert_array_equal(model.predict(X), expected)


def test_min_rows_when_tasks_are_small_then_they_are_adapted_to_only(flat):
    # The support rows of held-out tasks need not take part in learning.
    X, y = flat
    few = np.r_[np.flatnonzero(X[:, -1] > 0), np.flatnonzero(X[:, -1] == 0)[:2]]
    model = TaskColumnRegressor(ShiftRegressor(), min_rows=3).fit(X[few], y[few])
    assert model.estimator_.n_tasks_ == 5 and len(model.tasks_) == 6
    assert np.isfinite(model.predict(X)).all()
    with pytest.raises(ValueError, match="None of the 6 tasks has min_rows=99"):
        model.set_params(min_rows=99).fit(X, y)


def test_predict_when_task_had_no_rows_then_names_the_splitters(flat):
    # It is what an unshuffled KFold brings about.
    X, y = flat
    model = TaskColumnRegressor(ShiftRegressor())
    with pytest.raises(ValueError, match="had no rows in fit.*FewShotSplit"):
        cross_val_predict(model, X, y, cv=3)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_fit_when_meta_estimator_is_of_no_use_then_says_what_to_do(flat):
    # Better before an hour of training than after it.
    X, y = flat
    with pytest.raises(TypeError, match="Use TaskColumnRegressor"):
        TaskColumnClassifier(ShiftRegressor()).fit(X, y)
    with pytest.raises(TypeError, match="adapt_tasks"):
        TaskColumnRegressor(AdaptOnlyRegressor()).fit(X, y)
    with pytest.raises(TypeError, match="takes X with its column of ids by itself"):
        TaskColumnClassifier(LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match="scoring=few_shot_scorer"):
        TaskColumnRegressor(ShiftRegressor()).fit(regression_tasks(), None)


def test_fit_when_lengths_differ_then_says_both(flat):
    # One target per row, before any row is looked up.
    X, y = flat
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        TaskColumnRegressor(ShiftRegressor()).fit(X, y[:5])
