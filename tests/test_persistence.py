"""save_model and load_model: whole models, and no code, in one file."""

import json
import os
import pickle
import re
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import ProgressBar
from skorch.history import History
from small_estimators import (
    all_small,
    class_tasks,
    name_of,
    outputs,
    regression_tasks,
    small,
    tasks_for,
    trained_small,
)
from torch import nn

from sklearn_meta import (
    AdaptedClassifier,
    MAMLClassifier,
    MAMLRegressor,
    MetaStackingRegressor,
    ModelBasedMetaRegressor,
    NotAdaptedError,
    PooledRegressor,
    ProtoNetClassifier,
    TaskCollection,
)
from sklearn_meta.exceptions import DeviceWarning
from sklearn_meta.persistence import get_untrusted_types, load_model, save_model
from sklearn_meta.persistence._container import write_parts
from sklearn_meta.pipeline import make_meta_pipeline
from sklearn_meta.task_column import TaskColumnRegressor

pytest.importorskip("safetensors")
pytest.importorskip("skops")

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_meta.exceptions.FewTasksWarning"
)
each_estimator = pytest.mark.parametrize("estimator", all_small(), ids=name_of)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.meta"


@pytest.fixture
def fitted():
    """A small fitted and adapted classifier."""
    tasks = class_tasks()
    return small(ProtoNetClassifier).fit(tasks).adapt(*tasks[0])


@pytest.fixture
def saved(fitted, path):
    """The file of that classifier."""
    save_model(fitted, path)
    return path


def round_trip(model, path, **options):
    save_model(model, path)
    return load_model(path, **options)


def rewrite(path, changes):
    """Write the zip again with some parts replaced."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, part in (parts | changes).items():
            file.writestr(name, part)


class Net(nn.Module):
    """A network of the user's."""

    def __init__(self, n_features, n_outputs=1, width=4):
        super().__init__()
        self.first = nn.Linear(n_features, width)
        self.last = nn.Linear(width, n_outputs)

    def forward(self, X):
        return self.last(torch.tanh(self.first(X)))


class Other(Net):
    """Another one with the same weights."""


# ---------------------------------------------------------------- round trips


@each_estimator
def test_load_when_adapted_then_predicts_to_the_last_bit(estimator, path):
    # The adaptation is a part of the model, and nothing may be rounded.
    tasks = tasks_for(estimator)
    estimator.fit(tasks).adapt(*tasks[0])
    loaded = round_trip(estimator, path)
    X = tasks[1].X
    np.testing.assert_array_equal(outputs(loaded, X), outputs(estimator, X))
    assert set(vars(loaded)) == set(vars(estimator))
    assert repr(loaded) == repr(estimator)


@each_estimator
def test_load_when_adapted_to_many_tasks_then_keeps_them(estimator, path):
    # Ids and states of all tasks travel with the model.
    tasks = tasks_for(estimator)
    estimator.fit(tasks).adapt_tasks(tasks)
    X, _, ids = tasks.to_flat()
    expected = outputs(estimator, X, tasks=ids)
    loaded = round_trip(estimator, path)
    np.testing.assert_array_equal(outputs(loaded, X, tasks=ids), expected)


@pytest.mark.parametrize("estimator", trained_small(), ids=name_of)
def test_load_when_not_adapted_then_adapts_and_learns_on_the_same(estimator, path):
    # Also what the outer loop needs to go on is in the file.
    tasks = tasks_for(estimator)
    loaded = round_trip(estimator.fit(tasks), path)
    with pytest.raises(NotAdaptedError):
        loaded.predict(tasks[0].X)
    X = tasks[1].X
    expected = outputs(estimator.adapt(*tasks[0]), X)
    np.testing.assert_array_equal(outputs(loaded.adapt(*tasks[0]), X), expected)
    assert loaded.partial_fit(tasks).loss_curve_ == (
        estimator.partial_fit(tasks).loss_curve_
    )


