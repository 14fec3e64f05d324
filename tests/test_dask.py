"""Searches over our estimators on the workers of a dask cluster."""

import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from small_estimators import regression_tasks

from sklearn_meta import MAMLRegressor
from sklearn_meta.metrics import few_shot_scorer
from sklearn_meta.model_selection import TaskKFold

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    """Start two worker processes of one thread, and nothing else."""
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
    )
    with cluster, distributed.Client(cluster) as client:
        yield client


def search():
    """Return a search as one would run it without dask."""
    model = MAMLRegressor((8,), max_iter=4, inner_steps=1, random_state=0)
    scoring = few_shot_scorer("neg_mean_squared_error", n_shots=3, random_state=0)
    return GridSearchCV(model, {"lr": [0.001, 0.1]}, cv=2, scoring=scoring)


def test_search_on_the_workers_finds_what_it_finds_at_home(client):
    """Estimators, tasks and the scorer travel; the numbers do not depend on where."""
    home = search().fit(regression_tasks(10))
    with joblib.parallel_backend("dask"):
        there = search().fit(regression_tasks(10))
    scores = there.cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, home.cv_results_["mean_test_score"], rtol=1e-6)
    executed = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert sum(executed.values()) > 0
    assert there.best_params_ == home.best_params_


def test_search_with_ids_on_the_workers_finds_what_it_finds_at_home(
    client, metadata_routing
):
    """Routed ids are split and travel with the rows."""
    X, y, ids = regression_tasks(10).to_flat()
    home = search().set_params(cv=TaskKFold(2)).fit(X, y, tasks=ids)
    with joblib.parallel_backend("dask"):
        there = search().set_params(cv=TaskKFold(2)).fit(X, y, tasks=ids)
    assert there.best_params_ == home.best_params_
    scores = there.cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, home.cv_results_["mean_test_score"], rtol=1e-6)
