"""Checkpoints of mixtures: what is trained is not trained again."""

import os
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from skorch.callbacks import Callback
from small_estimators import class_tasks, regression_tasks, small

from sklearn_meta import (
    Checkpoint,
    MAMLClassifier,
    MAMLRegressor,
    MetaStackingClassifier,
    MetaStackingRegressor,
    PooledRegressor,
    ProtoNetClassifier,
)

KILLED_FIT = """
import os, signal, sys
from pathlib import Path
from skorch.callbacks import Callback
from sklearn_meta import Checkpoint
from test_estimators_stack_checkpoint import TASKS, stack

class Kill(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(list(Path(sys.argv[1]).glob("*.members/*"))) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

stack(checkpoint=Checkpoint(sys.argv[1], seconds=0), callbacks=[Kill()]).fit(TASKS)
"""
TASKS = regression_tasks(8)


class Count(Callback):
    """Count the stretches of outer steps; members are cloned, the list is not."""

    seen: list = []

    def on_train_begin(self, net, **kwargs):
        self.before_ = len(net.history)

    def on_epoch_end(self, net, **kwargs):
        Count.seen.append(len(net.history))


class Fail(Callback):
    """Fail in the second fold of the second member."""

    def on_epoch_end(self, net, **kwargs):
        Count.seen.append(len(net.history))
        if len(Count.seen) == 40:
            raise RuntimeError("out of luck")


class Interrupt(Callback):
    """Press Ctrl-C in the second fold of the second member."""

    def on_epoch_end(self, net, **kwargs):
        Count.seen.append(len(net.history))
        if len(Count.seen) == 40:
            raise KeyboardInterrupt


def stack(callbacks=None, **params):
    """Return a mixture of two members that train, twelve stretches, and one of none."""
    maml = {"max_iter": 12, "inner_steps": 1, "callbacks": callbacks}
    maml |= {"n_iter_no_change": 12}  # no early end: stretches can be counted
    members = [
        ("maml", small(MAMLRegressor, random_state=None, **maml)),
        (
            "anil",
            small(MAMLRegressor, variant="anil", pooled_estimator=Ridge(), **maml),
        ),
        ("pooled", PooledRegressor(Ridge(), correction="shift")),
    ]
    settings = {"n_folds": 2, "n_shots": (1, 3), "random_state": 0} | params
    return MetaStackingRegressor(members, **settings)


def interrupt(directory, **params):
    """Leave what a fit had trained when an error ended it."""
    Count.seen.clear()
    with pytest.raises(RuntimeError, match="out of luck"):
        stack([Fail()], checkpoint=Checkpoint(directory, 0), **params).fit(TASKS)


def names_of(directory):
    """Return the suffixes of all files in a directory and those below it."""
    return sorted(path.suffix for path in Path(directory).rglob("*"))


