"""Bad input: a clear error, and the estimator as it was before."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.base import is_classifier
from small_estimators import (
    ALL_ESTIMATORS,
    TRAINED_ESTIMATORS,
    class_tasks,
    outputs,
    regression_tasks,
    small,
    tasks_for,
)

from sklearn_meta import (
    MAMLClassifier,
    MAMLRegressor,
    MetaStackingClassifier,
    MetaStackingRegressor,
    ModelBasedMetaClassifier,
    ModelBasedMetaRegressor,
    NotAdaptedError,
    PooledRegressor,
    ProtoNetClassifier,
    TaskCollection,
    TaskEnsembleRegressor,
)
from sklearn_meta.exceptions import FewTasksWarning

CLASSIFIERS = [MAMLClassifier, ModelBasedMetaClassifier, ProtoNetClassifier]
REGRESSORS = [MAMLRegressor, ModelBasedMetaRegressor, TaskEnsembleRegressor]
each_classifier = pytest.mark.parametrize("estimator_class", CLASSIFIERS)
each_regressor = pytest.mark.parametrize("estimator_class", REGRESSORS)


@pytest.fixture(params=ALL_ESTIMATORS, ids=lambda cls: cls.__name__)
def estimator(request):
    """Each public estimator, not fitted."""
    return small(request.param)


@pytest.fixture(params=TRAINED_ESTIMATORS, ids=lambda cls: cls.__name__)
def trained(request):
    """Each public estimator that trains a learner, not fitted."""
    return small(request.param)


@pytest.fixture
def tasks(estimator):
    """Six tasks, t0 to t5, of two features."""
    return tasks_for(estimator)


@pytest.fixture
def fitted(estimator, tasks):
    """The estimator, fitted and adapted to the task t0."""
    return estimator.fit(tasks).adapt(*tasks[0])


def assert_raises_and_leaves(estimator, call, match, error=ValueError):
    """Check the error, and that every attribute is the same object as before."""
    before = dict(vars(estimator))
    weights = pickle.dumps(estimator)
    with pytest.raises(error, match=match):
        call()
    assert vars(estimator).keys() == before.keys()
    assert all(vars(estimator)[name] is value for name, value in before.items())
    assert len(pickle.dumps(estimator)) == len(weights)


def changed(tasks, position, change):
    """Return the tasks as a list, one of them changed by a function of (X, y)."""
    pairs = [(np.array(X), np.array(y)) for X, y in tasks]
    pairs[position] = change(*pairs[position])
    return TaskCollection(pairs, names=tasks.names)


def with_value(X, y, value):
    """Return the task with a value in row 2, column 1."""
    X[2, 1] = value
    return X, y


# ---------------------------------------------------------------- fit: the tasks


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_fit_when_a_task_has_nonfinite_values_names_it(estimator, tasks, value):
    """Among a thousand tables one must know which to look at."""
    bad = changed(tasks, 3, lambda X, y: with_value(X, y, value))
    word = "NaN" if np.isnan(value) else "infinity"
    match = f"In task 't3': Input X contains {word}"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(bad), match)


def test_fit_when_a_target_is_nan_names_the_task(estimator, tasks):
    """The same for the target."""
    if is_classifier(estimator):
        tasks = class_tasks(labels=(0.0, 1.0, 2.0))
    bad = changed(tasks, 4, lambda X, y: (X, np.r_[np.nan, y[1:]]))
    match = "In task 't4': Input y contains NaN"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(bad), match)


@each_regressor
def test_fit_when_a_target_is_none_names_the_task(estimator_class):
    """None among objects becomes nan in scikit-learn, after its check for nan."""
    estimator, tasks = small(estimator_class), tasks_for(small(estimator_class))
    bad = changed(tasks, 4, lambda X, y: (X, np.r_[[None], y[1:]]))
    match = "In task 't4': Input y contains NaN"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(bad), match)


def test_fit_when_infinities_have_both_signs_raises_and_does_not_warn(fitted, tasks):
    """Their sum, which scikit-learn looks at first, is nan."""
    X, y = tasks[0]
    X = np.array(X)
    X[:2, 0] = np.inf, -np.inf
    match = "Input X contains infinity"
    assert_raises_and_leaves(fitted, lambda: fitted.fit(X, y), match)
    assert_raises_and_leaves(fitted, lambda: fitted.predict(X), match)


def test_adapt_when_rows_are_of_half_precision_does_not_warn(fitted, tasks):
    """The largest number that is taken overflows where it is cast to their type."""
    X, y = tasks[0]
    half = X.astype(np.float16)
    expected = outputs(fitted.adapt(half.astype(float), y), X)
    np.testing.assert_array_equal(outputs(fitted.adapt(half, y), X), expected)


def test_fit_when_rows_are_a_series_says_so(estimator, tasks):
    """One column of a frame is easily passed for the frame."""
    X, y, ids = tasks.to_flat()
    match = "Expected a 2-dimensional container but got .*Series"
    call = lambda: estimator.fit(pd.Series(X[:, 0]), y, ids)  # noqa: E731
    assert_raises_and_leaves(estimator, call, match)


@each_classifier
def test_fit_when_labels_are_huge_numbers_raises_and_does_not_warn(estimator_class):
    """scikit-learn looks whether they are whole by a cast that overflows."""
    estimator, tasks = small(estimator_class), class_tasks(labels=(1e300, -1e300))
    match = "Unknown label type: continuous"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(tasks), match)


def test_fit_when_a_cell_is_a_word_says_so(estimator, tasks):
    """A string where a number belongs."""
    X, y, ids = tasks.to_flat()
    X = X.astype(object)
    X[5, 0] = "eleven"
    match = "could not convert string to float: 'eleven'"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(X, y, ids), match)


def test_fit_when_tasks_have_too_few_rows_leaves_them_out_with_a_warning(estimator):
    """One row is either support or query, and one table must not cost the others."""
    tasks = tasks_for(estimator, 8)
    bad = changed(tasks, 2, lambda X, y: (X[:1], y[:1]))
    bad = changed(bad, 5, lambda X, y: (X[:0], y[:0]))
    match = "2 of 8 tasks have fewer than 2 rows and are left out, 't2', 't5': a task"
    with pytest.warns(FewTasksWarning, match=match) as caught:
        estimator.fit(bad)
    assert estimator.n_tasks_ == 6
    assert sum("left out" in str(w.message) for w in caught) == 1


def test_fit_when_all_tasks_have_too_few_rows_raises(estimator, tasks):
    """Nothing is left to learn from."""
    bad = TaskCollection([(X[:1], y[:1]) for X, y in tasks], names=tasks.names)
    match = r"Task 't0' has n_samples = 1 \(6 such tasks\); at least 2 rows are needed"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(bad), match)


def test_adapt_tasks_when_a_support_is_empty_leaves_it_out_with_a_warning(fitted):
    """It is no task to adapt to, and that is said."""
    tasks = tasks_for(fitted)
    bad = changed(tasks, 1, lambda X, y: (X[:0], y[:0]))
    match = "1 of 6 tasks have no rows and are left out, 't1'"
    with pytest.warns(FewTasksWarning, match=match):
        fitted.adapt_tasks(bad)
    assert fitted.task_names_ == ["t0", "t2", "t3", "t4", "t5"]


@each_classifier
def test_fit_when_a_task_has_one_class_names_it(estimator_class):
    """Where labels are local, one class teaches nothing."""
    estimator, tasks = small(estimator_class, label_mode="task"), class_tasks()
    bad = changed(tasks, 1, lambda X, y: (X[y == "a"], y[y == "a"]))
    match = r"at least 2 classes .* task 't1' has 1 .*\['a'\]. Add rows or drop"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(bad), match)


@each_classifier
def test_fit_when_all_tasks_have_one_class_raises(estimator_class):
    """There is nothing to tell apart."""
    estimator, tasks = small(estimator_class), class_tasks(labels=["a"])
    match = "at least 2 classes"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(tasks), match)


@pytest.mark.parametrize("empty", [[], (), TaskCollection([])], ids=repr)
def test_fit_when_there_is_no_task_raises(estimator, empty):
    """An empty selection is easily made."""
    if isinstance(empty, TaskCollection):
        match = "The collection is empty: at least one task is needed"
    else:
        match = "Expected 2D array, got 1D|empty"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(empty, None), match)


def test_fit_when_tasks_differ_in_width_names_both(estimator, tasks):
    """Related tables have the same columns."""
    bad = changed(tasks, 3, lambda X, y: (np.c_[X, X[:, 0]], y))
    match = "Task 't3' has 3 features, task 't0' has 2: all tasks need the same"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(bad), match)


def test_fit_when_frames_differ_in_columns_names_both(estimator, tasks):
    """The same number of other columns is wrong too."""
    frames = [(pd.DataFrame(X, columns=["u", "v"]), y) for X, y in tasks]
    frames[2] = (frames[2][0].rename(columns={"v": "w"}), frames[2][1])
    match = r"Task 2 has the columns \['u', 'w'\], task 0 has \['u', 'v'\]"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(frames), match)


def test_fit_when_a_task_lacks_targets_names_it(estimator, tasks):
    """Rows and targets of a task belong together."""
    bad = changed(tasks, 5, lambda X, y: (X, y[:-1]))
    match = "one target for each of the .* rows of task 't5', got shape"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(bad), match)


def test_fit_when_a_task_is_a_vector_names_it(estimator, tasks):
    """A table has two dimensions."""
    bad = changed(tasks, 1, lambda X, y: (X[:, 0], y))
    match = "Expected a 2D array of rows in task 't1', got 1D"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(bad), match)


def test_fit_when_an_item_is_no_task_says_what_it_is(estimator, tasks):
    """A sequence may hold anything."""
    bad = [*list(tasks)[:2], "task"]
    match = r"Expected a Task or a pair \(X, y\) at position 2, got str"
    call = lambda: estimator.fit(bad)  # noqa: E731
    assert_raises_and_leaves(estimator, call, match, TypeError)


def test_fit_when_tasks_come_with_targets_raises(estimator, tasks):
    """The collection holds its own; a second y would be ignored."""
    match = "expected y=None and tasks=None"
    call = lambda: estimator.fit(tasks, np.zeros(6))  # noqa: E731
    assert_raises_and_leaves(estimator, call, match)


def test_fit_when_two_tasks_have_one_name_says_which(estimator, tasks):
    """Their rows would become one task in silence."""
    twins = TaskCollection(list(tasks), names=["a", "b", "a", "c", "d", "e"])
    match = "'a'"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(twins), match)


@pytest.mark.parametrize(
    ("form", "match"),
    [
        (iter, "got a list_iterator, which can be read only once. Make a list"),
        (lambda tasks: zip(tasks, tasks, strict=True), "got a zip"),
        (lambda tasks: (task for task in tasks), "got a generator"),
        (
            lambda tasks: [pd.DataFrame(X) for X, _ in tasks],
            "a list of DataFrame",
        ),
        (lambda tasks: [X for X, _ in tasks], "a list of ndarray. Make each a pair"),
        (lambda tasks: {"a": tasks[0][0]}, "a dict of ndarray. Make each value a pair"),
        (
            lambda tasks: [(X, y, "a") for X, y in tasks],
            r"a list of tuple with 3 entries. Use Task\(X, y, name\)",
        ),
        (
            lambda tasks: pd.DataFrame(tasks[0][0]).groupby(0),
            "a DataFrameGroupBy. Use TaskCollection.from_frame",
        ),
    ],
    ids=range(8),
)
def test_fit_when_tasks_are_in_another_form_says_which_are_taken(form, match):
    """scikit-learn would say that y is None."""
    estimator = small(MAMLRegressor)
    pairs = [(X, y) for X, y in tasks_for(estimator)]
    match = rf"Expected a TaskCollection, a sequence of \(X, y\).*{match}"
    with pytest.raises(TypeError, match=match):
        estimator.fit(form(pairs))


def test_fit_when_tables_and_targets_are_two_lists_says_to_pair_them(estimator, tasks):
    """The way of other libraries."""
    tables, targets = zip(*tasks, strict=True)
    match = r"a list of ndarray, and their targets apart. Pass list\(zip\(X, y\)\)"
    call = lambda: estimator.fit(list(tables), list(targets))  # noqa: E731
    assert_raises_and_leaves(estimator, call, match, TypeError)


# ---------------------------------------------------------------- fit: the ids


def test_fit_when_ids_have_another_length_says_both(estimator, tasks):
    """One id per row."""
    X, y, ids = tasks.to_flat()
    match = f"one entry of tasks for each of the {len(X)} rows, got {len(X) - 1}"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(X, y, ids[1:]), match)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA], ids=str)
def test_fit_when_an_id_is_missing_says_so(estimator, tasks, missing):
    """A missing id is no task of its own."""
    X, y, ids = tasks.to_flat()
    ids = np.array(ids, dtype=object)
    ids[4] = missing
    match = "missing ids"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(X, y, ids), match)


def test_fit_when_flat_rows_have_no_targets_raises(estimator, tasks):
    """scikit-learn's words, since y is optional for collections only."""
    X, _, ids = tasks.to_flat()
    match = "requires y to be passed"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(X, None, ids), match)


