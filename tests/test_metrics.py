"""Few-shot scores: the right rows, the right metric, nothing in silence."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import get_scorer, log_loss, make_scorer, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from toy_estimators import AdaptOnlyRegressor, CentroidClassifier, ShiftRegressor

from sklearn_meta import ProtoNetClassifier
from sklearn_meta.adaptation import adapt
from sklearn_meta.metrics import few_shot_score, few_shot_scorer, paired_comparison
from sklearn_meta.model_selection import TaskKFold
from sklearn_meta.tasks import Task, TaskCollection, few_shot_split


@pytest.fixture
def lines(rng):
    """Eight tasks of one line with a shift of their own, and noise."""
    tasks = []
    for i in range(8):
        X = rng.normal(size=(10 + i, 2))
        y = X @ [1.0, 2.0] + 5 * rng.normal() + 0.5 * rng.normal(size=len(X))
        tasks.append(Task(X, y, name=f"task {i}"))
    return TaskCollection(tasks)


@pytest.fixture
def blobs(rng):
    """Six tasks of three classes around centres of their own."""
    tasks = []
    for i in range(6):
        y = np.repeat(["red", "green", "blue"], 8)
        X = rng.normal(size=(3, 2))[np.repeat([0, 1, 2], 8)] * 3
        tasks.append(Task(X + rng.normal(size=X.shape), y, name=i))
    return TaskCollection(tasks)


def by_hand(model, tasks, scoring, n_shots):
    """Adapt and score the first rows against the rest, one task after the other."""
    scores = []
    for X, y in tasks:
        Xs, Xq, ys, yq = few_shot_split(X, y, n_shots=n_shots, order="first")
        scores.append(get_scorer(scoring)(adapt(model, Xs, ys), Xq, yq))
    return np.array(scores)


@pytest.mark.parametrize(
    "scoring",
    ["r2", "neg_mean_squared_error", "neg_median_absolute_error", "neg_max_error"],
)
def test_few_shot_score_when_regression_then_equals_the_loop(scoring, lines):
    # All tasks at once must give what adapting one by one with the metric gives.
    model = ShiftRegressor().fit(lines)
    options = dict(scoring=scoring, n_shots=4, order="first", return_tasks=True)
    result = few_shot_score(model, lines, **options)
    np.testing.assert_allclose(result.scores, by_hand(model, lines, scoring, 4))
    assert result.score == pytest.approx(result.scores.mean())


@pytest.mark.parametrize(
    "scoring",
    ["accuracy", "balanced_accuracy", "f1_macro", "neg_log_loss", "roc_auc_ovr"],
)
def test_few_shot_score_when_classification_then_equals_the_loop(scoring, blobs):
    # Labels and probabilities must reach the metric as the estimator gives them.
    model = CentroidClassifier().fit(blobs)
    options = dict(scoring=scoring, n_shots=2, order="first", return_tasks=True)
    result = few_shot_score(model, blobs, **options)
    np.testing.assert_allclose(result.scores, by_hand(model, blobs, scoring, 2))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: make_pipeline(StandardScaler(), model),
        lambda model: TransformedTargetRegressor(model, transformer=StandardScaler()),
        FrozenEstimator,
    ],
    ids=["pipeline", "target", "frozen"],
)
def test_few_shot_score_when_composite_then_equals_the_loop(wrap, lines):
    # Vectorised adapting goes through the composites that `adapt` knows.
    X, y, _ = lines.to_flat()
    model = wrap(ShiftRegressor().fit(X, y)).fit(X, y)
    options = dict(scoring="r2", n_shots=4, order="first", return_tasks=True)
    result = few_shot_score(model, lines, **options)
    np.testing.assert_allclose(result.scores, by_hand(model, lines, "r2", 4))


def test_few_shot_score_when_there_are_many_tasks_then_adapts_and_predicts_once(
    lines, monkeypatch
):
    # No loop over tasks may adapt or predict: that is what makes it fast.
    calls = []
    for name in ("adapt_tasks", "predict"):
        method = getattr(ShiftRegressor, name)
        monkeypatch.setattr(
            ShiftRegressor,
            name,
            lambda *a, _f=method, _n=name, **k: calls.append(_n) or _f(*a, **k),
        )
    few_shot_score(ShiftRegressor().fit(lines), lines, n_episodes=2)
    assert calls == ["adapt_tasks", "predict"] * 2


def test_few_shot_score_when_names_come_in_any_form_then_is_the_same(lines):
    # The name of a task draws its rows, wherever it is written.
    model, (X, y, ids) = ShiftRegressor().fit(lines), lines.to_flat()
    expected = few_shot_score(model, lines)
    tasks = dict(zip(lines.names, lines, strict=True))
    assert few_shot_score(model, tasks) == expected
    assert few_shot_score(model, X, y, ids) == expected
    assert few_shot_score(model, X.tolist(), y.tolist(), ids.tolist()) == expected


@pytest.mark.parametrize("empty", [[], {}, TaskCollection([])], ids=repr)
def test_few_shot_score_when_there_is_no_task_then_says_so(empty):
    # Neither is the mean of nothing a score, nor do ids lack.
    with pytest.raises(ValueError, match="The collection is empty: at least one task"):
        few_shot_score(Ridge(), empty)


@pytest.mark.parametrize("model", [Ridge(), AdaptOnlyRegressor()], ids=str)
def test_few_shot_score_when_there_is_no_adapt_tasks_then_goes_task_by_task(
    model, lines
):
    # A baseline from scratch is scored on the same episodes.
    X, y, _ = lines.to_flat()
    options = dict(n_shots=4, order="first", return_tasks=True)
    result = few_shot_score(model.fit(X, y), lines, **options)
    np.testing.assert_allclose(result.scores, by_hand(model, lines, "r2", 4))


def test_few_shot_score_when_input_forms_differ_then_scores_are_equal(lines):
    # A collection, a list of tasks and flat rows in any order are the same tasks.
    model = ShiftRegressor().fit(lines)
    X, y, ids = lines.to_flat()
    expected = few_shot_score(model, lines)
    assert few_shot_score(model, list(lines)) == expected
    assert few_shot_score(model, X, y, ids) == expected
    assert (
        few_shot_score(model, pd.DataFrame(X), pd.Series(y), ids.tolist()) == expected
    )


@pytest.mark.parametrize("name", [str, int])
def test_episodes_when_tasks_are_few_or_in_other_order_then_stay_the_same(name, lines):
    # A fold of a search sees some of the tasks, in another place.
    tasks = [Task(X, y, name(i)) for i, (X, y) in enumerate(lines)]
    model = ShiftRegressor().fit(lines)
    every = few_shot_score(model, tasks, return_tasks=True).scores
    some = few_shot_score(model, [tasks[5], tasks[2]], return_tasks=True).scores
    np.testing.assert_allclose(some, every[[5, 2]])


def test_episodes_when_tasks_have_no_names_then_targets_stand_for_them(lines):
    # A list of bare (X, y) has nothing else that survives a split.
    pairs = [tuple(task) for task in lines]
    model = ShiftRegressor().fit(lines)
    every = few_shot_score(model, pairs, return_tasks=True).scores
    some = few_shot_score(model, pairs[3:], return_tasks=True).scores
    np.testing.assert_allclose(some, every[3:])


def test_episodes_when_random_state_differs_then_scores_differ(lines):
    # The seed is not decoration.
    model = ShiftRegressor().fit(lines)
    assert few_shot_score(model, lines) == few_shot_score(model, lines)
    assert few_shot_score(model, lines) != few_shot_score(model, lines, random_state=1)


def test_n_episodes_when_two_then_is_the_mean_over_both(lines):
    # More draws of the same tasks average out which rows were known.
    seen = []

    def scoring(estimator, X, y):
        seen.append(r2_score(y, estimator.predict(X)))
        return seen[-1]

    result = few_shot_score(
        ShiftRegressor().fit(lines),
        lines,
        scoring=scoring,
        n_episodes=2,
        return_tasks=True,
    )
    np.testing.assert_allclose(result.scores, np.reshape(seen, (2, 8)).mean(0))
    assert seen[0] != seen[8]


def test_n_queries_when_given_then_so_many_rows_are_scored(blobs):
    # Two queries of each of three classes.
    model = CentroidClassifier().fit(blobs)
    scorer = few_shot_scorer(lambda est, X, y: len(y), n_shots=1, n_queries=2)
    assert scorer(model, blobs) == 6


def test_stratify_when_targets_are_whole_numbers_then_follows_the_model(lines):
    # Counts look like labels to scikit-learn; a regressor's are not.
    tasks = [(X, np.round(y)) for X, y in lines]
    assert few_shot_score(ShiftRegressor().fit(lines), tasks, n_shots=5) < 1


@pytest.mark.parametrize(
    ("aggregate", "function"),
    [("mean", np.mean), ("median", np.median), (np.min, np.min)],
)
def test_aggregate_when_chosen_then_makes_the_score(aggregate, function, lines):
    # The median says what a typical task gets.
    model = ShiftRegressor().fit(lines)
    result = few_shot_score(model, lines, aggregate=aggregate, return_tasks=True)
    assert result.score == function(result.scores)
    assert few_shot_score(model, lines, aggregate=aggregate) == result.score


def test_score_when_tasks_differ_in_size_then_each_counts_the_same():
    # Pooling the rows of all tasks would let a large task outvote the others.
    tasks = [(np.zeros((4, 1)), np.zeros(4)), (np.zeros((99, 1)), np.ones(99))]
    score = few_shot_score(
        Ridge(), tasks, scoring=lambda est, X, y: y.mean(), n_shots=2
    )
    assert score == 0.5


def test_return_tasks_when_true_then_interval_is_students_over_tasks(lines):
    # The interval is over tasks, since tasks are what is drawn.
    result = few_shot_score(ShiftRegressor().fit(lines), lines, return_tasks=True)
    expected = stats.t.interval(
        0.95, 7, loc=result.scores.mean(), scale=stats.sem(result.scores)
    )
    np.testing.assert_allclose(result.interval, expected)
    assert result.standard_error == pytest.approx(stats.sem(result.scores))
    assert result.tasks == lines.names
    assert result.n_episodes == 1


def test_log_loss_when_queries_have_one_class_then_is_scored():
    # Few query rows often have one class; the model knows of the others.
    X = np.array([[0.0], [4.0], [0.1], [0.2]])
    tasks = [(X, np.array([0, 1, 0, 0]))]
    model = CentroidClassifier().fit(X, [0, 1, 0, 0])
    score = few_shot_score(
        model, tasks, scoring="neg_log_loss", n_shots=2, stratify=False, order="first"
    )
    proba = adapt(model, X[:2], [0, 1]).predict_proba(X[2:])
    assert score == pytest.approx(-log_loss([0, 0], proba, labels=[0, 1]))


def test_log_loss_when_baseline_has_all_classes_then_is_scored():
    # The baseline from scratch gets the same help with the labels.
    X = np.array([[0.0], [4.0], [0.1], [0.2]])
    score = few_shot_score(
        LogisticRegression(),
        [(X, np.array([0, 1, 0, 0]))],
        scoring="neg_log_loss",
        n_shots=2,
        stratify=False,
        order="first",
    )
    assert -1 < score < 0


def with_one_dull_task(blobs):
    """Give tasks of two classes, and one more that has one class."""
    kept = [np.isin(task.y, ["red", "green"]) for task in blobs]
    tasks = [(t.X[k], t.y[k]) for t, k in zip(blobs, kept, strict=True)]
    return [*tasks, (tasks[0][0], np.repeat("red", 16))]


def test_undefined_score_when_some_tasks_then_left_out_with_a_warning(blobs):
    # A ranking of one class does not exist, and must not pass for a bad one.
    tasks = with_one_dull_task(blobs)
    model = CentroidClassifier().fit(tasks)
    options = dict(scoring="roc_auc", n_shots=1, stratify=False, return_tasks=True)
    with pytest.warns(UndefinedMetricWarning, match="in 1 of 7 tasks, which are left"):
        with pytest.warns(UndefinedMetricWarning, match="Only one class"):
            result = few_shot_score(model, tasks, **options)
    assert np.isnan(result.scores[6])
    assert result.mean == result.score == pytest.approx(result.scores[:6].mean())


def test_undefined_score_when_all_tasks_then_is_nan(lines):
    # There is nothing to average.
    tasks = [(X[:5], y[:5]) for X, y in lines]
    with pytest.warns(UndefinedMetricWarning):
        score = few_shot_score(ShiftRegressor().fit(lines), tasks, n_shots=4)
    assert np.isnan(score)


def test_task_labels_when_local_then_each_task_is_scored_on_its_own(rng):
    # With local labels two tasks may share no class, and `classes_` is their union.
    tasks = []
    for i in range(6):
        y = np.repeat([f"{i}a", f"{i}b", f"{i}c"][: 2 + i % 2], 8)
        X = np.where(y == y[0], 0.0, 3.0)[:, None] + rng.normal(size=(len(y), 2))
        tasks.append(Task(X, y, name=i))
    model = ProtoNetClassifier(max_iter=5, label_mode="task", random_state=0).fit(tasks)
    options = dict(n_shots=3, order="first", return_tasks=True)
    for scoring in ("accuracy", "neg_log_loss"):
        result = few_shot_score(model, tasks, scoring=scoring, **options)
        np.testing.assert_allclose(result.scores, by_hand(model, tasks, scoring, 3))


def test_scoring_when_callable_asks_for_more_than_the_queries_then_gets_it(lines):
    # A metric may need the uncertainty, or look at rows of its own.
    def scoring(estimator, X, y):
        mean, std = estimator.predict(X, return_std=True)
        np.testing.assert_array_equal(estimator.predict(X[:2]), mean[:2])
        return std.sum() - len(y)

    model = ShiftRegressor().fit(lines)
    assert few_shot_score(model, lines, scoring=scoring) == 0


def test_scoring_when_none_then_is_the_own_metric(lines, blobs):
    # As `score` of any estimator: accuracy for classifiers, R2 for regressors.
    regressor, classifier = ShiftRegressor().fit(lines), CentroidClassifier().fit(blobs)
    assert few_shot_score(regressor, lines) == few_shot_score(
        regressor, lines, scoring="r2"
    )
    assert few_shot_score(classifier, blobs) == few_shot_score(
        classifier, blobs, scoring="accuracy"
    )


def test_scorer_when_names_repeat_then_tasks_stay_apart(lines):
    # A bootstrap over tasks draws some twice.
    model = ShiftRegressor().fit(lines)
    twice = few_shot_score(model, lines[[0, 0, 1]], return_tasks=True).scores
    once = few_shot_score(model, lines[[0, 1]], return_tasks=True).scores
    np.testing.assert_allclose(twice, once[[0, 0, 1]])


def test_scorer_when_pickled_then_scores_the_same(lines):
    # Workers of n_jobs=2 get a copy.
    scorer = few_shot_scorer("neg_mean_absolute_error", n_shots=3)
    model = ShiftRegressor().fit(lines)
    assert pickle.loads(pickle.dumps(scorer))(model, lines) == scorer(model, lines)


def test_scorer_when_shown_then_has_a_name():
    # LearningCurveDisplay labels its axis with it.
    assert few_shot_scorer("r2").__name__ == "few_shot_r2"
    assert few_shot_scorer(make_scorer(r2_score)).__name__ == "few_shot_score"
    assert few_shot_scorer().__name__ == "few_shot_score"
    assert "n_shots=5" in repr(few_shot_scorer())


def test_scorer_when_rows_have_no_ids_then_says_what_to_set(lines):
    # With routing off tools keep `tasks` to themselves: no number may come out.
    X, y, _ = lines.to_flat()
    model = ShiftRegressor().fit(lines)
    with pytest.raises(
        ValueError, match="few_shot_r2 got rows.*enable_metadata_routing"
    ):
        few_shot_scorer("r2")(model, X, y)


def test_scorer_when_routing_is_on_then_ids_arrive(lines, metadata_routing):
    # scikit-learn reads the request from a method called `score`, or not at all.
    X, y, ids = lines.to_flat()
    scores = cross_val_score(
        ShiftRegressor(),
        X,
        y,
        params={"tasks": ids},
        scoring=few_shot_scorer(),
        cv=TaskKFold(2),
    )
    assert np.isfinite(scores).all()


def test_scorer_when_jobs_are_two_then_scores_are_those_of_one(lines):
    # The same episodes for every candidate, whoever scores it.
    def search(n_jobs):
        grid = {"prior_rows": [0.0, 1.0, 5.0]}
        return GridSearchCV(
            ShiftRegressor(), grid, scoring=few_shot_scorer(), cv=2, n_jobs=n_jobs
        ).fit(lines)

    one, two = (search(n).cv_results_["mean_test_score"] for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_scorer_when_task_is_too_small_then_names_it(lines):
    # One short table must be found among hundreds.
    tasks = TaskCollection([*lines, Task(np.zeros((3, 2)), np.zeros(3), "short")])
    with pytest.raises(ValueError, match="Task 'short' has 3 rows; 6 are needed"):
        few_shot_score(ShiftRegressor().fit(lines), tasks)


def test_scorer_when_baseline_fails_then_says_in_which_task():
    # An error from deep inside an ordinary estimator knows nothing of tasks.
    tasks = [Task(np.full((4, 1), np.nan), np.array([0, 1, 0, 1]), "dull")]
    options = dict(n_shots=2, stratify=False, order="first")
    with pytest.raises(ValueError) as info:
        few_shot_score(LogisticRegression(), tasks, **options)
    assert info.value.__notes__ == ["This happened in task 'dull'."]


@pytest.mark.parametrize("labels", ["wwiw", "wwww"])
@pytest.mark.parametrize("model", [LogisticRegression(), KNeighborsClassifier(1)])
def test_scorer_when_support_lacks_a_class_then_says_what_to_do(model, labels):
    # Rows that are drawn without regard to class easily are of one class.
    tasks = [Task(np.arange(4.0)[:, None], np.array(list(labels)), "Cork")]
    options = dict(n_shots=2, stratify=False, order="first", scoring="roc_auc")
    match = r"In task 'Cork', whose support has rows of \['w'\] only: .*stratify=True"
    with pytest.raises(ValueError, match=match):
        few_shot_score(model, tasks, **options)


def test_scorer_when_model_is_not_fitted_then_raises(lines):
    # There is nothing to adapt yet.
    with pytest.raises(NotFittedError, match="call `fit`"):
        few_shot_score(ShiftRegressor(), lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_shots": 0}, "n_shots to be an int of at least 1, got 0"),
        ({"n_shots": 2.5}, "n_shots to be an int of at least 1, got 2.5"),
        ({"n_queries": 0}, "n_queries to be an int of at least 1"),
        ({"n_episodes": True}, "n_episodes to be an int of at least 1"),
        ({"random_state": None}, "random_state to be an int of at least 0, got None"),
        ({"order": "last"}, "'random' or 'first', got 'last'"),
        ({"aggregate": "max"}, "'mean', 'median' or a callable, got 'max'"),
        ({"scoring": ["r2"]}, "a name, a callable or None"),
        ({"scoring": "r3"}, "r3"),
        ({"scoring": r2_score}, r"scoring=make_scorer\(r2_score\)"),
        (
            {"scoring": lambda y_true, y_pred: 0.0},
            r"called as scoring\(estimator, X, y\)",
        ),
    ],
)
def test_few_shot_scorer_when_parameter_is_wrong_then_says_what_is_expected(
    options, message
):
    # Found out when the scorer is made, not after hours of a search.
    with pytest.raises(ValueError, match=message):
        few_shot_scorer(**options)


def test_paired_comparison_when_models_are_alike_then_is_sharper_than_the_scores(lines):
    # What both models find hard cancels.
    a, b = (
        few_shot_score(ShiftRegressor(prior).fit(lines), lines, return_tasks=True)
        for prior in (0.0, 0.1)
    )
    result = paired_comparison(a, b)
    np.testing.assert_allclose(result.differences, a.scores - b.scores)
    expected = stats.ttest_rel(a.scores, b.scores).confidence_interval()
    np.testing.assert_allclose(result.interval, expected)
    assert result.standard_error < a.standard_error


def test_paired_comparison_when_episodes_differ_then_raises(lines):
    # Unpaired scores would give an interval that means nothing.
    model = ShiftRegressor().fit(lines)
    a, b = (few_shot_score(model, lines, n_shots=n, return_tasks=True) for n in (3, 4))
    with pytest.raises(ValueError, match="on the same episodes"):
        paired_comparison(a, b)
    with pytest.raises(ValueError, match="on the same tasks"):
        paired_comparison(a, few_shot_score(model, lines[:4], return_tasks=True))
    with pytest.raises(ValueError, match=r"shape \(8,\) and \(2,\)"):
        paired_comparison(a, [0.1, 0.2])


def test_paired_comparison_when_a_score_is_missing_then_it_is_left_out():
    # A task without a score in one of the models says nothing about the difference.
    result = paired_comparison([1.0, np.nan, 3.0], [0.0, 0.0, 0.0])
    assert result.mean == 2.0
    assert np.isnan(result.differences[1])


def test_paired_comparison_when_scores_are_infinite_then_no_warning_leaves():
    # A log loss of a certain error is infinite; two of them have no difference.
    result = paired_comparison([-np.inf, -np.inf, 1.0], [-np.inf, 0.0, 0.0])
    assert np.isnan(result.differences[0])
    assert result.mean == -np.inf and np.isnan(result.standard_error)
    assert np.isnan(paired_comparison([np.inf, -np.inf], [0.0, 0.0]).mean)
    assert paired_comparison([1e300, 1e300], [-1e300, 1e300]).mean == 1e300


def test_interval_when_there_is_one_task_then_is_unknown():
    # One task does not tell how tasks differ.
    result = paired_comparison([1.0], [0.0])
    assert result.mean == 1.0
    assert np.isnan(result.interval).all()


def test_few_shot_score_when_collection_is_lazy_then_each_task_is_read_once(lines):
    # Reading a task may mean reading a file.
    read = []

    class Lazy(list):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    tasks = TaskCollection(Lazy(lines), names=lines.names)
    few_shot_score(ShiftRegressor().fit(lines), tasks, n_episodes=3)
    assert read == list(range(8))
