"""What every public estimator must pass, scikit-learn's own checks first."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_html_repr, get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from small_estimators import (
    ALL_ESTIMATORS,
    TRAINED_ESTIMATORS,
    all_small,
    name_of,
    outputs,
    small,
)
from small_estimators import tasks_for as tasks_of_its_kind

import sklearn_meta
from sklearn_meta import (
    AdaptedClassifier,
    AdaptedRegressor,
    Checkpoint,
    MetaEmbedding,
    ProtoNetClassifier,
    TaskCollection,
    TaskEnsembleClassifier,
    TaskEnsembleRegressor,
)
from sklearn_meta.exceptions import DivergenceWarning, NotAdaptedError

each_estimator = pytest.mark.parametrize("estimator_class", ALL_ESTIMATORS)
each_trained = pytest.mark.parametrize("estimator_class", TRAINED_ESTIMATORS)


def few_steps(estimator_class, **params):
    """Return an estimator that also reaches the accuracy that some checks ask for."""
    params |= {"max_iter": 60, "lr": 0.01}
    if "architecture" in estimator_class().get_params():
        params |= {"architecture": "transformer", "hidden_size": 16, "n_heads": 4}
    elif estimator_class is not ProtoNetClassifier:  # else it asks for a network
        params |= {"hidden_layer_sizes": (16,)}
    return small(estimator_class, **params)


@pytest.fixture
def estimator(estimator_class):
    """One small estimator that is not fitted."""
    return small(estimator_class)


@pytest.fixture
def tasks(estimator):
    """Six ragged tasks, of numbers or of classes."""
    return tasks_of_its_kind(estimator)


# the checks have two or three classes, of which some estimators rightly warn
@pytest.mark.filterwarnings("ignore::sklearn_meta.exceptions.FewTasksWarning")
@parametrize_with_checks(
    [
        *(few_steps(cls) for cls in TRAINED_ESTIMATORS),
        few_steps(ProtoNetClassifier, embedding="network"),
        *(small(cls) for cls in ALL_ESTIMATORS if cls not in TRAINED_ESTIMATORS),
        small(TaskEnsembleClassifier, estimator=RandomForestClassifier(10)),
        small(TaskEnsembleRegressor, estimator=RandomForestRegressor(10)),
    ]
)
def test_scikit_learn_checks_pass(estimator, check):
    """Each estimator is a full scikit-learn estimator, with no expected failure."""
    check(estimator)


def test_all_estimators_holds_every_public_estimator():
    """A new estimator that is not listed would go unchecked."""
    public = [getattr(sklearn_meta, name) for name in sklearn_meta.__all__]
    estimators = {cls for cls in public if hasattr(cls, "get_params")}
    # wrappers and transformers predict nothing of their own: see their test files
    elsewhere = {AdaptedClassifier, AdaptedRegressor, MetaEmbedding}
    assert estimators - elsewhere == set(ALL_ESTIMATORS)


# ---------------------------------------------------------------- parameters


@each_estimator
def test_init_only_assigns_its_parameters(estimator_class):
    """Checks and conversions belong into fit, or clone and search break."""
    estimator = estimator_class()
    assert vars(estimator) == estimator.get_params(deep=False)


@each_estimator
def test_init_keeps_the_identity_of_parameters(estimator_class):
    """A copied parameter makes clone fail its own check."""
    value = object()
    names = estimator_class().get_params(deep=False)
    made = estimator_class(**dict.fromkeys(names, value))
    assert all(getattr(made, name) is value for name in names)


@each_trained
def test_nested_params_when_cloned_stay(estimator_class):
    """A search sets module__x and optimizer__x on clones."""
    estimator = estimator_class(optimizer=torch.optim.SGD)
    estimator.set_params(module__width=3, optimizer__momentum=0.9)
    params = clone(estimator).get_params()
    assert params["module__width"] == 3
    assert params["optimizer__momentum"] == 0.9
    assert params["optimizer_params"] == {"momentum": 0.9}


@each_trained
def test_set_params_when_nested_leaves_the_given_dict_alone(estimator_class):
    """The dict is the caller's, and a clone's original has it too."""
    given = {"momentum": 0.5}
    estimator = estimator_class(optimizer_params=given)
    estimator.set_params(optimizer__momentum=0.9)
    assert given == {"momentum": 0.5}


@each_trained
def test_optimizer_params_reach_the_optimizer(estimator, tasks):
    """What is set must be what trains."""
    estimator.set_params(optimizer=torch.optim.SGD, optimizer__momentum=0.25)
    groups = estimator.fit(tasks).optimizer_state_["param_groups"]
    assert groups[0]["momentum"] == 0.25


@each_estimator
def test_tags_tell_the_truth(estimator):
    """Tools decide by tags what they may ask of an estimator."""
    tags = get_tags(estimator)
    assert is_classifier(estimator) != is_regressor(estimator)
    assert not tags.input_tags.sparse
    assert not tags.input_tags.allow_nan
    assert not tags.non_deterministic
    assert tags.target_tags.required
    assert not tags.target_tags.multi_output
    if is_classifier(estimator):
        assert tags.classifier_tags.multi_class


@each_estimator
def test_html_repr_names_the_estimator(estimator, tasks):
    """Notebooks show it, fitted and not."""
    for shown in (estimator, estimator.fit(tasks)):
        assert type(estimator).__name__ in estimator_html_repr(shown)


# ---------------------------------------------------------------- attributes


@each_estimator
def test_fit_and_adapt_set_only_names_with_underscore(estimator, tasks):
    """Other names would be taken for parameters."""
    estimator.fit(tasks).adapt(*tasks[0])
    learned = set(vars(estimator)) - set(estimator.get_params(deep=False))
    assert {name for name in learned if not name.endswith("_")} == set()


@each_estimator
def test_fit_leaves_parameters_as_given(estimator, tasks):
    """Parameters are the user's; fit reads them."""
    before = dict(estimator.get_params())
    estimator.fit(tasks)
    after = estimator.get_params()
    assert all(after[name] is before[name] for name in before)


