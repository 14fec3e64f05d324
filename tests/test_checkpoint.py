"""Checkpoints: a fit that was killed ends as one that was not."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from small_estimators import regression_tasks
from torch import nn

from sklearn_meta import Checkpoint, MAMLRegressor, ProtoNetClassifier
from sklearn_meta.base._fingerprint import describe, describe_fit
from sklearn_meta.metrics import few_shot_scorer
from sklearn_meta.tasks import TaskCollection, TaskRows
from sklearn_meta.training import CheckpointFile
from sklearn_meta.training._checkpoint import _read, _sealed

TASKS = regression_tasks()

KILLED_FIT = """
import os, signal, sys
from skorch.callbacks import Callback
from sklearn_meta import Checkpoint
from test_checkpoint import TASKS, regressor

class Kill(Callback):
    def on_batch_end(self, net, **kwargs):
        if len(net.history) == 7:
            os.kill(os.getpid(), signal.SIGKILL)

regressor(checkpoint=Checkpoint(sys.argv[1], seconds=0), callbacks=[Kill()]).fit(TASKS)
"""


def regressor(**params):
    """Return a fast estimator with an outer loop of twelve chunks of two steps."""
    fast = {"max_iter": 24, "meta_batch_size": 4, "early_stopping": True}
    fast |= {"inner_steps": 1, "random_state": 0, "lr": 0.03}
    return MAMLRegressor((8,), **fast | params)


class InterruptAt:
    """Press Ctrl-C after some epochs."""

    def __init__(self, epoch=2):
        self.epoch = epoch

    def initialize(self):
        return self

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt

    def __getattr__(self, name):
        if name.startswith(("on_", "get_params", "set_params")):
            return lambda *args, **kwargs: {}
        raise AttributeError(name)


class NoStretch(Callback):
    """Fail where an outer step is taken."""

    def on_batch_begin(self, net, **kwargs):
        raise AssertionError("trained again")


def interrupt(directory, epoch=5, **params):
    """Leave the checkpoint of a fit that was interrupted."""
    model = clone(regressor(**params))  # a RandomState of the caller's must not move
    model.set_params(
        checkpoint=Checkpoint(directory, 0), callbacks=[InterruptAt(epoch)]
    )
    with pytest.warns(UserWarning, match="interrupted .* Call fit again"):
        return model.fit(TASKS)


def write(file, content):
    """Write a checkpoint of another version, or of another author."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    file.path.write_bytes(_sealed(buffer.getvalue()))


def files(directory):
    """Return the names of the files of a directory."""
    return sorted(path.name for path in Path(directory).iterdir())


def assert_same_fit(model, other):
    """Check that two models were trained alike, to the last bit."""
    assert model.loss_curve_ == other.loss_curve_
    assert model.validation_scores_ == other.validation_scores_
    weights = other.learner_.state_dict()
    for name, value in model.learner_.state_dict().items():
        assert torch.equal(value, weights[name])


