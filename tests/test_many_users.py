"""One model serves many threads and processes: no answer is another task's.

``benchmarks/load.py`` does it with 8 threads and 500 requests each.
"""

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from sklearn.preprocessing import StandardScaler
from small_estimators import TRAINED_ESTIMATORS, outputs, small, tasks_for

from sklearn_meta import TaskEnsembleRegressor, adapt
from sklearn_meta.pipeline import make_meta_pipeline
from sklearn_meta.training import one_thread
from sklearn_meta.training._device import _blocks

N_TASKS, N_TURNS = 20, 8
# a fork of a process with threads is what is tested
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def serve(model, X, y):
    """Answer one request: a few labelled rows, and what the others are."""
    return outputs(adapt(model, X[::2], y[::2]), X[1::2])


def serve_from_threads(model, tasks):
    """Answer requests for all tasks in turn from eight threads at once."""
    with ThreadPoolExecutor(8) as pool:
        return list(
            pool.map(partial(serve, model), *zip(*N_TURNS * tasks, strict=True))
        )


@pytest.fixture(
    params=[*TRAINED_ESTIMATORS, TaskEnsembleRegressor], ids=lambda cls: cls.__name__
)
def model(request):
    """Each estimator that keeps a state per task, fitted."""
    estimator = small(request.param)
    return estimator.fit(tasks_for(estimator))


@pytest.fixture
def requests(model):
    """Rows and targets of many tasks, and the right answers."""
    tasks = list(tasks_for(model, n_tasks=N_TASKS, seed=1))
    return tasks, [serve(model, *task) for task in tasks]


def assert_all_right(answers, right):
    """Compare answers to the last bit: the same numbers go the same way."""
    for i, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, right[i % N_TASKS], err_msg=f"{i}")


def test_adapt_when_eight_threads_share_a_model_then_no_answer_is_wrong(
    model, requests
):
    # A server has one model and a thread for each user.
    tasks, right = requests
    assert_all_right(serve_from_threads(model, tasks), right)
    assert not hasattr(model, "adapted_")


def test_warning_filters_when_users_overlap_then_are_kept(model, requests):
    # They are one list for the process: a filter that is lost mutes or floods it.
    if isinstance(model, TaskEnsembleRegressor):
        pytest.skip("scikit-learn's check_array, which its members call, sets filters")
    tasks, _ = requests
    before = list(warnings.filters)
    serve_from_threads(model, tasks)
    assert list(warnings.filters) == before


def test_threads_of_torch_when_users_overlap_then_are_given_back(model, requests):
    # They are one number for the process: who comes last must not leave one thread.
    tasks, _ = requests
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        serve_from_threads(model, tasks)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_adapt_when_processes_share_a_model_then_no_answer_is_wrong(method):
    # A forked child has the model of its parent, a spawned one loads it.
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{method} is not to be had on this system")
    model = make_meta_pipeline(StandardScaler(), small(TRAINED_ESTIMATORS[1]))
    tasks = list(tasks_for(model, n_tasks=N_TASKS))
    model.fit(tasks)
    right = [adapt(model, X[::2], y[::2]).predict(X[1::2]) for X, y in tasks]
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        found = [pool.submit(predict_new, model, *task) for task in tasks]
        assert_all_right([answer.result(timeout=120) for answer in found], right)


def predict_new(model, X, y):
    """Adapt a pipeline to every second row of a task, and predict the others."""
    return adapt(model, X[::2], y[::2]).predict(X[1::2])


def test_adapt_when_joblib_shares_a_model_then_no_answer_is_wrong():
    # The processes of scikit-learn's n_jobs.
    model = small(TRAINED_ESTIMATORS[0])
    tasks = list(tasks_for(model, n_tasks=N_TASKS))
    model.fit(tasks)
    right = [predict_new(model, *task) for task in tasks]
    jobs = (delayed(predict_new)(model, *task) for task in tasks)
    assert_all_right(Parallel(n_jobs=2, backend="loky")(jobs), right)


def threads_inside_a_block():
    """Return how many threads torch has where one is asked for."""
    with one_thread(torch.device("cpu")):
        return torch.get_num_threads()


def test_one_thread_when_forked_while_another_thread_is_inside_then_does_not_hang():
    # The child has the lock and the count of its parent, but not its threads.
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("fork is not to be had on this system")
    context = multiprocessing.get_context("fork")
    with _blocks.lock:  # as if another thread were just entering
        pool = ProcessPoolExecutor(1, mp_context=context)
        answer = pool.submit(threads_inside_a_block)
        assert answer.result(timeout=60) == 1
    pool.shutdown()