def test_adapt_tasks_when_ids_are_lacking_says_how_to_route(fitted, tasks):
    """The usual cause is metadata routing that is off."""
    X, y, _ = tasks.to_flat()
    match = r"without task ids.*enable_metadata_routing=True"
    assert_raises_and_leaves(fitted, lambda: fitted.adapt_tasks(X, y), match)


def test_fit_when_ids_are_a_frame_of_one_column_takes_it(estimator, tasks):
    """``frame[["task"]]`` is easily written for ``frame["task"]``."""
    X, y, ids = tasks.to_flat()
    fitted = estimator.fit(X, y, pd.DataFrame({"task": ids}))
    assert fitted.n_tasks_ == 6
    two = np.column_stack([ids, ids])
    match = r"Expected tasks as one id for each row, got shape \(\d+, 2\)"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(X, y, two), match)


# ---------------------------------------------------------------- fit: the target


def test_regressor_when_the_target_is_boolean_takes_it_as_numbers():
    """As the regressors of scikit-learn do."""
    for estimator_class in (PooledRegressor, *REGRESSORS):
        tasks = [(X, y > 0) for X, y in tasks_for(small(estimator_class))]
        numbers = [(X, y.astype(float)) for X, y in tasks]
        X, _ = tasks[0]
        said, expected = (
            small(estimator_class).fit(given).adapt(*given[0]).predict(X)
            for given in (tasks, numbers)
        )
        np.testing.assert_array_equal(said, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@each_regressor
def test_regressor_when_the_target_is_of_low_precision_takes_it_as_it_is(
    estimator_class, dtype
):
    """The largest number that is taken overflows where it is cast to their type."""
    tasks = regression_tasks()
    low = [(X, y.astype(dtype)) for X, y in tasks]
    exact = [(X, y.astype(float)) for X, y in low]
    said, expected = (
        outputs(small(estimator_class).fit(given).adapt(*given[0]), tasks[0].X)
        for given in (low, exact)
    )
    np.testing.assert_array_equal(said, expected)


@each_classifier
def test_label_when_none_names_the_row(estimator_class):
    """Labels are sorted, which None cannot be."""
    estimator, tasks = small(estimator_class), class_tasks()
    X, y = tasks[0]
    y = np.r_[y[:2], [None], y[3:]]
    match = "Input y contains None or NaN where a label belongs, in row 2. Leave out"
    estimator.fit(tasks)
    assert_raises_and_leaves(estimator, lambda: estimator.adapt(X, y), match)
    bad = changed(tasks, 4, lambda X, y: (X, np.r_[[None], y[1:]]))
    assert_raises_and_leaves(estimator, lambda: estimator.fit(bad), "In task 't4'")


@each_classifier
def test_fit_of_classifier_when_target_is_continuous_raises(estimator_class):
    """A number to predict needs a regressor."""
    estimator, tasks = small(estimator_class), tasks_for(small(MAMLRegressor))
    match = "Unknown label type: continuous"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(tasks), match)


