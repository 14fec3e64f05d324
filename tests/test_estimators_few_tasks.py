"""A warning where tasks are too few to learn how they differ."""

import pytest
from sklearn.base import is_classifier
from small_estimators import ALL_ESTIMATORS, class_tasks, small, tasks_for

from sklearn_meta import MAMLClassifier
from sklearn_meta.exceptions import FewTasksWarning

CLASSIFIERS = [cls for cls in ALL_ESTIMATORS if is_classifier(cls())]
KNOWS_LOCAL = [cls for cls in CLASSIFIERS if hasattr(cls(), "label_mode")]


def shared(estimator_class):
    """Return a small estimator, for labels that are shared where it can be told so."""
    told = estimator_class in KNOWS_LOCAL
    return small(estimator_class, **({"label_mode": "shared"} if told else {}))


def count_of(caught):
    return sum("Expected at least 5 tasks" in str(w.message) for w in caught)


@pytest.mark.parametrize(("n_tasks", "said"), [(1, "a single"), (4, "so few")])
@pytest.mark.parametrize("cls", ALL_ESTIMATORS, ids=lambda cls: cls.__name__)
def test_fit_when_tasks_are_few_warns_once(cls, n_tasks, said):
    # Intervals of 90 % held 2 to 4 % of the rows after a single task; of two classes
    # a network was worse than a fair coin after three.
    model = shared(cls)
    expect = "too sure" if cls in CLASSIFIERS else "too narrow"
    match = f"Expected at least 5 tasks, got {n_tasks}: {said} task.* {expect}"
    with pytest.warns(FewTasksWarning, match=match) as caught:
        model.fit(tasks_for(model, n_tasks))
    assert count_of(caught) == 1


@pytest.mark.parametrize("cls", ALL_ESTIMATORS, ids=lambda cls: cls.__name__)
def test_fit_when_there_are_five_tasks_or_one_table_does_not_warn(cls):
    # One table is a documented way of its own.
    tasks = tasks_for(shared(cls), 5)
    shared(cls).fit(tasks)
    shared(cls).fit(*tasks[0])


@pytest.mark.parametrize("cls", KNOWS_LOCAL, ids=lambda cls: cls.__name__)
def test_fit_when_labels_are_local_counts_no_tasks(cls):
    # Two tasks of six classes may tell much of how classes differ.
    tasks = class_tasks(2, labels=tuple("abcdef"))
    small(cls, label_mode="task").fit(tasks)


def test_fit_when_label_mode_is_auto_warns_of_shared_labels_alone():
    # What is warned of follows from what the labels are found to be.
    model = small(MAMLClassifier)
    with pytest.warns(FewTasksWarning, match="got 3"):
        model.fit(class_tasks(3))
    model.fit(
        [(X, [f"{label}{i}" for label in y]) for i, (X, y) in enumerate(class_tasks(3))]
    )
    assert model.label_mode_ == "task"
