"""Ensembles over tasks: any scikit-learn model, kept per task and weighed."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR
from small_estimators import class_tasks, outputs, regression_tasks, small

from sklearn_meta import (
    TaskCollection,
    TaskEnsembleClassifier,
    TaskEnsembleRegressor,
)
from sklearn_meta.estimators import kept_models
from sklearn_meta.exceptions import FewTasksWarning
from sklearn_meta.metrics import few_shot_score, few_shot_scorer


def two_kinds_of_line(n_tasks=20, seed=0):
    """Return tasks whose slope is 3 or -3: old models are right or wrong."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        X = rng.normal(size=(20, 1))
        tasks.append((X, (-1) ** i * 3 * X[:, 0] + 0.1 * rng.normal(size=20)))
    return TaskCollection(tasks)


def two_kinds_of_classes(n_tasks=20, seed=0):
    """Return tasks in which the sign of the feature means one class or the other."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        X = rng.normal(size=(40, 1))
        tasks.append((X, np.where((X[:, 0] > 0) ^ (i % 2 == 0), "no", "yes")))
    return TaskCollection(tasks)


def ridge_ensemble(**params):
    """Return a regressor whose fit takes a moment."""
    return TaskEnsembleRegressor(Ridge(alpha=0.1), random_state=0, **params)


@pytest.mark.parametrize("correction", ["none", "shift"])
@pytest.mark.parametrize("base", [Ridge(alpha=0.1), SVR(C=10)], ids=["ridge", "svr"])
def test_regressor_when_tasks_are_of_two_kinds_finds_the_kind(base, correction):
    """One model for all predicts zero; four rows tell which old models are right."""
    tasks = two_kinds_of_line()
    X, y, _ = tasks[:14].to_flat()
    model = TaskEnsembleRegressor(base, correction=correction, random_state=0)
    pooled = FrozenEstimator(clone(base).fit(X, y))
    scores = [
        few_shot_score(m, tasks[14:], n_shots=4)
        for m in (model.fit(tasks[:14]), pooled)
    ]
    assert scores[0] > 0.85
    assert scores[1] < 0.2


@pytest.mark.parametrize("correction", ["none", "shift"])
def test_classifier_when_tasks_are_of_two_kinds_finds_the_kind(correction):
    """The same with classes, and with a forest."""
    tasks = two_kinds_of_classes()
    forest = RandomForestClassifier(10)
    model = TaskEnsembleClassifier(forest, correction=correction, random_state=0)
    score = few_shot_score(model.fit(tasks[:14]), tasks[14:], n_shots=2)
    assert score > 0.9


def test_weights_say_which_old_tasks_the_new_one_is_like():
    """They are what a user looks at to understand the prediction."""
    tasks = two_kinds_of_line()
    model = ridge_ensemble().fit(tasks[:14]).adapt(tasks[14].X[:5], tasks[14].y[:5])
    assert model.weights_.shape == (1, 15)
    np.testing.assert_allclose(model.weights_.sum(), 1)
    alike = [0, *(i + 1 for i, name in enumerate(model.model_tasks_) if not name % 2)]
    assert model.weights_[0, alike].sum() > 0.99


def test_shift_when_tasks_differ_by_a_constant_is_learned():
    """Each task's constant is far from those of the old tasks."""
    tasks = TaskCollection(
        [(X, y + 20 * i) for i, (X, y) in enumerate(regression_tasks(20))]
    )
    errors = [
        -few_shot_score(
            ridge_ensemble(correction=correction).fit(tasks[:14]),
            tasks[14:],
            scoring="neg_mean_squared_error",
            n_shots=5,
        )
        for correction in ("none", "shift")
    ]
    assert errors[1] < errors[0] / 100


def test_std_when_tasks_are_new_fits_the_errors():
    """One row must not make the ensemble sure of itself."""
    tasks = two_kinds_of_line(60)
    model = ridge_ensemble().fit(tasks[:40])
    scaled = []
    for X, y in tasks[40:]:
        mean, std = model.adapt(X[:1], y[:1]).predict(X[1:], return_std=True)
        scaled.append((y[1:] - mean) / std)
    assert 0.6 < np.sqrt(np.mean(np.square(scaled))) < 1.4


def test_class_shift_when_frequencies_differ_between_tasks_helps():
    """The features say nothing; the support says which class is frequent."""
    rng = np.random.default_rng(0)
    tasks = TaskCollection(
        [
            (rng.normal(size=(40, 1)), rng.choice(2, 40, p=[p, 1 - p]))
            for p in np.tile([0.1, 0.9], 15)
        ]
    )
    losses = [
        -few_shot_score(
            TaskEnsembleClassifier(
                LogisticRegression(),
                correction=correction,
                max_models=1,
                random_state=0,
            ).fit(tasks[:20]),
            tasks[20:],
            scoring="neg_log_loss",
            stratify=False,
            n_shots=8,
        )
        for correction in ("none", "shift")
    ]
    assert losses[1] < losses[0] - 0.05


def test_max_models_bounds_what_is_kept():
    """And None keeps a model of every task."""
    tasks = regression_tasks(8)
    for bound, kept in ((3, 3), (20, 8), (None, 8)):
        model = ridge_ensemble(max_models=bound).fit(tasks)
        assert len(model.models_) == len(model.model_tasks_) == kept
        assert model.prior_.shape == (kept + 1,)
        np.testing.assert_allclose(model.prior_.sum(), 1)


def test_fit_when_there_is_one_table_is_the_estimator_itself():
    """There is one model, and nothing to weigh."""
    X, y = regression_tasks(1)[0]
    model = ridge_ensemble(correction="none").fit(X, y)
    assert model.models_ == []
    np.testing.assert_allclose(model.predict(X), Ridge(alpha=0.1).fit(X, y).predict(X))