@each_regressor
def test_fit_of_regressor_when_target_is_words_raises(estimator_class):
    """Words to predict need a classifier."""
    estimator, tasks = small(estimator_class), class_tasks()
    match = "Expected a numeric target, got labels such as .*Use a classifier"
    assert_raises_and_leaves(estimator, lambda: estimator.fit(tasks), match)


@each_classifier
def test_adapt_of_classifier_when_target_is_continuous_raises(estimator_class):
    """In the support too."""
    estimator, tasks = small(estimator_class, label_mode="task"), class_tasks()
    estimator.fit(tasks).adapt(*tasks[0])
    X = tasks[0].X
    match = "Unknown label type: continuous"
    call = lambda: estimator.adapt(X, X[:, 0])  # noqa: E731
    assert_raises_and_leaves(estimator, call, match)


@each_regressor
def test_adapt_of_regressor_when_target_is_words_raises(estimator_class):
    """In the support too."""
    estimator = small(estimator_class)
    tasks = tasks_for(estimator)
    estimator.fit(tasks).adapt(*tasks[0])
    X = tasks[0].X
    match = "Expected a numeric target, got labels such as .*Use a classifier"
    call = lambda: estimator.adapt(X, ["x"] * len(X))  # noqa: E731
    assert_raises_and_leaves(estimator, call, match)


