"""AdaptedClassifier and AdaptedRegressor: one new task through any tool."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks
from small_estimators import class_tasks, regression_tasks, small

from sklearn_meta import (
    AdaptedClassifier,
    AdaptedRegressor,
    MAMLClassifier,
    MAMLRegressor,
    NotAdaptedError,
    ProtoNetClassifier,
    adapt,
)
from sklearn_meta.metrics import few_shot_score
from sklearn_meta.pipeline import make_meta_pipeline


@pytest.fixture(scope="module")
def classifier():
    """A classifier that has learned across tasks with the labels 0 and 1."""
    return small(ProtoNetClassifier).fit(class_tasks(labels=(0, 1)))


@pytest.fixture(scope="module")
def regressor():
    """A regressor that has learned across tasks."""
    return small(MAMLRegressor).fit(regression_tasks())


@pytest.fixture
def classes():
    """One new task with two classes and 12 rows."""
    return class_tasks(3, labels=(0, 1), seed=7)[2]


@pytest.fixture
def numbers():
    """One new task with a number to predict and 12 rows."""
    return regression_tasks(5, seed=7)[4]


@parametrize_with_checks(
    [AdaptedClassifier(LogisticRegression()), AdaptedRegressor(Ridge())]
)
def test_scikit_learn_checks_pass(estimator, check):
    # Around an ordinary estimator it is one itself, with no expected failure.
    check(estimator)


# ---------------------------------------------------------------- fit means adapt


def test_fit_when_called_then_predicts_as_adapt_does(classifier, classes):
    # The wrapper adds nothing to what `adapt` says.
    X, y = classes
    wrapped = AdaptedClassifier(classifier).fit(X, y)
    expected = adapt(classifier, X, y)
    np.testing.assert_array_equal(wrapped.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(wrapped.predict(X), expected.predict(X))
    np.testing.assert_array_equal(wrapped.classes_, [0, 1])
    assert wrapped.n_features_in_ == 2
    assert wrapped.score(X, y) == expected.score(X, y)


def test_predict_when_regressor_then_has_spread_and_quantiles(regressor, numbers):
    # What the meta estimator can say must not be lost on the way.
    X, y = numbers
    wrapped = AdaptedRegressor(regressor).fit(X, y)
    mean, std = wrapped.predict(X, return_std=True)
    np.testing.assert_array_equal(mean, wrapped.predict(X))
    assert (std > 0).all()
    assert wrapped.predict_quantiles(X, [0.1, 0.9]).shape == (len(X), 2)
    assert not hasattr(AdaptedRegressor(Ridge()), "predict_quantiles")


def test_fit_when_repeated_then_meta_estimator_is_unchanged(classifier, classes):
    # One meta estimator serves any number of wrappers.
    before = set(vars(classifier))
    X, y = classes
    first = AdaptedClassifier(classifier).fit(X, y)
    expected = first.predict_proba(X)
    AdaptedClassifier(classifier).fit(X, 1 - y)
    np.testing.assert_array_equal(first.predict_proba(X), expected)
    assert set(vars(classifier)) == before
    with pytest.raises(NotAdaptedError):
        classifier.predict(X)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_predict_when_not_fitted_then_raises(classifier, classes, method):
    # There is no task yet.
    with pytest.raises(NotFittedError):
        getattr(AdaptedClassifier(classifier), method)(classes.X)


def test_fit_when_meta_estimator_is_not_fitted_then_says_what_to_call(classes):
    # An untrained model would pass for one that has learned across tasks.
    with pytest.raises(NotFittedError, match="call `fit` with the tasks"):
        AdaptedClassifier(ProtoNetClassifier()).fit(*classes)


def test_fit_when_kind_differs_then_names_the_right_wrapper(classes):
    # Tools decide by the kind how to split and score.
    with pytest.raises(TypeError, match="Use AdaptedRegressor"):
        AdaptedClassifier(MAMLRegressor()).fit(*classes)
    with pytest.raises(TypeError, match="Use AdaptedClassifier"):
        AdaptedRegressor(MAMLClassifier()).fit(*classes)


def test_fit_when_tasks_are_given_then_names_the_route_that_works(classifier):
    # A search over tasks with this wrapper is a mix-up of two routes.
    with pytest.raises(ValueError, match="few_shot_scorer to the tool"):
        AdaptedClassifier(classifier).fit(class_tasks(labels=(0, 1)), None)


def test_fit_when_labels_were_numbered_by_a_tool_then_says_so():
    # StackingClassifier fits on 0, 1, ... where the tasks had "a", "b", "c".
    meta = small(ProtoNetClassifier).fit(class_tasks())
    X, y = class_tasks(1, seed=7)[0]
    stack = StackingClassifier([("meta", AdaptedClassifier(meta))])
    with pytest.raises(ValueError, match=r"VotingClassifier.*codes=np.unique\(y\)"):
        stack.fit(X, y)


# ---------------------------------------------------------------- clones


def test_codes_when_given_then_numbers_stand_for_labels(rng):
    # a class that the task lacks has no number, and no probability
    meta = small(ProtoNetClassifier).fit(class_tasks(labels=("a", "b", "c")))
    X, y = rng.normal(size=(6, 2)), np.array([0, 1, 0, 1, 0, 1])
    model = AdaptedClassifier(meta, codes=["a", "c"]).fit(X, y)
    assert model.classes_.tolist() == [0, 1]
    expected = adapt(meta, X, np.array(["a", "c"])[y]).predict_proba(X)[:, [0, 2]]
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(X), expected)
    np.testing.assert_array_equal(model.predict(X), expected.argmax(1))
    assert clone(model).codes == ["a", "c"]


def test_codes_when_a_fold_lacks_a_label_then_it_has_no_probability(classifier, rng):
    # local labels are those of the rows of `fit`, the tool's are those of the task
    meta = small(ProtoNetClassifier, label_mode="task").fit(class_tasks())
    X, y = rng.normal(size=(4, 2)), np.array([0, 2, 0, 2])
    model = AdaptedClassifier(meta, codes=["x", "y", "z"]).fit(X, y)
    proba = model.predict_proba(X)
    np.testing.assert_array_equal(proba[:, 1], 0)
    np.testing.assert_allclose(proba.sum(1), 1)
    assert set(model.predict(X)) <= {0, 2}


def test_codes_when_the_wrapped_has_no_probabilities_then_labels_are_numbered(rng):
    # an ordinary classifier is cloned and fitted
    X = rng.normal(size=(20, 2))
    y = (X[:, 0] > 0).astype(int)
    model = AdaptedClassifier(LinearSVC(), codes=["no", "yes"]).fit(X, y)
    assert (model.predict(X) == y).mean() > 0.8


@pytest.mark.parametrize(
    ("codes", "y", "message"),
    [
        (["a", "a"], [0, 1], "Expected distinct labels as codes"),
        (
            ["a", "b"],
            ["a", "b"],
            "the numbers 0 to 1.*got 'a'. Set codes=None",
        ),
        (["a", "b"], [0, 2], "got 2"),
        (["a", "b"], [0, 0.5], "got 0.5"),
        (["a", "q"], [0, 1], "The label 'q' was not seen across tasks"),
    ],
)
def test_codes_when_wrong_then_say_what_is_expected(codes, y, message):
    # labels under wrong names would be learned without a word
    meta = small(ProtoNetClassifier).fit(class_tasks(labels=("a", "b")))
    with pytest.raises(ValueError, match=message):
        AdaptedClassifier(meta, codes=codes).fit(np.eye(2), y)


def test_clone_when_made_then_shares_weights_and_no_parameter(classifier):
    # A search sets parameters on clones: the user's object must not see them.
    original = AdaptedClassifier(classifier)
    copied = clone(original).set_params(meta_estimator__n_shots=77)
    assert classifier.n_shots != 77
    assert copied.meta_estimator.learner_ is classifier.learner_
    assert not hasattr(copied, "estimator_")


def test_clone_when_pipeline_then_parameters_inside_are_its_own():
    # The steps of a shallow copy are those of the original.
    tasks = class_tasks(labels=(0, 1))
    pipeline = make_meta_pipeline(StandardScaler(), small(ProtoNetClassifier))
    pipeline.fit(tasks)
    copied = clone(AdaptedClassifier(pipeline))
    copied.set_params(meta_estimator__protonetclassifier__n_shots=77)
    assert pipeline[-1].n_shots != 77
    copied.set_params(meta_estimator__standardscaler=None)
    assert isinstance(pipeline[0], StandardScaler)


def test_pickle_when_fitted_then_predicts_the_same(classifier, classes):
    # It is served like any other model.
    wrapped = AdaptedClassifier(classifier).fit(*classes)
    loaded = pickle.loads(pickle.dumps(wrapped))
    expected = wrapped.predict_proba(classes.X)
    np.testing.assert_array_equal(loaded.predict_proba(classes.X), expected)


# ---------------------------------------------------------------- scikit-learn's tools


@pytest.mark.parametrize("scoring", [None, "neg_log_loss", "roc_auc"])
def test_cross_val_score_when_one_task_then_any_scorer_works(
    classifier, classes, scoring
):
    # The clones of the folds must know what was learned across tasks.
    X, y = classes
    scores = cross_val_score(
        AdaptedClassifier(classifier), X, y, cv=3, scoring=scoring, error_score="raise"
    )
    assert scores.shape == (3,) and np.isfinite(scores).all()


def test_cross_val_predict_when_one_task_then_is_adapt_on_each_fold(regressor, numbers):
    # The answer by hand: adapt to the other rows, predict the held-out one.
    X, y = numbers
    found = cross_val_predict(AdaptedRegressor(regressor), X, y, cv=len(X))
    others = np.arange(len(X)) != 3
    expected = adapt(regressor, X[others], y[others]).predict(X[3:4])
    np.testing.assert_allclose(found[3:4], expected)


def test_grid_search_when_over_steps_of_adapt_then_leaves_the_original(
    regressor, numbers
):
    # A parameter that acts at adapt is tuned on the rows of the task.
    X, y = numbers
    search = GridSearchCV(
        AdaptedRegressor(regressor), {"meta_estimator__adapt_steps": [0, 5]}, cv=3
    ).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] != scores[1]
    assert regressor.adapt_steps is None


def test_learning_curve_when_one_task_then_sizes_are_rows(regressor, numbers):
    # More support rows, another score.
    X, y = numbers
    sizes, _, scores = learning_curve(
        AdaptedRegressor(regressor), X, y, cv=3, train_sizes=[2, 6]
    )
    assert sizes.tolist() == [2, 6] and np.isfinite(scores).all()


@pytest.mark.parametrize("tool", [StackingClassifier, VotingClassifier])
def test_ensemble_when_member_is_adapted_then_works(classifier, classes, tool):
    # A meta-learned member beside an ordinary one, on the rows of one task.
    X, y = classes
    members = [("meta", AdaptedClassifier(classifier)), ("own", LogisticRegression())]
    model = tool(members).fit(X, y)
    assert model.score(X, y) > 0.5


def test_stacking_when_regressors_then_works(regressor, numbers):
    # The weights of the members come from held-out rows of the task.
    X, y = numbers
    members = [("meta", AdaptedRegressor(regressor)), ("own", Ridge())]
    model = StackingRegressor(members, final_estimator=LinearRegression()).fit(X, y)
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("ensemble", [True, False])
def test_calibration_when_one_task_then_gives_probabilities(
    classifier, classes, ensemble
):
    # Each fold adapts a clone and calibrates it on the other rows.
    X, y = classes
    model = CalibratedClassifierCV(
        AdaptedClassifier(classifier), cv=3, ensemble=ensemble
    ).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1.0)


def test_tuned_threshold_when_one_task_then_finds_one(classifier, classes):
    # The threshold is chosen on held-out rows of the task.
    model = TunedThresholdClassifierCV(AdaptedClassifier(classifier), cv=3)
    model.fit(*classes)
    assert 0 <= model.best_threshold_ <= 1


def test_inspection_when_one_task_then_features_matter(regressor, numbers):
    # What the adapted model looks at can be asked with stock tools.
    X, y = numbers
    model = AdaptedRegressor(regressor).fit(X, y)
    importances = permutation_importance(model, X, y, random_state=0)
    assert importances.importances_mean.shape == (2,)
    curve = partial_dependence(model, X, features=[0], grid_resolution=5)
    assert curve["average"].shape == (1, 5)


def test_data_frame_when_given_then_names_are_known(classes):
    # A frame with other columns than those of the tasks is an error.
    frames = [
        (pd.DataFrame(X, columns=["a", "b"]), y) for X, y in class_tasks(labels=(0, 1))
    ]
    meta = small(ProtoNetClassifier).fit(frames)
    X = pd.DataFrame(classes.X, columns=["a", "b"])
    model = AdaptedClassifier(meta).fit(X, classes.y)
    assert model.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X.rename(columns={"a": "c"}))


# ---------------------------------------------------------------- sklearn_meta.adapt


def test_adapt_when_composite_holds_a_wrapper_then_fits_it_anew(regressor, numbers):
    # What `adapt` refuses for a bare meta estimator, since a clone would forget.
    X, y = numbers
    model = StackingRegressor([("meta", AdaptedRegressor(regressor))])
    np.testing.assert_array_equal(
        adapt(model, X, y).predict(X), clone(model).fit(X, y).predict(X)
    )
    bare = StackingRegressor([("meta", regressor)])
    with pytest.raises(TypeError, match="Wrap it into an AdaptedClassifier"):
        adapt(bare, X, y)


@pytest.mark.parametrize("fitted", [False, True])
def test_adapt_when_wrapper_is_in_a_pipeline_then_works(regressor, numbers, fitted):
    # Without a fit, the scaler too learns from the support rows alone.
    X, y = numbers
    target = TransformedTargetRegressor(AdaptedRegressor(regressor))
    for model in (make_pipeline(StandardScaler(), AdaptedRegressor(regressor)), target):
        expected = clone(model).fit(X, y).predict(X)
        model = model.fit(X, y) if fitted else model
        np.testing.assert_allclose(adapt(model, X, y).predict(X), expected)


def test_few_shot_score_when_wrapped_then_is_that_of_the_meta_estimator(regressor):
    # Wrapped and combined models are compared on the same episodes.
    tasks = regression_tasks(3, seed=7)
    assert few_shot_score(AdaptedRegressor(regressor), tasks) == pytest.approx(
        few_shot_score(regressor, tasks)
    )
