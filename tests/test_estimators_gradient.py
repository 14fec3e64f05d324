"""MAML and its variants: what adapts, how far, and that it is worth it."""

import copy

import numpy as np
import pytest
from scipy.stats import norm
from small_estimators import class_tasks, outputs, regression_tasks, small

from sklearn_meta import MAMLClassifier, MAMLRegressor
from sklearn_meta.datasets import make_sinusoid_tasks
from sklearn_meta.estimators import gradient
from sklearn_meta.exceptions import DivergenceWarning, LargeSupportWarning
from sklearn_meta.functional.compiled_library import load_library

VARIANTS = ["maml", "fomaml", "anil", "metasgd", "maml++", "reptile", "imaml"]


@pytest.fixture
def tasks():
    """Six lines with a shift of their own."""
    return regression_tasks()


def moved(model):
    """Return the names of adapted parameters that differ from where they started."""
    state = model.adapted_.states[0]
    start = dict(model.learner_.named_parameters())
    names = [name for name in state if name in start]
    return {n for n in names if not np.array_equal(state[n][0], start[n].detach())}


@pytest.mark.parametrize("variant", sorted({*VARIANTS} - {"anil"}))
def test_adapt_moves_all_weights(tasks, variant):
    """The inner loop of these variants goes through the whole network."""
    model = small(MAMLRegressor, variant=variant).fit(tasks).adapt(*tasks[0])
    network = {f"network.{n}" for n, _ in model.learner_.network.named_parameters()}
    assert moved(model) == network


def test_adapt_when_anil_moves_the_head_only(tasks):
    """The body is reused, as the variant's name says."""
    model = small(MAMLRegressor, variant="anil").fit(tasks).adapt(*tasks[0])
    names = [f"network.{n}" for n, _ in model.learner_.network.named_parameters()]
    assert moved(model) == set(names[-2:])


def test_fit_when_metasgd_learns_rates(tasks):
    """Each parameter ends with a rate of its own."""
    model = small(MAMLRegressor, variant="metasgd", inner_lr=0.05).fit(tasks)
    rates = np.concatenate([r.detach().ravel() for r in model.learner_.rates])
    assert len(rates) == 8 * 2 + 8 + 8 + 1
    assert (rates != 0.05).mean() > 0.9
    assert not hasattr(small(MAMLRegressor).fit(tasks).learner_, "rates")