def test_adapt_when_target_is_none_raises(fitted, tasks):
    """Adapting needs labels."""
    match = "requires y to be passed, but the target y is None"
    call = lambda: fitted.adapt(tasks[0].X, None)  # noqa: E731
    assert_raises_and_leaves(fitted, call, match)


def test_adapt_when_lengths_differ_says_both(fitted, tasks):
    """One label per row."""
    X, y = tasks[0]
    match = r"inconsistent numbers of samples: \[8, 7\]|\[12, 11\]"
    assert_raises_and_leaves(fitted, lambda: fitted.adapt(X, y[1:]), match)


# ---------------------------------------------------------------- adapt: the support


def test_adapt_when_there_is_no_row_raises(fitted, tasks):
    """Nothing to adapt to."""
    X, y = tasks[0]
    match = r"0 sample\(s\)"
    assert_raises_and_leaves(fitted, lambda: fitted.adapt(X[:0], y[:0]), match)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_adapt_when_values_are_not_finite_raises(fitted, tasks, value):
    """As in fit."""
    X, y = with_value(*(np.array(part) for part in tasks[0]), value)
    match = "Input X contains"
    assert_raises_and_leaves(fitted, lambda: fitted.adapt(X, y), match)


def test_adapt_and_predict_when_width_differs_raise(fitted, tasks):
    """The features are those of fit."""
    X, y = tasks[0]
    match = "X has 3 features, but .* is expecting 2 features"
    wide = np.c_[X, X[:, 0]]
    assert_raises_and_leaves(fitted, lambda: fitted.adapt(wide, y), match)
    assert_raises_and_leaves(fitted, lambda: fitted.predict(wide), match)