def test_load_when_not_fitted_then_is_the_estimator(path):
    # Parameters alone are a model that has learned nothing yet.
    loaded = round_trip(small(MAMLRegressor, variant="anil"), path)
    assert loaded.get_params() == small(MAMLRegressor, variant="anil").get_params()
    loaded.fit(regression_tasks())


def test_load_when_parameters_are_unusual_then_they_are_kept(path):
    # JSON knows neither classes nor tuples, infinity or numpy's numbers.
    model = small(
        MAMLRegressor,
        optimizer=torch.optim.SGD,
        optimizer_params={"momentum": np.float32(0.5)},
        module_params={"1": np.float32(1.0), 1: np.float32(2.0)},
        random_state=np.random.RandomState(3),
        max_grad_norm=float("inf"),
        device=torch.device("cpu"),
    )
    expected = model.random_state.get_state()[1]
    loaded = round_trip(model, path)
    assert loaded.optimizer is torch.optim.SGD
    assert loaded.max_grad_norm == float("inf")
    assert isinstance(loaded.optimizer_params["momentum"], np.float32)
    assert loaded.module_params == {"1": 1.0, 1: 2.0}
    np.testing.assert_array_equal(loaded.random_state.get_state()[1], expected)
    loaded.set_params(max_grad_norm=2.0).fit(regression_tasks())
    assert isinstance(loaded.history_, History)


@pytest.mark.parametrize("kind", [str, int, float, bool, object])
def test_load_when_labels_are_of_any_type_then_they_are_kept(kind, path):
    # Labels come back as they were given.
    labels = np.array([0, 1]).astype(kind)
    if kind is object:
        labels[:] = ["no", "yes"]
    tasks = class_tasks(labels=labels)
    model = small(ProtoNetClassifier).fit(tasks).adapt(*tasks[0])
    loaded = round_trip(model, path)
    assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.predict(tasks[0].X).tolist() == model.predict(tasks[0].X).tolist()


def test_load_when_ids_are_tuples_and_columns_have_names_then_works(path):
    # Ids may be any hashable value that is data.
    tasks = [(pd.DataFrame(X, columns=["a", "b"]), y) for X, y in regression_tasks()]
    tasks = TaskCollection(tasks, names=[("site", i) for i in range(6)])
    model = small(MAMLRegressor).fit(tasks).adapt_tasks(tasks)
    loaded = round_trip(model, path)
    expected = model.predict(tasks[2].X, tasks=[("site", 2)] * len(tasks[2]))
    found = loaded.predict(tasks[2].X, tasks=[("site", 2)] * len(tasks[2]))
    np.testing.assert_array_equal(found, expected)
    assert loaded.feature_names_in_.tolist() == ["a", "b"]


def test_load_when_pipeline_or_wrapper_then_is_whole(path):
    # What this package puts around an estimator is saved with it.
    tasks = class_tasks()
    meta = make_meta_pipeline(StandardScaler(), small(ProtoNetClassifier)).fit(tasks)
    X, y = tasks[0]
    for model in (meta.adapt(X, y), AdaptedClassifier(meta).fit(X, y)):
        loaded = round_trip(model, path)
        expected = model.predict_proba(X)
        np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    X, y, ids = regression_tasks().to_flat()
    X = np.column_stack([X, [int(name[1:]) for name in ids]])
    model = TaskColumnRegressor(small(MAMLRegressor)).fit(X, y)
    np.testing.assert_array_equal(round_trip(model, path).predict(X), model.predict(X))


# ---------------------------------------------------------------- the user's parts