# ---------------------------------------------------------------- going on


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_fit_when_killed_and_started_again_ends_with_the_same_weights(tmp_path):
    """SIGKILL in the middle of the seventh stretch, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED_FIT, str(tmp_path)]
    process = subprocess.run(command, env=environment, check=False)
    assert process.returncode == -signal.SIGKILL
    (name,) = files(tmp_path)
    stored = _read(tmp_path / name)
    assert len(stored["state"]["losses"]) == 12  # six stretches of two steps
    resumed = regressor(checkpoint=tmp_path).fit(TASKS)
    assert_same_fit(resumed, regressor().fit(TASKS))


@pytest.mark.parametrize(
    "params",
    [
        {"early_stopping": False},
        {"optimizer": torch.optim.SGD, "optimizer_params": {"momentum": 0.9}},
        {"module": lambda n_features: nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.5))},
        {"random_state": np.random.RandomState(3)},
        {"n_iter_no_change": 6, "lr": 1e-12},
    ],
    ids=["no held-out tasks", "momentum", "dropout", "RandomState", "stops early"],
)
def test_fit_when_it_goes_on_ends_as_one_that_was_not_stopped(tmp_path, params):
    """All that decides a run must be in the file, the random numbers included."""
    whole = clone(regressor(**params)).fit(TASKS)
    interrupt(tmp_path, **params)
    resumed = clone(regressor(**params)).set_params(checkpoint=tmp_path).fit(TASKS)
    assert_same_fit(resumed, whole)
    assert len(resumed.history_) == len(whole.history_)


def test_fit_without_a_seed_goes_on_with_that_of_the_first_run(tmp_path):
    """Otherwise other tasks would be held out than the ones that were."""
    interrupt(tmp_path, random_state=None)
    seed = _read(tmp_path / files(tmp_path)[0])["seed"]
    resumed = regressor(random_state=None, checkpoint=tmp_path).fit(TASKS)
    assert_same_fit(resumed, regressor(random_state=seed).fit(TASKS))


def test_partial_fit_goes_on_from_its_own_start(tmp_path):
    """Its end depends on what was learned before, too."""
    first = regressor().fit(TASKS)
    again = regressor(checkpoint=Checkpoint(tmp_path, 0)).fit(TASKS)
    again.set_params(callbacks=[InterruptAt(3)])
    with pytest.warns(UserWarning, match="interrupted"):
        again.partial_fit(TASKS)
    resumed = regressor().fit(TASKS).set_params(checkpoint=tmp_path)
    assert_same_fit(resumed.partial_fit(TASKS), first.partial_fit(TASKS))
    assert files(tmp_path) == []


@pytest.mark.filterwarnings("ignore::sklearn_meta.exceptions.FewTasksWarning")
def test_search_in_a_shared_directory_goes_on(tmp_path):
    """The fits of a search have one directory; each has a file of its own."""
    interrupt(tmp_path)  # the fit of another search
    checkpoint = Checkpoint(tmp_path, seconds=0, shared=True)
    search = GridSearchCV(regressor(checkpoint=checkpoint), {"lr": [0.01, 0.1]}, cv=2)
    search.fit(TASKS)
    assert len(files(tmp_path)) == 1


# ---------------------------------------------------------------- files


def test_file_when_the_fit_is_done_is_removed(tmp_path):
    """A directory does not fill up, and the next fit starts from its beginning."""
    regressor(checkpoint=Checkpoint(tmp_path / "made", seconds=0)).fit(TASKS)
    assert files(tmp_path / "made") == []


@pytest.mark.parametrize("params", [{}, {"n_iter_no_change": 6, "lr": 1e-12}])
def test_file_that_is_kept_gives_a_finished_fit_back(tmp_path, params):
    """A search that was killed has fits that are done, and some that stopped early."""
    model = regressor(checkpoint=Checkpoint(tmp_path, keep=True), **params)
    whole = clone(model).fit(TASKS)
    again = model.set_params(callbacks=[NoStretch()]).fit(TASKS)
    assert_same_fit(again, whole)
    assert again.history_ == whole.history_
    regressor(checkpoint=tmp_path, **params).fit(TASKS)
    assert files(tmp_path) == []


def test_file_before_its_time_is_not_written(tmp_path):
    """Writing takes time, and a minute of work is soon done again."""
    model = regressor(checkpoint=tmp_path, callbacks=[InterruptAt(5)])
    with pytest.warns(UserWarning, match=r"best weights until then\.$"):
        model.fit(TASKS)
    assert files(tmp_path) == []


def test_file_of_another_fit_is_an_error_that_says_what_differs(tmp_path):
    """Going on with other parameters is no fit that anyone asked for."""
    interrupt(tmp_path)
    (name,) = files(tmp_path)
    with pytest.raises(ValueError, match=f"{name}.*: lr=0.01 here and 0.03 there. To "):
        regressor(lr=0.01, checkpoint=tmp_path).fit(TASKS)
    with pytest.raises(ValueError, match="data=5 tasks .* here and 6 tasks .* there"):
        regressor(checkpoint=str(tmp_path)).fit(TASKS[1:])
    with pytest.raises(ValueError, match="estimator='?ProtoNetClassifier'? here"):
        ProtoNetClassifier(checkpoint=tmp_path).fit(np.eye(4), [0, 0, 1, 1])
    assert files(tmp_path) == [name]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "truncated or altered"),
        (lambda data: data[:900] + b"?" + data[901:], "truncated or altered"),
        (lambda data: b"weights", "is no checkpoint"),
        (lambda data: b"", "is no checkpoint"),
        (lambda data: _sealed(b"abc"), "is no checkpoint"),
    ],
)
def test_file_when_damaged_is_an_error(tmp_path, damage, message):
    """Silently starting anew would lose what the file is there for."""
    interrupt(tmp_path)
    path = tmp_path / files(tmp_path)[0]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{message}.* Remove it"):
        regressor(checkpoint=tmp_path).fit(TASKS)


def test_file_of_another_format_is_an_error(tmp_path):
    """A newer version may hold what this one does not know."""
    file = CheckpointFile(tmp_path, {"estimator": "A"})
    write(file, {"version": 99})
    with pytest.raises(ValueError, match="format version 99, expected 2"):
        CheckpointFile(tmp_path, {"estimator": "A"})


def test_file_with_code_inside_is_not_run(tmp_path):
    """A checkpoint is data; who can write to the directory must not get a shell."""
    file = CheckpointFile(tmp_path, {"estimator": "A"})
    write(file, {"version": print})
    with pytest.raises(ValueError, match="no checkpoint"):
        CheckpointFile(tmp_path, {"estimator": "A"})


def test_write_when_the_disk_fails_keeps_the_older_file_and_goes_on(
    tmp_path, monkeypatch
):
    """Hours of training must not end because a disk is full."""
    interrupt(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}

    def fail(*args):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    model = regressor(checkpoint=Checkpoint(tmp_path, 0), callbacks=[InterruptAt(8)])
    failed = pytest.warns(UserWarning, match="could not be written: no space left")
    with pytest.warns(UserWarning, match="interrupted"), failed:
        model.fit(TASKS)
    assert model.n_iter_ == 16
    assert {n: (tmp_path / n).read_bytes() for n in files(tmp_path)} == before


def test_write_of_what_cannot_be_read_back_is_an_error(tmp_path):
    """It would be found out after the kill, when it is too late."""
    file = CheckpointFile(tmp_path, {"estimator": "A"})
    with pytest.raises(TypeError, match="cannot hold"):
        file.write({"optimizer": Path("code")})
    assert files(tmp_path) == []


@pytest.mark.parametrize("seconds", [-1, np.nan, "1", True, None])
def test_seconds_when_no_time_is_an_error(tmp_path, seconds):
    """A mistake here shows only after a kill."""
    with pytest.raises(ValueError, match="number >= 0, got"):
        regressor(checkpoint=Checkpoint(tmp_path, seconds)).fit(TASKS)


def test_directory_that_is_a_file_is_an_error(tmp_path):
    """The message says what was expected."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="to be a directory, got"):
        regressor(checkpoint=tmp_path / "file").fit(TASKS)