def test_adapt_and_predict_when_column_names_differ_raise(estimator, tasks):
    """A swapped pair of columns has the right width."""
    frames = [(pd.DataFrame(X, columns=["u", "v"]), y) for X, y in tasks]
    X, y = frames[0]
    estimator.fit(frames).adapt(X, y)
    other, match = X.rename(columns={"v": "w"}), "feature names"
    assert_raises_and_leaves(estimator, lambda: estimator.adapt(other, y), match)
    assert_raises_and_leaves(estimator, lambda: estimator.predict(other), match)


@each_classifier
def test_adapt_when_shared_label_is_unknown_names_it(estimator_class):
    """A typing error in a label, or another label mode."""
    estimator, tasks = small(estimator_class, label_mode="shared"), class_tasks()
    X, y = tasks[0]
    estimator.fit(tasks).adapt(X, y)
    bad = np.r_[["d"], y[1:]]
    match = r"label 'd' in the table was not seen in fit.*\['a', 'b', 'c'\].*'task'"
    assert_raises_and_leaves(estimator, lambda: estimator.adapt(X, bad), match)
    numbers = np.zeros(len(y), int)
    match = "label 0 in the table was not seen in fit"
    assert_raises_and_leaves(estimator, lambda: estimator.adapt(X, numbers), match)