@each_trained
def test_fitted_attributes_describe_the_run(estimator, tasks):
    """These are promised in the docstrings."""
    estimator.fit(tasks)
    assert estimator.n_tasks_ == len(tasks)
    assert estimator.n_iter_ == estimator.max_iter == len(estimator.loss_curve_)
    assert np.isfinite(estimator.loss_curve_).all()
    assert estimator.validation_scores_ is None  # too few tasks to hold some out
    assert estimator.n_features_in_ == 2
    assert not estimator.learner_.training
    dtypes = {p.dtype for p in estimator.learner_.parameters()}
    assert dtypes == {torch.float64}


@each_estimator
def test_fit_of_feature_names_when_tasks_are_frames_keeps_them(estimator, tasks):
    """Columns are compared by name in adapt and predict."""
    pd = pytest.importorskip("pandas")
    frames = [(pd.DataFrame(X, columns=["u", "v"]), y) for X, y in tasks]
    estimator.fit(frames).adapt(*frames[0])
    assert estimator.feature_names_in_.tolist() == ["u", "v"]
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(frames[0][0][["v", "u"]])


@each_estimator
def test_unfitted_then_unadapted_raise_their_own_errors(estimator, tasks):
    """A NotAdaptedError is a NotFittedError that says which step is missing."""
    X, y = tasks[0]
    with pytest.raises(NotFittedError, match="not fitted yet"):
        estimator.predict(X)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        estimator.adapt(X, y)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        estimator.adapt_tasks(tasks)
    with pytest.raises(NotAdaptedError, match=r"adapt\(X_support, y_support\)"):
        estimator.fit(tasks).predict(X)


@each_estimator
def test_refit_forgets_the_adaptation(estimator, tasks):
    """Weights of one fit and a state of another would not belong together."""
    X, y = tasks[0]
    estimator.fit(tasks).adapt(X, y)
    with pytest.raises(NotAdaptedError):
        estimator.fit(tasks).predict(X)