# ---------------------------------------------------------------- fingerprints


@pytest.mark.parametrize(
    "params",
    [{"lr": 0.5}, {"module": nn.Linear}, {"optimizer": torch.optim.SGD}],
)
def test_fit_description_changes_with_what_decides_the_fit(params):
    """Each decides where a fit ends."""
    rows = TaskRows(np.eye(3), np.arange(3.0), np.array([1, 2]), ["a", "b"])
    before = describe_fit(regressor(), rows, None, False, None)
    assert describe_fit(regressor(**params), rows, None, False, None) != before
    other = rows._replace(y=-rows.y)
    assert describe_fit(regressor(), other, None, False, None) != before
    assert describe_fit(regressor(), rows, other, False, None) != before


def test_fit_description_ignores_what_does_not_decide_the_fit():
    """More output, or another machine, is the same fit."""
    rows = TaskRows(np.eye(3), np.array(["a", "b", "a"]), np.array([3]), None)
    before = describe_fit(regressor(), rows, None, False, None)
    other = regressor(verbose=1, callbacks=[], device="cuda", checkpoint="here")
    assert describe_fit(other, rows, None, False, None) == before


def test_description_tells_weights_and_states_apart():
    """A module instance is a start, and a RandomState a seed."""
    for make in (lambda: nn.Linear(2, 1), np.random.RandomState):
        one, other = make(), make()
        assert describe(one) == describe(one) != describe(other)
    assert describe(np.float64(0.5)) == describe(0.5)
    assert describe({"a": (1, None)}) == "{'a': [1, None]}"


def test_search_when_interrupted_ends_and_scores_no_half_trained_model():
    """A candidate that was cut short would be compared with whole ones."""
    search = GridSearchCV(
        regressor(callbacks=[InterruptAt()]),
        {"inner_lr": [0.01, 0.1]},
        cv=2,
        scoring=few_shot_scorer("r2", n_shots=3),
    )
    with pytest.raises(KeyboardInterrupt):
        search.fit(regression_tasks(12))


def test_fit_in_a_pipeline_when_interrupted_keeps_what_was_learned():
    """A pipeline fits one model: the user stops it when it is good enough."""
    pipeline = make_pipeline(StandardScaler(), regressor(callbacks=[InterruptAt(2)]))
    X, y, ids = TaskCollection(TASKS).to_flat()
    with pytest.warns(UserWarning, match="The fit was interrupted after"):
        pipeline.fit(X, y, mamlregressor__tasks=ids)
