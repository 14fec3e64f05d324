"""Gaussian processes of classes as estimators."""

import numpy as np
import pytest
from small_estimators import LOGISTIC, class_tasks, small

from sklearn_meta import DeepKernelClassifier, TaskCollection
from sklearn_meta.datasets import make_blob_tasks
from sklearn_meta.estimators import class_kernel
from sklearn_meta.exceptions import FewTasksWarning, LargeSupportWarning
from sklearn_meta.metrics import few_shot_score


def sloped_tasks(n_tasks=24, seed=0):
    """Tasks whose log-odds are the first feature, plus a slope in the second."""
    rng = np.random.default_rng(seed)
    tasks = []
    for _ in range(n_tasks):
        X, slope = rng.normal(size=(40, 2)), 3 * rng.normal()
        odds = 2 * X[:, 0] + slope * X[:, 1]
        tasks.append((X, (rng.logistic(size=40) < odds).astype(int)))
    return TaskCollection(tasks)


def shallow(**params):
    """Return a Gaussian process without network."""
    return small(DeepKernelClassifier, hidden_layer_sizes=(), **params)


def loss(model, tasks, n_shots=12):
    return -few_shot_score(
        model, tasks, n_shots=n_shots, scoring="neg_log_loss", random_state=0
    )


def test_fit_learns_which_slope_differs_between_tasks():
    # what the kernel is for: to know in advance where a new task may differ
    model = DeepKernelClassifier(
        pooled_estimator=LOGISTIC, n_queries=12, max_iter=60, random_state=0
    ).fit(sloped_tasks())
    slopes = model.learner_.of_columns("linear")[:2].exp()
    assert slopes[1] > 1.4 * slopes[0]


def test_adapting_on_top_of_a_pooled_model_beats_it():
    # the reason to adapt at all
    tasks = sloped_tasks()
    settings = {"pooled_estimator": LOGISTIC, "max_iter": 60, "random_state": 0}
    model = DeepKernelClassifier(**settings).fit(tasks[:16])
    pooled = np.mean(
        [
            -np.log(model.pooled_.model.predict_proba(X)[np.arange(len(y)), y]).mean()
            for X, y in tasks[16:]
        ]
    )
    assert loss(model, tasks[16:]) < 0.9 * pooled


def test_an_offset_without_support_evidence_is_the_pooled_model():
    # a kernel of nearly zero leaves the logits of the pooled model alone
    tasks = class_tasks()
    model = shallow(label_mode="shared", pooled_estimator=LOGISTIC)
    model.fit(tasks)
    for name in ("constant", "rbf", "linear"):
        model.learner_.numbers.moves[name].data -= 1.0  # a factor of exp(-20)
    model.learner_.numbers.moves["offset"].data *= 0
    X, y = tasks[0]
    expected = model.pooled_.model.predict_proba(X)
    np.testing.assert_allclose(model.adapt(X, y).predict_proba(X), expected, atol=1e-3)


def test_shared_labels_without_pooled_model_start_at_class_frequencies():
    # a rare class must not start as likely as a frequent one
    rng = np.random.default_rng(0)
    y = np.r_[np.zeros(30, int), np.ones(9, int)]
    tasks = [(rng.normal(size=(39, 2)), y) for _ in range(5)]
    model = shallow(label_mode="shared").fit(tasks)
    expected = np.log([151 / 197, 46 / 197])
    np.testing.assert_allclose(model.class_log_prior_, expected)
    start = model.learner_.numbers.start_prior
    np.testing.assert_allclose(start, expected, rtol=1e-6)


def test_local_labels_are_told_apart_from_one_row():
    # whitening knows which features matter before a class is seen
    tasks = make_blob_tasks(30, 30, n_classes=3, label_mode="task", random_state=0)
    model = DeepKernelClassifier(
        label_mode="task", max_iter=20, meta_batch_size=8, random_state=0
    ).fit(tasks[:24])
    few = few_shot_score(model, tasks[24:], n_shots=1, random_state=0)
    assert few > 0.8


def test_correction_starts_at_the_process():
    # the network's last layer is zero, so it can only add to what is right already
    tasks = class_tasks()
    plain = shallow(label_mode="shared", max_iter=1, lr=1e-12)
    X, y = tasks[0]
    expected = plain.fit(tasks).adapt(X, y).predict_proba(X)
    corrected = plain.set_params(correction="transformer").fit(tasks).adapt(X, y)
    np.testing.assert_allclose(corrected.predict_proba(X), expected, atol=1e-6)


def test_early_stopping_by_default_is_for_networks_only():
    # a few numbers need all tasks, a network needs tasks to judge it
    tasks = class_tasks(12)
    plain = shallow(label_mode="shared").fit(tasks)
    deep = small(DeepKernelClassifier, label_mode="shared")
    assert plain.validation_scores_ is None
    assert deep.fit(tasks).validation_scores_ is not None
    asked = plain.set_params(early_stopping=True).fit(tasks)
    assert asked.validation_scores_ is not None


def test_early_stopping_of_local_labels_raises():
    # classes held out for stopping would be missing where the numbers are learned
    model = shallow(label_mode="task", early_stopping=True)
    with pytest.raises(ValueError, match="Use 'auto' or False"):
        model.fit(class_tasks())


@pytest.mark.parametrize("mode", ["shared", "task"])
def test_large_support_is_thinned_and_says_so(monkeypatch, mode):
    # a matrix per class is inverted: it must stay small
    monkeypatch.setattr(class_kernel, "MAX_ROWS", 12)
    X, y = (
        np.random.default_rng(0).normal(size=(80, 2)),
        np.where(np.arange(80) % 4, "a", "b"),
    )
    model = shallow(label_mode=mode).fit([(X, y)] * 5)
    evenly = ", evenly over the classes" if mode == "task" else r"\. For"
    with pytest.warns(LargeSupportWarning, match=f"uses 12 of them, .*random{evenly}"):
        model.adapt(X, y)
    assert model.adapted_.states[0]["rows"].shape[1] == 12


def test_two_classes_of_one_table_warn():
    # none can be held out, so that confidence cannot be learned
    X, y = class_tasks(1, labels=["a", "b"])[0]
    with pytest.warns(FewTasksWarning, match="too few to hold some out"):
        shallow().fit(X, y)