def assert_same(model, other):
    """Check that two mixtures learned the same, to the last bit."""
    np.testing.assert_array_equal(model.weights_, other.weights_)
    np.testing.assert_array_equal(model.held_out_scores_, other.held_out_scores_)
    X, y = TASKS[0]
    one, two = (
        m.adapt(X[:3], y[:3]).predict(X, return_std=True) for m in (model, other)
    )
    np.testing.assert_array_equal(one, two)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_stack_when_killed_and_started_again_ends_as_one_that_was_not(tmp_path):
    """SIGKILL in the first stretch of the third of four fits."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED_FIT, str(tmp_path)]
    process = subprocess.run(command, env=environment, check=False)
    assert process.returncode == -signal.SIGKILL
    assert names_of(tmp_path) == [".checkpoint"] * 4 + [".members"]
    Count.seen.clear()
    resumed = stack([Count()], checkpoint=tmp_path).fit(TASKS)
    assert len(Count.seen) == 11 + 12  # what was left of the third fit, and the fourth
    assert_same(resumed, stack().fit(TASKS))
    assert names_of(tmp_path) == []


def test_stack_without_a_seed_goes_on_with_that_of_the_first_run(tmp_path):
    """Otherwise the folds would be others, and nothing that is there would fit."""
    interrupt(tmp_path, random_state=None)
    Count.seen.clear()
    stack([Count()], checkpoint=tmp_path, random_state=None).fit(TASKS)
    assert len(Count.seen) == 4 * 12 - 40


def test_stack_when_the_directory_is_of_another_then_error_says_what_differs(tmp_path):
    """Going on with other members is no fit that anyone asked for."""
    interrupt(tmp_path)
    other = stack(checkpoint=tmp_path).set_params(anil__lr=0.5)
    with pytest.raises(ValueError, match="anil__lr=0.5 here and 0.003 there. To go on"):
        other.fit(TASKS)
    with pytest.raises(ValueError, match="n_folds=3 here and 2 there"):
        stack(checkpoint=tmp_path, n_folds=3).fit(TASKS)
    with pytest.raises(ValueError, match="maml='?ProtoNet"):
        MetaStackingClassifier(
            [("maml", small(ProtoNetClassifier))], checkpoint=tmp_path
        ).fit(class_tasks())
    assert_same(stack(checkpoint=tmp_path).fit(TASKS), stack().fit(TASKS))


def test_stack_when_interrupted_keeps_the_members_that_were_done(tmp_path):
    """One Ctrl-C ends the whole fit, and minutes of training are not lost."""
    Count.seen.clear()
    with pytest.warns(
        UserWarning, match="done, 1 of 3: 'maml'. Call fit again"
    ) as said:
        model = stack([Interrupt()], checkpoint=Checkpoint(tmp_path, 0)).fit(TASKS)
    assert [str(w.message).startswith("The fit was") for w in said] == [True]
    assert model.names_ == ["maml"] and model.weights_.shape[1] == 1
    (own,) = model.estimators_
    for one, two in zip(own, stack().fit(TASKS).estimators_[0], strict=True):
        assert one.loss_curve_ == two.loss_curve_
    assert_same(stack(checkpoint=tmp_path).fit(TASKS), stack().fit(TASKS))


def test_stack_when_interrupted_before_a_member_is_done_is_as_before(tmp_path):
    """There is nothing to keep, so the interruption is the caller's."""
    Count.seen[:] = [0] * 24
    model = stack([Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        model.fit(TASKS)
    assert not hasattr(model, "weights_")


def test_stack_when_verbose_says_what_is_fitted_and_how_long_it_takes(capsys):
    """A fit of minutes that says nothing looks like one that hangs."""
    stack(verbose=1).fit(TASKS)
    said = capsys.readouterr().err
    assert "anil, fold 2 of 2" in said and "6/6" in said and "validation score" in said


def test_stack_of_classes_with_a_checkpoint_ends_as_without(tmp_path):
    """Of local classes some are held out, and members are fitted on all of them too."""
    members = [("a", small(ProtoNetClassifier)), ("b", small(MAMLClassifier))]
    X = np.random.default_rng(0).normal(size=(24, 2))
    y = np.repeat(np.arange(6), 4)
    models = [
        MetaStackingClassifier(members, random_state=0, checkpoint=place).fit(X, y)
        for place in (None, Checkpoint(tmp_path, 0, keep=True), tmp_path)
    ]
    for model in models[1:]:
        np.testing.assert_array_equal(model.weights_, models[0].weights_)
        np.testing.assert_array_equal(
            model.predict_proba(X), models[0].predict_proba(X)
        )


def test_members_when_the_stack_is_fitted_then_know_nothing_of_its_directory(tmp_path):
    """A member that is taken out must not write there."""
    model = stack(checkpoint=tmp_path).fit(TASKS)
    members = [[member for _, member in model.estimators], *model.estimators_]
    places = {getattr(m, "checkpoint", None) for m in chain.from_iterable(members)}
    assert places == {None}