def test_fit_when_there_is_one_named_task_has_to_be_adapted():
    """It is a collection all the same."""
    tasks = regression_tasks(2)
    with pytest.warns(FewTasksWarning, match="a single task says nothing"):
        model = ridge_ensemble().fit(tasks[:1]).adapt(*tasks[1])
    assert model.models_ == []
    assert np.isfinite(model.predict(tasks[1].X)).all()


@pytest.mark.parametrize(
    "base",
    [
        HistGradientBoostingRegressor(max_iter=3),
        make_pipeline(StandardScaler(), SVR()),
        None,
    ],
    ids=["boosting", "pipeline", "default"],
)
def test_regressor_takes_any_estimator(base):
    """That is its purpose."""
    tasks = regression_tasks(5)
    model = TaskEnsembleRegressor(base, random_state=0).fit(tasks).adapt(*tasks[0])
    assert np.isfinite(outputs(model, tasks[1].X)).all()


def test_classifier_when_estimator_has_no_probabilities_raises():
    """Classes without probabilities cannot be weighed."""
    with pytest.raises(ValueError, match="'estimator' parameter .* 'predict_proba'"):
        TaskEnsembleClassifier(SVC()).fit(class_tasks())


def test_classifier_when_labels_are_local_says_what_to_use():
    """A kept model knows its own labels, and no new ones."""
    tasks = [(X, np.char.add(y, str(i))) for i, (X, y) in enumerate(class_tasks())]
    with pytest.raises(ValueError, match="no two have a label .* ProtoNetClassifier"):
        TaskEnsembleClassifier(LogisticRegression()).fit(tasks)


def test_classifier_when_a_label_is_new_raises():
    """The remedy must be one that this estimator has."""
    tasks = class_tasks()
    model = TaskEnsembleClassifier(LogisticRegression(), random_state=0).fit(tasks)
    with pytest.raises(ValueError, match="'z' .* not seen in fit.* fit on tasks that"):
        model.adapt(tasks[0].X[:2], ["a", "z"])


def test_classifier_when_tasks_lack_classes_has_probabilities_for_all():
    """Shared labels need not be in every task."""
    tasks = [
        (X[y != drop], y[y != drop])
        for (X, y), drop in zip(
            class_tasks(), ["a", "b", "c", "a", "b", "c"], strict=True
        )
    ]
    model = TaskEnsembleClassifier(LogisticRegression(), random_state=0).fit(tasks)
    proba = model.adapt(*tasks[0]).predict_proba(tasks[1][0])
    assert proba.shape == (len(tasks[1][0]), 3)
    assert (proba > 0).all()
    np.testing.assert_allclose(proba.sum(1), 1)


def test_result_when_run_in_parallel_is_the_same():
    """n_jobs is about time only."""
    tasks = regression_tasks(5)
    one, two = (
        TaskEnsembleRegressor(Ridge(), n_jobs=n, random_state=0).fit(tasks)
        for n in (None, 2)
    )
    X = tasks[0].X
    np.testing.assert_array_equal(
        outputs(one.adapt(*tasks[0]), X), outputs(two.adapt(*tasks[0]), X)
    )


def test_random_state_seeds_the_models():
    """A forest without a seed of its own is the same again, and another one not."""
    tasks = class_tasks(5)
    found = [
        TaskEnsembleClassifier(RandomForestClassifier(3), random_state=seed)
        .fit(tasks)
        .adapt(*tasks[0])
        .predict_proba(tasks[1].X)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_search_over_parameters_of_the_kept_estimator_works():
    """They are parameters of the ensemble, by scikit-learn's naming."""
    search = GridSearchCV(
        ridge_ensemble(),
        {"estimator__alpha": [0.1, 1e6], "correction": ["none"]},
        scoring=few_shot_scorer(n_shots=4),
        cv=3,
    ).fit(two_kinds_of_line(12))
    assert search.best_params_["estimator__alpha"] == 0.1


def test_predict_when_there_is_one_job_then_starts_no_pool(monkeypatch):
    """scikit-learn's pool swaps the warning filters of the process: users overlap."""
    tasks = regression_tasks()
    model = small(TaskEnsembleRegressor).fit(tasks)

    def swap(*args, **kwargs):
        raise AssertionError("A pool was asked for.")

    monkeypatch.setattr(kept_models, "Parallel", swap)
    assert model.adapt(*tasks[0]).predict(tasks[0].X).shape == (len(tasks[0]),)
    with pytest.raises(AssertionError, match="A pool"):
        model.set_params(n_jobs=2).predict(tasks[0].X)


@pytest.mark.parametrize("cls", [TaskEnsembleClassifier, TaskEnsembleRegressor])
def test_ensemble_when_tasks_are_many_or_large_then_members_are_asked_in_blocks(
    cls, monkeypatch
):
    # what members say of a million rows would fill the memory
    model = small(cls, correction="shift")
    tasks = (class_tasks if "Class" in cls.__name__ else regression_tasks)(12)
    large = (
        np.concatenate([X for X, _ in tasks]),
        np.concatenate([y for _, y in tasks]),
    )
    supports = TaskCollection([*tasks, large], names=range(13))
    X, y, ids = supports.to_flat()
    expected = outputs(model.fit(tasks).adapt_tasks(X, y, ids), X, tasks=ids)
    entries = 20 * len(model.prior_) * model._n_numbers()
    monkeypatch.setattr(kept_models, "BLOCK_ENTRIES", entries)
    asked, ask = [], cls._ask_members
    monkeypatch.setattr(
        cls,
        "_ask_members",
        lambda self, X, *w: asked.append(len(X)) or ask(self, X, *w),
    )
    found = outputs(model.adapt_tasks(X, y, ids), X, tasks=ids)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert max(asked) == 20