@pytest.mark.parametrize("given", [Net, Net(2)], ids=["class", "instance"])
def test_load_when_module_is_the_users_then_it_must_be_given(given, path):
    # Code is not in the file; its name and weights are.
    tasks = regression_tasks()
    model = small(MAMLRegressor, module=given).fit(tasks).adapt(*tasks[0])
    loaded = round_trip(model, path, module=given)
    np.testing.assert_array_equal(loaded.predict(tasks[1].X), model.predict(tasks[1].X))
    assert loaded.module is given
    with pytest.raises(ValueError, match=r"pass load_model\(path, module=Net\)"):
        load_model(path)
    with pytest.raises(ValueError, match="fitted with module=Net, got Other"):
        load_model(path, module=Other)


def test_load_when_module_has_changed_then_says_so(path, monkeypatch):
    # The same name with other layers cannot take the weights.
    tasks = regression_tasks()
    save_model(small(MAMLRegressor, module=Net).fit(tasks), path)
    changed = type("Net", (Net,), {"__init__": lambda s, **k: Net.__init__(s, 2, 1, 9)})
    with pytest.raises(ValueError, match="Pass the module that the model was fitted"):
        load_model(path, module=changed)


def test_load_when_pooled_model_has_trees_then_they_must_be_trusted(path):
    # skops does not trust scikit-learn's compiled trees by itself.
    forest = RandomForestRegressor(3, random_state=0)
    tasks = regression_tasks()
    model = small(ModelBasedMetaRegressor, pooled_estimator=forest).fit(tasks)
    save_model(model.adapt(*tasks[0]), path)
    with pytest.raises(ValueError, match=r"trusted=\['sklearn.tree._tree.Tree'\]"):
        load_model(path)
    loaded = load_model(path, trusted=get_untrusted_types(path))
    np.testing.assert_array_equal(loaded.predict(tasks[1].X), model.predict(tasks[1].X))


def test_untrusted_types_when_members_differ_then_those_of_all_are_listed(path):
    # An error for one member after the other would have to be met one by one.
    members = [RandomForestRegressor(2), HistGradientBoostingRegressor(max_iter=2)]
    named = [(f"{i}", PooledRegressor(m)) for i, m in enumerate([*members, Ridge()])]
    model = MetaStackingRegressor(named, n_shots=2, random_state=0)
    save_model(model.fit(regression_tasks()), path)
    boosting = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
    expected = [boosting, "sklearn.tree._tree.Tree"]
    assert get_untrusted_types(path) == expected
    with pytest.raises(ValueError, match=re.escape(f"trusted={expected}")):
        load_model(path)


def test_untrusted_types_when_skops_trusts_all_then_there_are_none(path):
    # The path alone loads such a file.
    save_model(PooledRegressor(Ridge()).fit(regression_tasks()), path)
    assert get_untrusted_types(path) == []


# ---------------------------------------------------------------- what is refused


def test_save_when_there_is_code_then_names_it(fitted, path):
    # A file that could not be loaded must not be written.
    for model, message in (
        (fitted.set_params(callbacks=[ProgressBar()]), "model.callbacks.0"),
        (Ridge(), "of sklearn_meta, got Ridge"),
        (make_pipeline(StandardScaler(), MAMLClassifier()), "make_meta_pipeline"),
        (make_meta_pipeline(make_pipeline(MAMLClassifier())), "around"),
    ):
        with pytest.raises(TypeError, match=message):
            save_model(model, path)
    assert not path.exists()


@pytest.mark.parametrize("params", [{"distance": "cosine"}, {"hidden_layer_sizes": ()}])
def test_save_when_parameters_were_set_after_fit_then_refuses(fitted, path, params):
    # The file would hold another model than the one that predicts now.
    with pytest.raises(ValueError, match="set after fit must be set back"):
        save_model(fitted.set_params(**params), path)


def test_save_when_writing_fails_then_the_old_file_stays(saved, fitted, monkeypatch):
    # A full disk must not cost the last good model.
    before = saved.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_model(fitted, saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_save_when_written_then_file_is_as_readable_as_any_other(saved, tmp_path):
    # Who trains a model is seldom who serves it.
    (tmp_path / "plain").touch()
    assert saved.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_save_when_extra_is_missing_then_says_what_to_install(
    fitted, path, monkeypatch
):
    # The two packages are optional.
    for name in ("skops.io", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=r"install 'sklearn-meta\[persistence\]'"):
            save_model(fitted, path)


# ---------------------------------------------------------------- damaged files


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_load_when_truncated_then_says_so(saved, share):
    # A copy that broke off is the most common fault of a file.
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="truncated or altered"):
        load_model(saved)