@each_classifier
def test_adapt_tasks_when_shared_label_is_unknown_names_the_task(estimator_class):
    """Among many supports one must know which to look at."""
    estimator, tasks = small(estimator_class, label_mode="shared"), class_tasks()
    estimator.fit(tasks)
    bad = changed(tasks, 3, lambda X, y: (X, np.r_[["d"], y[1:]]))
    match = "label 'd' in task 't3' was not seen in fit"
    assert_raises_and_leaves(estimator, lambda: estimator.adapt_tasks(bad), match)


@each_classifier
def test_adapt_when_local_support_has_one_class_says_what_to_do(estimator_class):
    """Where labels are local to the task nothing is known of other classes."""
    estimator, tasks = small(estimator_class, label_mode="task"), class_tasks()
    X, y = tasks[0]
    estimator.fit(tasks).adapt(X, y)
    match = "only the class .*'a'.*Add rows of another class.*label_mode='shared'"
    one = y == "a"
    call = lambda: estimator.adapt(X[one], y[one])  # noqa: E731
    assert_raises_and_leaves(estimator, call, match)
    bad = changed(tasks, 2, lambda X, y: (X[y == "a"], y[y == "a"]))
    match = "task 't2' has only the class"
    assert_raises_and_leaves(estimator, lambda: estimator.adapt_tasks(bad), match)


@each_classifier
def test_partial_fit_when_shared_label_is_new_names_it(estimator_class):
    """The outputs of the network are fixed by the first call."""
    estimator, tasks = small(estimator_class, label_mode="shared"), class_tasks()
    estimator.partial_fit(tasks)
    more = class_tasks(labels=["a", "b", "d"])
    match = "label 'd' in task 't0' was not seen in fit"
    assert_raises_and_leaves(estimator, lambda: estimator.partial_fit(more), match)


# ---------------------------------------------------------------- predict


def test_predict_when_a_task_id_is_unknown_names_it(estimator, tasks):
    """Its support was never given."""
    estimator.fit(tasks).adapt_tasks(tasks)
    X = tasks[0].X[:2]
    match = "not adapted to task 'nobody'.*adapt_tasks"
    call = lambda: estimator.predict(X, tasks=["t0", "nobody"])  # noqa: E731
    assert_raises_and_leaves(estimator, call, match)


def test_predict_when_ids_do_not_fit_the_adaptation_says_which(estimator, tasks):
    """Ids after adapt, none after adapt_tasks, and too few."""
    estimator.fit(tasks).adapt(*tasks[0])
    X = tasks[0].X[:2]
    match = "adapted to one task without an id"
    call = lambda: estimator.predict(X, tasks=["t0", "t0"])  # noqa: E731
    assert_raises_and_leaves(estimator, call, match)
    estimator.adapt_tasks(tasks)
    match = "adapted to 6 tasks: expected tasks=ids"
    assert_raises_and_leaves(estimator, lambda: estimator.predict(X), match)
    match = "one entry of tasks for each of the 2 rows, got 1"
    call = lambda: estimator.predict(X, tasks=["t0"])  # noqa: E731
    assert_raises_and_leaves(estimator, call, match)


def test_predict_before_adapt_names_adapt_and_the_scorer(estimator, tasks):
    """The one step that scikit-learn's own estimators do not have."""
    estimator.fit(tasks)
    match = r"adapt\(X_support, y_support\).*few_shot_scorer"
    call = lambda: estimator.predict(tasks[0].X)  # noqa: E731
    assert_raises_and_leaves(estimator, call, match, NotAdaptedError)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_predict_when_values_are_not_finite_raises(fitted, tasks, value):
    """NaN in, NaN out would be silent."""
    X, _ = with_value(np.array(tasks[0].X), None, value)
    match = "Input X contains"
    assert_raises_and_leaves(fitted, lambda: fitted.predict(X), match)


@each_regressor
@pytest.mark.parametrize("levels", [(0.0, 0.5), (0.5, 1.0), (2.0,), 0.5, (np.nan,)])
def test_predict_quantiles_when_levels_are_no_levels_raises(estimator_class, levels):
    """A level of 0 or 1 is infinite for a Gaussian."""
    estimator = small(estimator_class)
    tasks = tasks_for(estimator)
    estimator.fit(tasks).adapt(*tasks[0])
    match = r"Expected levels in \(0, 1\), got"
    call = lambda: estimator.predict_quantiles(tasks[0].X, levels)  # noqa: E731
    assert_raises_and_leaves(estimator, call, match)