# ---------------------------------------------------------------- copies


@pytest.mark.parametrize("estimator", all_small(), ids=name_of)
def test_pickle_keeps_adaptation_and_predictions_to_the_bit(estimator):
    """A served model must not drift on its way through a file."""
    tasks = tasks_of_its_kind(estimator)
    estimator.fit(tasks).adapt(*tasks[0])
    X = tasks[1].X
    loaded = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(outputs(loaded, X), outputs(estimator, X))
    assert set(vars(loaded)) == set(vars(estimator))


@each_estimator
def test_pickle_when_adapted_to_many_tasks_keeps_them(estimator, tasks):
    """The states of all tasks travel with the model."""
    estimator.fit(tasks).adapt_tasks(tasks)
    X, _, ids = tasks.to_flat()
    loaded = pickle.loads(pickle.dumps(estimator))
    expected = outputs(estimator, X, tasks=ids)
    np.testing.assert_array_equal(outputs(loaded, X, tasks=ids), expected)


@each_trained
def test_pickle_when_loaded_goes_on_learning_the_same(estimator, tasks):
    """Nothing that the outer loop needs may be lost."""
    estimator.fit(tasks)
    loaded = pickle.loads(pickle.dumps(estimator)).partial_fit(tasks)
    assert loaded.loss_curve_ == estimator.partial_fit(tasks).loss_curve_


@each_estimator
def test_copy_when_adapted_leaves_the_original_alone(estimator, tasks):
    """One fitted model serves many tasks through shallow copies."""
    estimator.fit(tasks).adapt(*tasks[0])
    X = tasks[2].X
    before = outputs(estimator, X)
    other = copy.copy(estimator).adapt(*tasks[1])
    np.testing.assert_array_equal(outputs(estimator, X), before)
    assert not np.array_equal(outputs(other, X), before)


@each_trained
def test_copy_shares_the_weights(estimator, tasks):
    """A copy costs no more memory than its adapted state."""
    estimator.fit(tasks)
    weights = zip(
        copy.copy(estimator).learner_.parameters(),
        estimator.learner_.parameters(),
        strict=True,
    )
    assert all(one is two for one, two in weights)


@each_trained
def test_copy_when_trained_on_leaves_the_original_alone(estimator, tasks):
    """The weights are shared, so more outer steps must not write into them."""
    estimator.fit(tasks).adapt(*tasks[0])
    before = outputs(estimator, tasks[1].X)
    copy.copy(estimator).partial_fit(tasks)
    estimator.adapt(*tasks[0])
    np.testing.assert_array_equal(outputs(estimator, tasks[1].X), before)


# ---------------------------------------------------------------- randomness


@each_trained
def test_same_seed_same_result_other_seed_another(estimator, tasks):
    """Results can be had again, and the seed does something."""
    curves = [
        clone(estimator).set_params(random_state=seed).fit(tasks).loss_curve_
        for seed in (0, 0, 1)
    ]
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


@each_trained
def test_random_state_when_an_instance_moves_on(estimator, tasks):
    """scikit-learn's rule: an instance gives another draw at each fit."""
    estimator.set_params(random_state=np.random.RandomState(0))
    first = estimator.fit(tasks).loss_curve_
    assert first != estimator.fit(tasks).loss_curve_


@each_estimator
def test_global_state_when_fitted_is_unchanged(estimator, tasks):
    """A library that touches global state changes the user's other results."""
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    before = global_state()
    estimator.fit(tasks).adapt(*tasks[0]).predict(tasks[1].X)
    for was, now in zip(before, global_state(), strict=True):
        np.testing.assert_array_equal(was, now)


@each_trained
def test_result_when_the_global_seed_differs_is_the_same(estimator, tasks):
    """Only random_state decides."""
    curves = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        curves.append(clone(estimator).fit(tasks).loss_curve_)
    assert curves[0] == curves[1]