def test_load_when_any_byte_is_flipped_then_fails_or_is_the_same(saved, fitted):
    # No flipped bit may give another model without a word.
    content = saved.read_bytes()
    X = class_tasks()[1].X
    expected = fitted.predict_proba(X)
    for place in range(0, len(content), 37):
        flipped = bytearray(content)
        flipped[place] ^= 0xFF
        saved.write_bytes(flipped)
        try:
            loaded = load_model(saved)
        except ValueError:
            continue
        np.testing.assert_array_equal(loaded.predict_proba(X), expected)


@pytest.mark.parametrize("part", ["model.json", "arrays.safetensors"])
def test_load_when_a_part_was_altered_then_names_it(saved, part):
    # The zip is sound again, and the part is another.
    with zipfile.ZipFile(saved) as file:
        content = file.read(part)
    rewrite(saved, {part: content[:-1] + b" "})
    with pytest.raises(ValueError, match=rf"was altered .* \['{part}'\]"):
        load_model(saved)


def test_load_when_it_is_no_model_file_then_says_so(path, saved):
    # Also other zip files must be told apart, and newer versions of this one.
    manifest = {"format": "sklearn_meta model", "format_version": 2, "checksums": {}}
    rewrite(saved, {"manifest.json": json.dumps(manifest)})
    with pytest.raises(ValueError, match="format version 2, .* Upgrade sklearn_meta"):
        load_model(saved)
    rewrite(saved, {"manifest.json": "[]"})
    with pytest.raises(ValueError, match="no manifest of save_model"):
        load_model(saved)
    path.write_text("no zip")
    with pytest.raises(ValueError, match="no model file"):
        load_model(path)
    with pytest.raises(FileNotFoundError):
        load_model(path.parent / "nowhere")


# ---------------------------------------------------------------- safety


def test_load_when_watched_then_never_unpickles(saved, monkeypatch):
    # Pickles run code. The file has none, and nothing that reads one is called.
    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was loaded")

    for place in (pickle, torch):
        monkeypatch.setattr(place, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    load_model(saved)
    with zipfile.ZipFile(saved) as file:
        kinds = {name.rpartition(".")[2] for name in file.namelist()}
    assert kinds == {"json", "safetensors", "skops"}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"kind": "estimator", "type": "Popen", "state": {}},
            "names the class 'Popen'",
        ),
        ({"kind": "record", "type": "system", "items": []}, "names the class 'system'"),
        ({"kind": "optimizer", "name": "load"}, "no optimizer 'load'"),
        ({"kind": "call", "name": "os.system"}, "a value of kind 'call'"),
    ],
)
def test_load_when_file_is_crafted_then_finds_no_other_class(path, node, message):
    # Checksums are no signature: whoever writes a file can write them too.
    empty = {"arrays.safetensors": b"\x02" + b"\0" * 7 + b"{}"}
    write_parts(path, {"model.json": json.dumps(node).encode(), **empty})
    with pytest.raises(ValueError, match=message):
        load_model(path)


def test_load_when_done_then_random_numbers_have_not_moved(saved):
    # A learner is built with random weights, which are replaced.
    before = torch.random.get_rng_state()
    load_model(saved)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_load_when_fitted_on_a_gpu_then_works_without_one(fitted, path):
    # Serving machines are often smaller than those that trained.
    save_model(fitted.set_params(device="cuda"), path)
    with pytest.warns(DeviceWarning, match="not available"):
        loaded = load_model(path)
    X = class_tasks()[1].X
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
