"""What all displays share: the axes, the names of models and of scores."""

from collections.abc import Iterable
from typing import Any

from sklearn.base import is_classifier, is_regressor
from sklearn.utils._optional_dependencies import check_matplotlib_support

from sklearn_meta.adaptation import innermost


def axes_for(display: Any, ax: Any) -> Any:
    """Return the axes to draw on, and keep them and their figure in the display."""
    check_matplotlib_support(f"{type(display).__name__}.plot")
    import matplotlib.pyplot as plt

    # a tight layout makes room for what stands beside the axes
    display.ax_ = plt.subplots(layout="tight")[1] if ax is None else ax
    display.figure_ = display.ax_.figure
    return display.ax_


def name_models(estimators: Any) -> dict[str, Any]:
    """Return estimators by name: those of a dict, or the names of their classes.

    Raises
    ------
    ValueError
        If two of a list would have one name.
    """
    if isinstance(estimators, dict):
        return estimators
    several = isinstance(estimators, (list, tuple))
    models = list(estimators) if several else [estimators]
    names = [type(innermost(model)).__name__ for model in models]
    if len(set(names)) < len(names):
        raise ValueError(
            f"Expected models of different classes, got {names}. Pass a dict of names "
            "and models."
        )
    return dict(zip(names, models, strict=True))


def name_of_score(scoring: Any, models: Iterable = ()) -> str:
    """Return what an axis calls a metric, without the "neg_" of its sign.

    None is the own score of the models, which has a name if they are of one kind.
    """
    if callable(scoring):
        scoring = getattr(scoring, "__name__", None)
    if scoring is not None:
        return scoring.removeprefix("neg_").replace("_", " ")
    models = list(models)
    if models and all(map(is_classifier, models)):
        return "accuracy"
    return "R²" if models and all(map(is_regressor, models)) else "score"


def is_negated(scoring: Any) -> bool:
    """Return whether a metric of scikit-learn is an error with its sign turned."""
    return isinstance(scoring, str) and scoring.startswith("neg_")
