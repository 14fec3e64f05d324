"""Several processes train one learner as a single one does."""

import os
import pickle
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from small_estimators import class_tasks, regression_tasks

from sklearn_meta import Checkpoint, MAMLClassifier, MAMLRegressor, ProtoNetClassifier
from sklearn_meta.episodes import EpisodeRows
from sklearn_meta.training import Processes, resolve_device

LAUNCHED = """
import sys
import numpy as np
import torch
from test_processes import estimators, tasks_of

rank, folder = sys.argv[1:]
found = {}
for name, model in estimators(folder, device="accelerate").items():
    model.fit(tasks_of(model))
    found[name] = (dict(model.learner_.state_dict()), model.loss_curve_)
X, y, ids = tasks_of(model).to_flat()
try:
    model.fit(X + int(rank), y, tasks=ids)
except ValueError as error:
    found["error"] = str(error)
torch.save(found, f"{folder}/{rank}.pt")
"""


def estimators(folder, **params):
    """Return models to compare; five episodes are no even share for two processes."""
    params |= {"max_iter": 12, "meta_batch_size": 5}
    checkpoint = Checkpoint(f"{folder}/checkpoints", seconds=0)
    return {
        "unseeded": MAMLRegressor((8,), checkpoint=checkpoint, **params),
        "regressor": MAMLRegressor((8,), random_state=0, early_stopping=True, **params),
        "classifier": MAMLClassifier((8,), random_state=0, **params),
        "prototypes": ProtoNetClassifier(
            (8,), embedding="network", label_mode="task", random_state=0, **params
        ),
    }


def tasks_of(model):
    """Return tasks of the kind that a model learns from."""
    is_regressor = isinstance(model, MAMLRegressor)
    return regression_tasks() if is_regressor else class_tasks()


def free_port():
    """Return a port that no one listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """Run two processes on the CPU as torchrun would; return what each one learned."""
    pytest.importorskip("accelerate")
    folder = str(tmp_path_factory.mktemp("launched"))
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common |= {"WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": ""}
    common |= {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LAUNCHED, rank, folder],
            env=os.environ | common | {"RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    return [torch.load(f"{folder}/{rank}.pt") for rank in "01"]


@pytest.mark.parametrize("name", ["regressor", "classifier"])
def test_two_processes_learn_what_one_does(launched, tmp_path, name):
    """The gradients of the shares add up to the gradient of the meta-batch."""
    model = estimators(tmp_path)[name]
    model.fit(tasks_of(model))
    for found in launched:
        weights, losses = found[name]
        np.testing.assert_allclose(losses, model.loss_curve_, rtol=1e-5)
        for key, value in model.learner_.state_dict().items():
            torch.testing.assert_close(weights[key], value, rtol=0, atol=1e-6)


def test_two_processes_lose_what_one_does_where_a_weight_has_no_effect(
    launched, tmp_path
):
    """Distances ignore a shift of all features: there Adam steps along rounding."""
    model = estimators(tmp_path)["prototypes"]
    model.fit(tasks_of(model))
    for found in launched:
        _, losses = found["prototypes"]
        np.testing.assert_allclose(losses, model.loss_curve_, rtol=1e-5)


def test_two_processes_without_a_seed_agree_on_one(launched):
    """Each would draw other episodes and start from other weights."""
    (first, losses), (second, other_losses) = (found["unseeded"] for found in launched)
    assert losses == other_losses
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_two_processes_with_other_data_raise(launched):
    """Whoever shards the tasks by hand would train on a part of a part."""
    for found in launched:
        assert "got data in process 1 other than in process 0" in found["error"]


@pytest.mark.parametrize("n_episodes", [1, 2, 5])
@pytest.mark.parametrize("unscored", [None, 0])
def test_shares_weighted_and_added_give_the_mean(n_episodes, unscored):
    """Over episodes with query rows, whatever the number of processes."""
    loss = torch.arange(1.0, n_episodes + 1)
    mask = torch.ones(n_episodes, 1, dtype=torch.bool)
    if unscored is not None:
        mask[unscored] = False
    position = torch.arange(n_episodes).unsqueeze(1)
    rows = EpisodeRows(position, mask, position, mask)
    total = torch.zeros(())
    for rank in range(3):
        processes = Processes.__new__(Processes)
        processes.rank, processes.count = rank, 3
        own, weight = processes.share(rows)
        scored = own.query_mask.flatten()
        mean = (loss[own.query.flatten()] * scored).sum() / scored.sum().clamp_min(1)
        total += weight * mean
    scored = mask.flatten()
    assert total == pytest.approx(loss[scored].mean() if scored.any() else 0.0)


def test_device_accelerate_without_the_package_says_what_to_install(monkeypatch):
    """It is an optional extra."""
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-meta\[accelerate\]'"):
        MAMLRegressor(device="accelerate").fit(regression_tasks())


def test_device_accelerate_in_one_process_is_the_plain_fit():
    """The same program runs without a launcher, and the model loads anywhere."""
    pytest.importorskip("accelerate")
    plain = MAMLRegressor((8,), max_iter=6, random_state=0, device="cpu")
    model = MAMLRegressor((8,), max_iter=6, random_state=0, device="accelerate")
    model.fit(regression_tasks())
    losses = plain.fit(regression_tasks()).loss_curve_
    np.testing.assert_allclose(model.loss_curve_, losses, rtol=1e-4)
    loaded = pickle.loads(pickle.dumps(model))
    assert loaded.device_ == resolve_device("auto")


def test_accelerate_that_does_not_see_the_processes_is_an_error(monkeypatch):
    """Each would train alone, and not say so."""
    pytest.importorskip("accelerate")
    Processes()  # accelerate is set up for one process
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="to join 2 processes, got 1"):
        Processes()
