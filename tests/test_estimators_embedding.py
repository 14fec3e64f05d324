"""Columns learned across tasks, for any estimator."""

import pickle

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks
from small_estimators import class_tasks, regression_tasks, small

from sklearn_meta import (
    MAMLClassifier,
    MetaEmbedding,
    PooledRegressor,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    TaskCollection,
    adapt,
)
from sklearn_meta.exceptions import FewTasksWarning
from sklearn_meta.metrics import few_shot_score, few_shot_scorer
from sklearn_meta.persistence import load_model, save_model
from sklearn_meta.pipeline import make_meta_pipeline

WHITENED = small(ProtoNetClassifier, embedding="whitened", label_mode="task")
NETWORK = small(ProtoNetClassifier, embedding="network", label_mode="task")
SHARED = small(RidgeHeadClassifier, label_mode="shared")
NUMBERS = small(RidgeHeadRegressor)
SPACES = [WHITENED, NETWORK, SHARED, NUMBERS]
each_space = pytest.mark.parametrize(
    "estimator", SPACES, ids=["whitened", "network", "shared", "numbers"]
)


def tasks_of(estimator):
    """Return tasks of the kind that an estimator learns from."""
    return regression_tasks() if estimator is NUMBERS else class_tasks()


# the checks have few classes, of which the estimators rightly warn
@pytest.mark.filterwarnings("ignore::sklearn_meta.exceptions.FewTasksWarning")
@parametrize_with_checks(
    [
        MetaEmbedding(small(ProtoNetClassifier)),
        MetaEmbedding(NUMBERS, passthrough=False),
    ]
)
def test_scikit_learn_checks_pass(estimator, check):
    # A transformer like any other.
    check(estimator)


@each_space
def test_fit_when_given_tasks_in_any_form_learns_the_same(estimator):
    # The three forms of input are one.
    tasks = tasks_of(estimator)
    X, y, ids = tasks.to_flat()
    found = [
        MetaEmbedding(estimator).fit(*args).transform(X)
        for args in ((tasks,), (list(tasks),), (X, y, ids))
    ]
    assert_array_equal(found[0], found[1])
    assert_array_equal(found[0], found[2])
    assert_array_equal(MetaEmbedding(estimator).fit_transform(tasks), found[0])


@each_space
def test_blocks_when_transformed_have_the_same_sum_of_variances(estimator):
    # Penalties and distances of the next step must not depend on units.
    tasks = tasks_of(estimator)
    embedding = MetaEmbedding(estimator)
    columns = embedding.fit_transform(tasks)
    ends = np.cumsum(embedding.block_sizes_)[:-1]
    assert_allclose(columns.mean(0), 0, atol=1e-10)
    for block in np.split(columns, ends, axis=1):
        assert_allclose(block.var(0).sum(), embedding.n_features_in_)


@each_space
def test_passthrough_keeps_the_standardised_columns_first(estimator):
    # What was learned may miss what a new task needs.
    tasks = tasks_of(estimator)
    X = tasks.to_flat()[0]
    both = MetaEmbedding(estimator).fit_transform(tasks)
    learned = MetaEmbedding(estimator, passthrough=False).fit_transform(tasks)
    kept = both[:, :2] / both[:, :2].std()
    assert_allclose(kept, (X - X.mean(0)) / X.std(0), atol=1e-10)
    assert_allclose(both[:, -learned.shape[1] :], learned)


@each_space
def test_transform_takes_each_row_by_itself(estimator):
    # Law 4: no leak between rows.
    tasks = tasks_of(estimator)
    embedding = MetaEmbedding(estimator).fit(tasks)
    X = tasks[0].X
    rows = [embedding.transform(X[i : i + 1]) for i in range(len(X))]
    assert_allclose(np.concatenate(rows), embedding.transform(X), atol=1e-12)