def global_state():
    """Return what fit could change for everyone."""
    return (
        torch.random.get_rng_state().numpy(),
        np.random.get_state()[1],  # noqa: NPY002
        str(torch.get_default_dtype()),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
    )


# ---------------------------------------------------------------- the outer loop


@each_trained
def test_warm_start_goes_on_from_the_last_fit(estimator, tasks):
    """The loss goes on falling from where it was; a cold start begins again."""
    estimator.set_params(max_iter=30, lr=0.01, lr_schedule="constant")
    first = estimator.fit(tasks)
    start = np.mean(first.loss_curve_[:3])
    weights = first.learner_.state_dict()
    warm = estimator.set_params(warm_start=True, max_iter=1, lr=1e-9).fit(tasks)
    for name, value in warm.learner_.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-6)
    more = estimator.set_params(max_iter=40, lr=0.003).fit(tasks)
    # episodes are few, and single ones have a large loss
    assert np.median(more.loss_curve_[-20:]) < start


@each_trained
def test_partial_fit_when_repeated_goes_on(estimator, tasks):
    """It is fit at first, and then more outer steps."""
    estimator.set_params(lr_schedule="constant")
    once = clone(estimator).fit(tasks).loss_curve_
    assert estimator.partial_fit(tasks).loss_curve_ == once
    kept = estimator.learner_
    estimator.partial_fit(tasks)
    assert estimator.loss_curve_ != once
    assert estimator.learner_ is not kept


@each_trained
def test_partial_fit_when_features_differ_raises(estimator, tasks):
    """The weights belong to the columns they were learned on."""
    estimator.partial_fit(tasks)
    wider = [(np.c_[X, X], y) for X, y in tasks]
    with pytest.raises(ValueError, match="4 features, but .* expecting 2 features"):
        estimator.partial_fit(wider)


@each_trained
def test_early_stopping_keeps_the_best_weights_on_held_out_tasks(estimator):
    """The last weights may be worse than earlier ones."""
    estimator.set_params(early_stopping=True, validation_fraction=0.5, max_iter=48)
    seen = WeightsAtBest()
    estimator.set_params(callbacks=[seen], lr=0.03, n_iter_no_change=100)
    estimator.fit(tasks_of_its_kind(estimator))
    scores = estimator.validation_scores_
    assert int(np.argmax(scores)) == seen.best_epoch
    for name, value in estimator.learner_.float().state_dict().items():
        torch.testing.assert_close(value, seen.weights[name], rtol=0, atol=0)


@each_trained
def test_early_stopping_without_gain_stops_early(estimator, tasks):
    """Steps that teach nothing are saved."""
    estimator.set_params(early_stopping=True, n_iter_no_change=1, lr=1e-12)
    estimator.set_params(max_iter=120).fit(tasks)
    assert estimator.n_iter_ < 120


@each_trained
def test_early_stopping_when_auto_holds_tasks_out_from_ten_on(estimator):
    """With fewer tasks, holding some out costs more than it tells."""
    for n_tasks, held_out in ((9, False), (10, True)):
        estimator.fit(tasks_of_its_kind(estimator, n_tasks))
        assert (estimator.validation_scores_ is not None) == held_out


@each_trained
def test_callbacks_see_the_run(estimator, tasks):
    """They are skorch's, so its own callbacks work too."""
    seen = Recorder()
    estimator.set_params(callbacks=[seen]).fit(tasks)
    assert seen.events[0] == "begin" and seen.events[-1] == "end"
    assert seen.events.count("epoch") == len(estimator.history_)


@each_trained
def test_interrupt_when_training_keeps_a_working_model(estimator, tasks):
    """Ctrl-C after an hour must not lose the hour."""
    estimator.set_params(callbacks=[InterruptAt(3)])
    message = "interrupted after 3 of 12 outer steps"
    with pytest.warns(UserWarning, match=message) as caught:
        estimator.fit(tasks)
    assert [warning.filename for warning in caught] == [__file__]
    assert estimator.n_iter_ == 3
    assert np.isfinite(outputs(estimator.adapt(*tasks[0]), tasks[1].X)).all()


