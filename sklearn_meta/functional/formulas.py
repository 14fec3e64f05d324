"""The engines that know the derivatives of a perceptron, as one set of functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from sklearn_meta.functional.compiled import (
    compiled_adapt,
    compiled_adapt_without_graph,
    compiled_outer_gradient,
    run_compiled,
)
from sklearn_meta.functional.descent import adapt_without_graph
from sklearn_meta.functional.outer_gradient import OuterGradient, outer_gradient
from sklearn_meta.functional.perceptron import Parameters, run_perceptron
from sklearn_meta.functional.recursion import adapt_by_recursion


class Formulas(NamedTuple):
    """The functions of one engine.

    Parameters
    ----------
    adapt : callable
        As :func:`adapt_by_recursion`.
    adapt_without_graph : callable
        As :func:`adapt_without_graph`.
    outer_gradient : callable
        As :func:`outer_gradient`.
    run : callable
        As :func:`run_perceptron`.
    by_task : bool
        Whether tasks run one by one: then memory does not grow with their number, and
        padding is passed over.

    Examples
    --------
    >>> from sklearn_meta.functional.formulas import FORMULAS
    >>> [formulas.by_task for formulas in FORMULAS.values()]
    [True, False]
    """

    adapt: Callable[..., Parameters]
    adapt_without_graph: Callable[..., tuple[Parameters, Tensor]]
    outer_gradient: Callable[..., OuterGradient]
    run: Callable[[Any, Parameters, Tensor], Tensor]
    by_task: bool


FORMULAS = {
    "compiled": Formulas(
        compiled_adapt,
        compiled_adapt_without_graph,
        compiled_outer_gradient,
        run_compiled,
        by_task=True,
    ),
    "recursion": Formulas(
        adapt_by_recursion,
        adapt_without_graph,
        outer_gradient,
        run_perceptron,
        by_task=False,
    ),
}