def test_learned_columns_of_a_ridge_head_give_its_own_prediction():
    # They are the space in which it regresses: its level and features, linearly.
    tasks = regression_tasks()
    embedding = MetaEmbedding(NUMBERS).fit(tasks)
    X, y = tasks[0]
    own = embedding.estimator_.adapt(X[:5], y[:5]).predict(X)
    columns = embedding.transform(X)
    again = Ridge(alpha=1e-10).fit(columns, own).predict(columns)
    assert_allclose(again, own, atol=1e-4)


def test_transform_brings_new_tasks_nearer_to_their_classes():
    # The purpose: one direction tells classes apart, ten are noise.
    rng = np.random.default_rng(0)

    def task():
        y = np.repeat([0, 1], 12)
        X = 10 * rng.normal(size=(24, 11))
        X[:, 0] = rng.normal() + rng.choice([-2, 2]) * y + 0.1 * rng.normal(size=24)
        return X, y

    tasks = [task() for _ in range(30)]
    embedding = MetaEmbedding(WHITENED, passthrough=False).fit(tasks[:20])
    near = KNeighborsClassifier(1)
    scores = {"raw": [], "learned": []}
    for X, y in tasks[20:]:
        for name, Z in (("raw", X), ("learned", embedding.transform(X))):
            scores[name].append(near.fit(Z[::6], y[::6]).score(Z, y))
    assert np.mean(scores["learned"]) > 0.9 > 0.8 > np.mean(scores["raw"])


def test_default_estimator_is_chosen_by_the_targets():
    # Labels may be numbers; only broken ones are no labels.
    X = np.zeros((2, 1))
    for y in (["a", "b"], [0.0, 5.0], [1, 2]):
        assert isinstance(MetaEmbedding()._base_estimator(X, y), ProtoNetClassifier)
        chosen = MetaEmbedding()._base_estimator([(X, y), (X, y)], None)
        assert isinstance(chosen, ProtoNetClassifier)
    number = MetaEmbedding()._base_estimator(X, [0.5, 1.0])
    assert isinstance(number, RidgeHeadRegressor)


def test_random_state_seeds_an_estimator_without_one():
    # As in scikit-learn's ensembles; a seed of the estimator's own stays.
    tasks, unseeded = class_tasks(), clone(NETWORK).set_params(random_state=None)
    X = tasks[0].X
    found = [
        MetaEmbedding(unseeded, random_state=seed).fit(tasks).transform(X)
        for seed in (0, 0, 1)
    ]
    assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])


def test_names_are_those_of_columns_and_of_what_was_learned():
    # Frames in, frames out.
    pd = pytest.importorskip("pandas")
    frames = [(pd.DataFrame(X, columns=["u", "v"]), y) for X, y in class_tasks()]
    embedding = MetaEmbedding(WHITENED).set_output(transform="pandas").fit(frames)
    table = embedding.transform(frames[0][0])
    learned = [f"metaembedding{i}" for i in range(4)]
    assert table.columns.tolist() == ["u", "v", *learned]  # plain, whitened
    assert table.index.equals(frames[0][0].index)
    only = MetaEmbedding(WHITENED, passthrough=False).fit(frames)
    assert only.get_feature_names_out().tolist() == learned[:2]


def test_fit_in_a_stock_pipeline_gets_the_tasks_by_routing():
    # The class asks for them; a classifier after it does not and gets none.
    X, y, ids = class_tasks().to_flat()
    model = make_pipeline(MetaEmbedding(WHITENED), SVC())
    with sklearn.config_context(enable_metadata_routing=True):
        model.fit(X, y, tasks=ids)
    alone = MetaEmbedding(WHITENED).fit(X, y, ids)
    assert_array_equal(model[:-1].transform(X), alone.transform(X))
    assert model[0].estimator_.n_tasks_ == 6


