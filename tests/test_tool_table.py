"""Every cell of the table of tools and routes in doc/user_guide/tools.rst."""

import csv
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
    validation_curve,
)
from small_estimators import class_tasks, small

from sklearn_meta import AdaptedClassifier, ProtoNetClassifier
from sklearn_meta.metrics import few_shot_scorer
from sklearn_meta.model_selection import FewShotSplit, TaskKFold
from sklearn_meta.task_column import TaskColumnClassifier

# a tool that splits six tasks leaves few to learn from
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_meta.exceptions.FewTasksWarning"
)

PAGE = Path(__file__).parents[1] / "doc" / "user_guide" / "tools.rst"
NAMES_A_ROUTE = (
    "AdaptedClassifier .* sklearn_meta.task_column|Expected a TaskCollection"
)
# what scikit-learn says of a collection before it asks the model
NEEDS_Y = "'y_true'|sequence\\), got None|Expected 2D array, got 1D"


def cells():
    """Yield tool, route and what the page says of them."""
    lines = PAGE.read_text(encoding="utf-8").split(".. csv-table::")[1].splitlines()
    table = [line.strip() for line in lines if line.strip().startswith(('"', ":h"))]
    rows = [next(csv.reader([line], skipinitialspace=True)) for line in table]
    routes = rows[0][1:]
    for tool, *answers in rows[1:]:
        for route, answer in zip(routes, answers, strict=True):
            yield pytest.param(tool, route, answer, id=f"{tool}-{route}")


# ---------------------------------------------------------------- routes


def collection():
    """Samples are tasks."""
    return SimpleNamespace(
        model=small(ProtoNetClassifier),
        data=(class_tasks(labels=(0, 1)), None),
        extra={},
        cv=2,
        cv_rows=2,
        sizes=[2, 3],
        parameter="n_shots",
    )


def rows_and_ids():
    """Flat rows, ids beside them."""
    X, y, ids = class_tasks(labels=(0, 1)).to_flat()
    return SimpleNamespace(
        model=small(ProtoNetClassifier, n_shots=2),
        data=(X, y),
        extra={"tasks": ids},
        cv=TaskKFold(2),
        cv_rows=TaskKFold(2),
        sizes=[26, 30],  # no task is cut to fewer than 4 rows
        parameter="n_shots",
    )


def id_column():
    """Flat rows, ids among the features."""
    X, y, ids = class_tasks(labels=(0, 1)).to_flat()
    X = np.column_stack([X, [int(name[1:]) for name in ids]])
    return SimpleNamespace(
        model=TaskColumnClassifier(small(ProtoNetClassifier)),
        data=(X, y),
        extra={},
        cv=FewShotSplit(3, n_shots=2, random_state=0),
        cv_rows=list(StratifiedKFold(2, shuffle=True, random_state=0).split(X, ids)),
        sizes=[25, 30],
        parameter="meta_estimator__n_shots",
    )


def one_task():
    """The rows of one new task."""
    meta = small(ProtoNetClassifier).fit(class_tasks(labels=(0, 1)))
    return SimpleNamespace(
        model=AdaptedClassifier(meta),
        data=tuple(class_tasks(3, labels=(0, 1), seed=7)[2]),
        extra={},
        cv=2,
        cv_rows=2,
        sizes=[4, 5],
        parameter="meta_estimator__n_shots",
    )


ROUTES = {
    "collection": collection,
    "rows and ids": rows_and_ids,
    "id column": id_column,
    "one task": one_task,
}

# ---------------------------------------------------------------- tools


def run_search(route, scoring):
    search = GridSearchCV(
        route.model,
        {route.parameter: [2, 3]},
        cv=route.cv,
        scoring=scoring,
        error_score="raise",
    )
    return search.fit(*route.data, **route.extra).best_score_


def run_cross_validate(route, scoring):
    return cross_validate(
        route.model,
        *route.data,
        cv=route.cv,
        scoring=scoring,
        params=route.extra,
        error_score="raise",
    )["test_score"]


def run_learning_curve(route):
    return learning_curve(
        route.model,
        *route.data,
        cv=route.cv,
        train_sizes=route.sizes,
        params=route.extra,
        error_score="raise",
    )[2]


def run_validation_curve(route):
    return validation_curve(
        route.model,
        *route.data,
        param_name=route.parameter,
        param_range=[2, 3],
        cv=route.cv,
        params=route.extra,
        error_score="raise",
    )[1]


def run_cross_val_predict(route):
    return cross_val_predict(
        route.model,
        *route.data,
        cv=route.cv_rows,
        params=route.extra,
        method="predict_proba",
    )


def run_composite(route, make):
    model = make(route.model, route.cv_rows).fit(*route.data, **route.extra)
    return model.predict_proba(route.data[0])


def stack(model, cv):
    return StackingClassifier([("meta", model), ("own", LogisticRegression())], cv=cv)


def vote(model, cv):
    members = [("meta", model), ("own", LogisticRegression())]
    return VotingClassifier(members, voting="soft")


def run_importance(route):
    model = route.model.fit(*route.data, **route.extra)
    return permutation_importance(model, *route.data, n_repeats=2).importances


def run_dependence(route):
    model = route.model.fit(*route.data, **route.extra)
    curve = partial_dependence(model, route.data[0], [0], grid_resolution=3)
    return curve["average"]


few_shot = few_shot_scorer(n_shots=2)
TOOLS = {
    "search with few_shot_scorer": partial(run_search, scoring=few_shot),
    "search with the own score": partial(run_search, scoring=None),
    "search with a stock scorer": partial(run_search, scoring="neg_log_loss"),
    "cross_validate with few_shot_scorer": partial(
        run_cross_validate, scoring=few_shot
    ),
    "cross_validate with a stock scorer": partial(
        run_cross_validate, scoring="roc_auc"
    ),
    "learning_curve": run_learning_curve,
    "validation_curve": run_validation_curve,
    "cross_val_predict": run_cross_val_predict,
    "CalibratedClassifierCV": partial(
        run_composite, make=lambda model, cv: CalibratedClassifierCV(model, cv=cv)
    ),
    "StackingClassifier": partial(run_composite, make=stack),
    "VotingClassifier": partial(run_composite, make=vote),
    "TunedThresholdClassifierCV": partial(
        run_composite, make=lambda model, cv: TunedThresholdClassifierCV(model, cv=cv)
    ),
    "permutation_importance": run_importance,
    "partial_dependence": run_dependence,
}


@pytest.mark.parametrize(("tool", "route", "answer"), [*cells()])
def test_tool_when_on_a_route_then_does_what_the_page_says(tool, route, answer):
    # A table that nobody runs is wrong after the next release of scikit-learn.
    setting = ROUTES[route]()
    routing = route == "rows and ids"
    with sklearn.config_context(enable_metadata_routing=routing):
        if answer == "yes":
            assert np.isfinite(TOOLS[tool](setting)).all()
        else:
            needs_y = f"|{NEEDS_Y}" if route == "collection" else ""
            with pytest.raises((ValueError, TypeError), match=NAMES_A_ROUTE + needs_y):
                TOOLS[tool](setting)