@each_regressor
@pytest.mark.parametrize("y", [[1.0], [np.nan] * 8, [["a"]] * 8])
def test_log_density_when_targets_do_not_fit_the_rows_raises(estimator_class, y):
    """One target per row, each a number."""
    estimator = small(estimator_class)
    tasks = tasks_for(estimator)
    estimator.fit(tasks).adapt(*tasks[0])
    call = lambda: estimator.log_density(tasks[0].X, y)  # noqa: E731
    assert_raises_and_leaves(estimator, call, "inconsistent numbers|NaN|convert")


@each_regressor
def test_log_density_when_asked_then_that_of_the_predicted_gaussian(estimator_class):
    """What it is documented to be, for all that predict a Gaussian."""
    estimator = small(estimator_class)
    X, y = tasks_for(estimator)[0]
    estimator.fit(tasks_for(estimator)).adapt(X, y)
    expected = norm.logpdf(y, *estimator.predict(X, return_std=True))
    np.testing.assert_allclose(estimator.log_density(X, y), expected)


# ---------------------------------------------------------------- parameters

BAD_PARAMETERS = [
    ({"max_iter": 0}, "max_iter"),
    ({"max_iter": "many"}, "max_iter"),
    ({"lr": -1.0}, "lr"),
    ({"lr": "fast"}, "lr"),
    ({"meta_batch_size": 2.5}, "meta_batch_size"),
    ({"n_queries": 0}, "n_queries"),
    ({"n_shots": 0}, "n_shots"),
    ({"n_shots": (5, 2)}, r"n_shots.*1 <= low <= high, got \(5, 2\)"),
    ({"n_shots": (0, 2)}, r"n_shots.*got \(0, 2\)"),
    ({"n_shots": (1, 2, 3)}, r"n_shots.*got \(1, 2, 3\)"),
    ({"n_shots": ("a", "b")}, "n_shots.*got"),
    ({"n_shots": (1, 2.5)}, "n_shots.*got"),
    ({"validation_fraction": 1.0}, "validation_fraction"),
    ({"early_stopping": "yes"}, "early_stopping"),
    ({"lr_schedule": "zigzag"}, "lr_schedule"),
    ({"module": 3}, "module"),
    ({"module_params": [1]}, "module_params"),
    ({"callbacks": "print"}, "callbacks"),
    ({"device": 1.5}, "device"),
    ({"random_state": "now"}, "random_state"),
]


@pytest.mark.parametrize(("params", "match"), BAD_PARAMETERS, ids=str)
def test_fit_when_a_parameter_is_bad_names_it(trained, params, match):
    """Before any time is spent on training."""
    trained.set_params(**params)
    tasks = tasks_for(trained)
    assert_raises_and_leaves(trained, lambda: trained.fit(tasks), match)


@pytest.mark.parametrize(
    ("estimator_class", "params", "match"),
    [
        (MAMLClassifier, {"variant": "mamal"}, "variant"),
        (MAMLRegressor, {"inner_lr": 0}, "inner_lr"),
        (MAMLRegressor, {"inner_lr": 1e300}, "inner_lr"),
        (MAMLRegressor, {"inner_steps": -1}, "inner_steps"),
        (MAMLRegressor, {"adapt_steps": 1.5}, "adapt_steps"),
        (MAMLRegressor, {"hidden_layer_sizes": (0,)}, "hidden_layer_sizes"),
        (MAMLRegressor, {"hidden_layer_sizes": ("wide",)}, "hidden_layer_sizes"),
        (MAMLRegressor, {"activation": "sine"}, "activation"),
        (ProtoNetClassifier, {"distance": "taxicab"}, "distance"),
        (ProtoNetClassifier, {"label_mode": "both"}, "label_mode"),
        (ProtoNetClassifier, {"n_ways": 1}, "n_ways"),
        (ModelBasedMetaRegressor, {"architecture": "rnn"}, "architecture"),
        (ModelBasedMetaRegressor, {"hidden_size": 0}, "hidden_size"),
        (
            ModelBasedMetaClassifier,
            {"architecture": "transformer", "hidden_size": 8, "n_heads": 3},
            "multiple of n_heads.*hidden_size=8 and n_heads=3",
        ),
    ],
    ids=str,
)
def test_fit_when_a_parameter_of_a_family_is_bad_names_it(
    estimator_class, params, match
):
    """The same for what only some estimators have."""
    estimator = small(estimator_class, **params)
    tasks = tasks_for(estimator)
    assert_raises_and_leaves(estimator, lambda: estimator.fit(tasks), match)