def test_adapt_of_a_pipeline_keeps_the_space_and_fits_the_last_step_anew():
    # A pipeline of both is a model that learns across tasks.
    tasks = class_tasks(8)
    model = make_meta_pipeline(MetaEmbedding(WHITENED), SVC()).fit(tasks[:6])
    X, y = tasks[7]
    adapted = adapt(model, X[::2], y[::2])
    Z = model[0].transform(X)
    assert adapted[0] is model[0]
    assert_array_equal(adapted.predict(X), SVC().fit(Z[::2], y[::2]).predict(Z))
    assert 0 <= few_shot_score(model, tasks[6:], n_shots=2, random_state=0) <= 1


def test_frozen_embedding_in_a_new_pipeline_is_not_fitted_again():
    # The way into any tool of scikit-learn, for the rows of one new task.
    tasks = class_tasks(7)
    embedding = MetaEmbedding(NETWORK).fit(tasks[:6])
    model = make_pipeline(FrozenEstimator(embedding), LogisticRegression())
    X, y = tasks[6]
    fitted = clone(model).fit(X, y)
    assert_array_equal(fitted[:-1].transform(X), embedding.transform(X))


def test_search_over_tasks_tunes_the_space_and_the_last_step():
    # One sample is one task: nothing has to be set.
    model = make_meta_pipeline(MetaEmbedding(WHITENED), SVC())
    grid = {"metaembedding__passthrough": [True, False], "svc__C": [1, 10]}
    scorer = few_shot_scorer(n_shots=2, random_state=0)
    search = GridSearchCV(model, grid, cv=2, scoring=scorer)
    tasks = class_tasks(8)
    assert search.fit(tasks).best_score_ >= 0


@each_space
def test_saved_embedding_when_loaded_is_the_same_to_the_bit(estimator, tmp_path):
    # By pickle, and by the file that holds no code.
    tasks = tasks_of(estimator)
    embedding = MetaEmbedding(estimator).fit(tasks)
    save_model(embedding, tmp_path / "embedding.meta")
    expected = embedding.transform(tasks[0].X)
    for loaded in (
        load_model(tmp_path / "embedding.meta"),
        pickle.loads(pickle.dumps(embedding)),
    ):
        assert_array_equal(loaded.transform(tasks[0].X), expected)


def test_fit_when_tasks_do_not_fit_into_memory_reads_windows():
    # Lazy collections must not be read as a whole.
    tasks = class_tasks(8)
    windowed = MetaEmbedding(NETWORK).fit(TaskCollection(tasks, window=4))
    assert windowed.estimator_.n_tasks_ == 8
    assert np.isfinite(windowed.transform(tasks[0].X)).all()


def test_fit_when_it_fails_leaves_the_transformer_as_it_was():
    # A served model survives a bad update.
    tasks = class_tasks()
    embedding = MetaEmbedding(WHITENED).fit(tasks)
    before = embedding.transform(tasks[0].X)
    with pytest.raises(ValueError, match="NaN"):
        embedding.fit(np.full((4, 2), np.nan), [0, 0, 1, 1])
    assert_array_equal(embedding.transform(tasks[0].X), before)


@pytest.mark.parametrize("estimator", [MAMLClassifier(), PooledRegressor()])
def test_estimator_without_a_space_is_refused(estimator):
    # The message says which have one.
    with pytest.raises(ValueError, match="ProtoNetClassifier, a RidgeHeadClassifier"):
        MetaEmbedding(estimator).fit(class_tasks())


def test_transform_when_not_fitted_or_of_other_columns_raises():
    # Expected, got, what to do.
    with pytest.raises(NotFittedError, match="not fitted yet"):
        MetaEmbedding().transform([[0.0]])
    embedding = MetaEmbedding(WHITENED).fit(class_tasks())
    with pytest.raises(ValueError, match="3 features, but MetaEmbedding is expecting"):
        embedding.transform(np.zeros((2, 3)))


def test_fit_of_one_table_learns_from_its_classes():
    # Classes take the place of tasks; with few of them it says so.
    X, y = class_tasks()[0]
    with pytest.warns(FewTasksWarning, match="3 classes are too few"):
        columns = MetaEmbedding(WHITENED).fit_transform(X, y)
    assert columns.shape == (len(X), 6)