def test_fit_when_first_order_takes_another_path_than_second_order(tasks):
    """From the same first loss, since the forward pass is the same."""
    curves = [
        small(MAMLRegressor, variant=variant, inner_lr=0.2).fit(tasks).loss_curve_
        for variant in ("maml", "fomaml")
    ]
    assert curves[0][0] == pytest.approx(curves[1][0], rel=1e-6)
    assert curves[0][-1] != pytest.approx(curves[1][-1], rel=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_fit_of_regressor_lowers_the_loss_on_new_tasks(variant):
    """Meta-training must be worth it, on tasks that it has not seen."""
    params = {"inner_lr": 0.1, "inner_steps": 5, "max_iter": 150, "lr": 0.01}
    if variant == "imaml":
        params["inner_steps"] = 16  # it wants to come near a minimum
    model = small(MAMLRegressor, variant=variant, **params)
    model.set_params(hidden_layer_sizes=(16,))
    tasks = regression_tasks(30)
    model.fit(tasks[:24])
    trained = model.score(tasks[24:])
    untrained = model.set_params(max_iter=1, lr=1e-9).fit(tasks[:24])
    assert trained > 0.4
    assert trained > untrained.score(tasks[24:]) + 0.2


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mode", ["shared", "task"])
def test_fit_of_classifier_lowers_the_training_loss(variant, mode):
    """Every variant with every head must train."""
    params = {"inner_lr": 0.5, "inner_steps": 5, "max_iter": 60, "lr": 0.01}
    model = small(MAMLClassifier, variant=variant, label_mode=mode, **params)
    model.set_params(meta_batch_size=16)  # with fewer, luck is as large as the gain
    loss = model.fit(class_tasks(12)).loss_curve_
    assert np.mean(loss[-10:]) < np.mean(loss[:10]) - 0.03


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("inner_optimizer", ["momentum", "adam"])
def test_fit_with_an_inner_optimizer_trains(variant, inner_optimizer):
    """Every variant takes every optimizer, at a tenth of the rate."""
    params = {"inner_lr": 0.03, "inner_steps": 5, "max_iter": 60, "lr": 0.01}
    model = small(MAMLRegressor, variant=variant, **params)
    model.set_params(inner_optimizer=inner_optimizer, hidden_layer_sizes=(16,))
    loss = model.fit(regression_tasks(24)).loss_curve_
    assert np.mean(loss[-10:]) < np.mean(loss[:10]) - 0.1


@pytest.mark.parametrize("variant", ["maml++", "reptile"])
def test_fit_without_inner_steps_where_they_are_needed_says_so(tasks, variant):
    """These two learn from the steps themselves."""
    with pytest.raises(ValueError, match="expected inner_steps of at least 1"):
        small(MAMLRegressor, variant=variant, inner_steps=0).fit(tasks)


def test_engine_of_each_variant_is_told(tasks):
    """Formulas where they are known, autograd elsewhere."""
    engines = {
        variant: small(MAMLRegressor, variant=variant).fit(tasks).learner_.engine
        for variant in VARIANTS
    }
    assert engines.pop("maml++") == "stacked"
    assert {engines.pop("reptile"), engines.pop("imaml")} == {"recursion"}
    fastest = "recursion" if load_library() is None else "compiled"
    assert set(engines.values()) == {fastest}


def test_adapt_steps_when_set_after_fit_are_taken(tasks):
    """The number of steps is a matter of adapting."""
    model = small(MAMLRegressor, inner_steps=2).fit(tasks)
    X = tasks[1].X
    found = {
        steps: outputs(model.set_params(adapt_steps=steps).adapt(*tasks[0]), X)
        for steps in (None, 2, 5)
    }
    np.testing.assert_array_equal(found[None], found[2])
    assert not np.allclose(found[5], found[2])


def test_adapt_steps_of_a_copy_leave_the_original_alone(tasks):
    """They share weights, not settings."""
    model = small(MAMLRegressor).fit(tasks)
    other = copy.copy(model).set_params(adapt_steps=7)
    expected = outputs(model.adapt(*tasks[0]), tasks[1].X)
    other.adapt(*tasks[0])
    np.testing.assert_array_equal(outputs(model.adapt(*tasks[0]), tasks[1].X), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_inner_loop_when_it_diverges_names_the_task(tasks, variant):
    """And says how many others."""
    model = small(MAMLRegressor, standardize=False, variant=variant).fit(tasks)
    X, y = tasks[2]
    wild = [tuple(tasks[0]), (X * 1e4, y)]
    match = "diverged on 1 of 2 tasks, first on task 1; .* Lower inner_lr"
    with pytest.warns(DivergenceWarning, match=match):
        model.adapt_tasks(wild)
    assert np.isfinite(outputs(model, X, tasks=[1] * len(X))).all()


def test_sinusoids_when_adapted_to_ten_rows_lose_most_of_their_error():
    """The field's own problem, at a budget of seconds; all amplitudes are 0.1 to 5."""
    tasks = make_sinusoid_tasks(n_tasks=220, n_samples=20, random_state=0)
    model = small(MAMLRegressor, max_iter=400, lr=0.003, inner_lr=0.1, n_shots=10)
    model.set_params(hidden_layer_sizes=(40, 40), inner_steps=5, meta_batch_size=8)
    model.set_params(early_stopping=False).fit(tasks[:200])
    errors = {0: [], 5: []}
    for steps, found in errors.items():
        model.set_params(adapt_steps=steps)
        for X, y in tasks[200:]:
            predicted = model.adapt(X[:10], y[:10]).predict(X[10:])
            found.append(((predicted - y[10:]) ** 2).mean())
    assert np.mean(errors[5]) < 0.4 * np.mean(errors[0])


# ---------------------------------------------------------------- the Gaussian


def test_quantiles_are_those_of_the_predicted_gaussian(tasks):
    """Against scipy's, at the default levels and others."""
    model = small(MAMLRegressor).fit(tasks).adapt(*tasks[0])
    mean, std = model.predict(tasks[1].X, return_std=True)
    levels = [0.1, 0.5, 0.99]
    found = model.predict_quantiles(tasks[1].X, levels)
    expected = norm(mean[:, None], std[:, None]).ppf(levels)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert model.predict_quantiles(tasks[1].X).shape == (len(tasks[1]), 3)


def test_std_tells_the_size_of_the_errors(tasks):
    """Trained on the residuals of query rows: right within a factor of two."""
    tasks = regression_tasks(40)
    model = small(MAMLRegressor, max_iter=200, lr=0.01, n_shots=5).fit(tasks[:30])
    errors, stds = [], []
    for X, y in tasks[30:]:
        mean, std = model.adapt(X[:5], y[:5]).predict(X[5:], return_std=True)
        errors.append((mean - y[5:]) ** 2)
        stds.append(std)
    ratio = np.sqrt(np.concatenate(errors).mean()) / np.concatenate(stds).mean()
    assert 0.5 < ratio < 2


@pytest.mark.parametrize("cls", [MAMLRegressor, MAMLClassifier])
def test_adapt_when_the_support_is_large_takes_a_part_of_it(cls, monkeypatch):
    """The activations of all rows of a task are in memory at once."""
    tasks = regression_tasks() if cls is MAMLRegressor else class_tasks()
    model = small(cls).fit(tasks)
    X, y = tasks[0]
    monkeypatch.setattr(gradient, "MAX_GRADIENT_ROWS", 6)
    with pytest.warns(LargeSupportWarning, match=f"has {len(X)} rows; an inner step"):
        model.adapt(X, y)
    assert np.isfinite(outputs(model, X)).all()
    model.adapt(X[:6], y[:6])  # as many as it can take: no warning


@pytest.mark.parametrize("variant", ["maml", "fomaml", "metasgd"])
def test_fit_when_numbers_are_of_another_type_is_the_same(variant, tasks):
    """A search hands over ints and numpy's numbers."""
    plain = {"inner_lr": 1.0, "n_queries": 2, "inner_steps": 1}
    other = {"inner_lr": 1, "n_queries": np.int64(2), "inner_steps": np.int32(1)}
    curves = [
        small(MAMLRegressor, variant=variant).set_params(**p).fit(tasks).loss_curve_
        for p in (plain, other)
    ]
    assert curves[0] == curves[1]