def test_fit_when_fitted_before_and_input_is_bad_still_predicts(fitted, tasks):
    """A failed refit must not cost the model that works."""
    X = tasks[1].X
    before = outputs(fitted, X)
    bad = changed(tasks, 3, lambda X, y: with_value(X, y, np.nan))
    assert_raises_and_leaves(fitted, lambda: fitted.fit(bad), "In task 't3'")
    wide = [(np.c_[X, X], y) for X, y in tasks]
    fitted.set_params(n_shots=(5, 2))
    assert_raises_and_leaves(fitted, lambda: fitted.fit(wide), "n_shots")
    np.testing.assert_array_equal(outputs(fitted, X), before)


def test_fit_when_the_users_own_code_fails_leaves_the_estimator(trained):
    """An error in the middle of training."""
    tasks = tasks_for(trained)
    fitted = trained.fit(tasks).adapt(*tasks[0])
    fitted.set_params(optimizer=raise_disk_full)
    call = lambda: fitted.fit(tasks)  # noqa: E731
    assert_raises_and_leaves(fitted, call, "disk full", RuntimeError)


def raise_disk_full(*args, **kwargs):
    """Stand in for an optimizer that cannot be built."""
    raise RuntimeError("disk full")


def test_fit_when_a_callback_is_a_function_says_what_is_one(trained):
    """skorch would miss its set_params."""
    trained.set_params(callbacks=[print])
    match = "Expected callbacks of skorch, got builtin_function_or_method. Write a sub"
    call = lambda: trained.fit(tasks_for(trained))  # noqa: E731
    assert_raises_and_leaves(trained, call, match, TypeError)


@pytest.mark.parametrize(
    "mixture_class", [MetaStackingClassifier, MetaStackingRegressor]
)
def test_fit_of_a_mixture_when_members_have_no_names_says_so(mixture_class):
    """As in the ensembles of scikit-learn, parameters are set by name."""
    (_, member), _ = small(mixture_class).estimators
    mixture = mixture_class([member])
    match = r"Expected estimators as a list of \(name, estimator\), got "
    call = lambda: mixture.fit(tasks_for(mixture))  # noqa: E731
    assert_raises_and_leaves(mixture, call, match, TypeError)


@each_classifier
def test_adapt_when_there_is_a_row_per_class_of_texts_does_not_warn(estimator_class):
    """scikit-learn takes many labels of few rows for a number to predict."""
    letters = np.array([chr(65 + i) for i in range(24)], dtype=object)
    model = small(estimator_class, label_mode="task").fit(class_tasks(labels=letters))
    X = np.random.default_rng(0).normal(size=(24, 2))
    assert len(model.adapt(X, letters).classes_) == 24
    assert len(model.adapt(X, pd.Series(letters)).classes_) == 24


def test_early_stopping_when_there_is_one_table_says_what_to_do(trained):
    """Nothing can be held out of one table of three classes."""
    trained.set_params(early_stopping=True)
    X, y = tasks_for(trained)[0]
    match = "early_stopping=True.*Use .*'auto' or False"
    assert_raises_and_leaves(trained, lambda: trained.fit(X, y), match)


def test_score_when_rows_have_no_ids_and_no_adaptation_says_what_to_do(
    estimator, tasks
):
    """Scoring flat rows needs either."""
    X, y, _ = tasks.to_flat()
    estimator.fit(tasks)
    match = r"score\(X, y, tasks=ids\)"
    call = lambda: estimator.score(X, y)  # noqa: E731
    assert_raises_and_leaves(estimator, call, match, NotAdaptedError)