@each_trained
def test_checkpoint_when_a_fit_was_interrupted_goes_on_to_the_same_end(
    estimator, tasks, tmp_path
):
    """Whatever the learner is, its weights and random numbers are all there is."""
    whole = clone(estimator).fit(tasks)
    checkpoint = Checkpoint(tmp_path, seconds=0)
    estimator.set_params(checkpoint=checkpoint, callbacks=[InterruptAt(3)])
    with pytest.warns(UserWarning, match="interrupted"):
        estimator.fit(tasks)
    resumed = estimator.set_params(callbacks=None).fit(tasks)
    assert resumed.loss_curve_ == whole.loss_curve_
    weights = whole.learner_.state_dict()
    for name, value in resumed.learner_.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)


@each_trained
def test_window_when_tasks_do_not_fit_into_memory_trains_on_all(estimator, tasks):
    """Tasks come and go while the learner is trained."""
    estimator.fit(TaskCollection(tasks, window=3))
    assert estimator.n_tasks_ == len(tasks)
    assert np.isfinite(outputs(estimator.adapt(*tasks[0]), tasks[1].X)).all()


@each_trained
@pytest.mark.parametrize(
    "params",
    [{"lr": 1e6}, {"lr": 1e30, "max_grad_norm": None, "optimizer": torch.optim.SGD}],
    ids=["AdamW", "SGD"],
)
def test_divergence_of_the_outer_loop_warns_and_keeps_sound_weights(
    estimator, tasks, params
):
    """A model of NaN is worse than a short training."""
    message = "outer loop diverged .* Lower lr"
    with pytest.warns(DivergenceWarning, match=message) as caught:
        estimator.set_params(lr_schedule="constant", **params).fit(tasks)
    assert {warning.filename for warning in caught} == {__file__}
    weights = estimator.learner_.state_dict().values()
    assert all(weight.isfinite().all() for weight in weights)
    assert np.isfinite(outputs(estimator.adapt(*tasks[0]), tasks[1].X)).all()


@each_trained
def test_verbose_shows_steps_time_loss_and_score(estimator, tasks, capsys):
    """A long fit should say how far it is, and a quiet one nothing."""
    estimator.fit(tasks)
    quiet = capsys.readouterr()
    assert quiet.out + quiet.err == ""
    estimator.set_params(verbose=1, early_stopping=True, n_iter_no_change=12)
    estimator.fit(tasks)
    last = capsys.readouterr().err.splitlines()[-1]
    assert "meta-training" in last and "12/12" in last
    assert re.search(r"\d\d:\d\d<\d\d:\d\d", last)  # spent and left
    score = f"{estimator.validation_scores_[-1]:.4f}"
    assert f"loss={estimator.loss_curve_[-1]:.4f}, validation score={score}" in last


class Recorder:
    """A callback without a base class, as a user may write one."""

    def __init__(self):
        self.events = []

    def initialize(self):
        return self

    def on_train_begin(self, net, **kwargs):
        self.events.append("begin")

    def on_epoch_end(self, net, **kwargs):
        self.events.append("epoch")

    def on_train_end(self, net, **kwargs):
        self.events.append("end")

    def __getattr__(self, name):
        if name.startswith(("on_", "get_params", "set_params")):
            return lambda *args, **kwargs: {}
        raise AttributeError(name)


class WeightsAtBest(Recorder):
    """Keep the weights at the least held-out loss."""

    best, epoch = np.inf, -1

    def on_epoch_end(self, net, **kwargs):
        self.epoch += 1
        loss = net.history[-1, "valid_loss"]
        if loss < self.best:
            self.best, self.best_epoch = loss, self.epoch
            weights = net.module_.state_dict()
            self.weights = {name: value.clone() for name, value in weights.items()}


class InterruptAt(Recorder):
    """Press Ctrl-C after some epochs."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt
