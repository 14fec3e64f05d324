"""The library in C, and the structures that it reads.

It is built when the package is installed, if there is a compiler, and called through
`ctypes`, which releases the global interpreter lock. It keeps nothing between two
calls, so any number of threads may call it.
"""

import ctypes
import os
from ctypes import c_double, c_int64, c_void_p
from functools import cache
from importlib.util import find_spec

from sklearn_meta.exceptions import DeviceWarning, warn_user

# "0" leaves the library alone
SWITCH = "SKLEARN_META_COMPILED"


class Layer(ctypes.Structure):
    """`Layer` of _perceptron.c."""

    _fields_ = [
        ("n_in", c_int64),
        ("n_out", c_int64),
        ("activation", c_int64),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("weight_step", c_int64),
        ("bias_step", c_int64),
        ("weight_rate", c_void_p),
        ("bias_rate", c_void_p),
        ("weight_v", c_void_p),
        ("bias_v", c_void_p),
        ("weight_out", c_void_p),
        ("bias_out", c_void_p),
        ("weight_rate_out", c_void_p),
        ("bias_rate_out", c_void_p),
    ]


class Rows(ctypes.Structure):
    """`Rows` of _perceptron.c."""

    _fields_ = [
        ("n_rows", c_int64),
        ("X", c_void_p),
        ("Y", c_void_p),
        ("weight", c_void_p),
        ("weight_step", c_int64),
        ("mask", c_void_p),
        ("total_weight", c_double),
        ("present", c_void_p),
        ("offset", c_void_p),
        ("offset_row", c_int64),
        ("out", c_void_p),
    ]


class Noise(ctypes.Structure):
    """`Noise` of _perceptron.c."""

    _fields_ = [
        ("intercept", c_void_p),
        ("slope", c_void_p),
        ("floor", c_double),
        ("intercept_out", c_void_p),
        ("slope_out", c_void_p),
    ]


class Problem(ctypes.Structure):
    """`Problem` of _perceptron.c."""

    _fields_ = [
        ("is_double", c_int64),
        ("n_tasks", c_int64),
        ("n_layers", c_int64),
        ("n_steps", c_int64),
        ("second_order", c_int64),
        ("has_classes", c_int64),
        ("lr", c_double),
        ("layers", ctypes.POINTER(Layer)),
        ("support", Rows),
        ("query", Rows),
        ("noise", Noise),
        ("losses", c_void_p),
        ("diverged", c_void_p),
        ("seen", c_void_p),
        ("instructions", c_int64),
    ]


class Process(ctypes.Structure):
    """`Process` of _perceptron.c."""

    _fields_ = [
        *((name, c_int64) for name in ("is_double", "n_tasks", "n_rows", "n_support")),
        *((name, c_int64) for name in ("n_columns", "n_linear", "n_smooth")),
        ("is_marginal", c_int64),
        *((name, c_void_p) for name in ("X", "linear", "smooth", "mean", "noise")),
        *((name, c_void_p) for name in ("Y", "mask", "constant", "column", "length")),
        ("variance", c_void_p),
        *((name, c_double) for name in ("linear_scale", "smooth_scale")),
        ("least_variance", c_double),
        ("loss", c_void_p),
        *((f"{name}_out", c_void_p) for name in ("linear", "smooth", "mean", "noise")),
        *((f"{name}_out", c_void_p) for name in ("constant", "column", "length")),
        ("variance_out", c_void_p),
        ("instructions", c_int64),
        ("variance_step", c_int64),
        *((f"{name}_out", c_void_p) for name in ("factor", "values")),
        ("n_levels", c_int64),
        *((name, c_void_p) for name in ("level", "prior", "level_out", "prior_out")),
    ]


class Weight(ctypes.Structure):
    """`Weight` of _perceptron.c."""

    _fields_ = [
        ("n_numbers", c_int64),
        *((name, c_void_p) for name in ("gradient", "weight", "moment", "square")),
    ]


class Update(ctypes.Structure):
    """`Update` of _perceptron.c."""

    _fields_ = [
        ("is_double", c_int64),
        ("n_weights", c_int64),
        ("weights", ctypes.POINTER(Weight)),
        ("counts", c_void_p),
        *((name, c_double) for name in ("lr", "weight_decay", "beta1", "beta2")),
        ("eps", c_double),
        ("divisor", c_double),
        ("instructions", c_int64),
    ]


@cache
def load_library() -> ctypes.CDLL | None:
    """The library, if it was built and is not switched off.

    Returns
    -------
    ctypes.CDLL or None
        None too where the file cannot be loaded; where it was built from other sources
        than these, with a warning.
    """
    spec = find_spec("sklearn_meta.functional._perceptron")
    if os.environ.get(SWITCH) == "0" or spec is None or spec.origin is None:
        return None
    try:
        library = ctypes.CDLL(spec.origin)
    except OSError:  # built for another machine
        return None
    if not _reads(library):
        warn_user(
            f"{spec.origin} was built from other sources than those of this version "
            "and is not used: fits take several times as long. Install the package "
            "again (`pip install -e .` in a clone).",
            DeviceWarning,
        )
        return None
    return library


def _reads(library: ctypes.CDLL) -> bool:
    """Say what the library's functions take and return; False if they take another."""
    sizes = {
        "size_of_problem": Problem,
        "size_of_process": Process,
        "size_of_update": Update,
    }
    try:
        for name in ("adapt", "differentiate", "predict"):
            getattr(library, name).argtypes = [ctypes.POINTER(Problem)]
        for name in ("likelihood", "solve_support"):
            getattr(library, name).argtypes = [ctypes.POINTER(Process)]
        for name in ("squares", "adamw"):
            getattr(library, name).argtypes = [ctypes.POINTER(Update)]
            getattr(library, name).restype = c_double
        library.activate.argtypes = [*[c_int64] * 4, c_void_p, c_void_p]
        library.name_of_instructions.argtypes = [c_int64]
        library.name_of_instructions.restype = ctypes.c_char_p
        for name in ("widest_instructions", *sizes):
            getattr(library, name).restype = c_int64
    except AttributeError:
        return False
    return all(getattr(library, n)() == ctypes.sizeof(s) for n, s in sizes.items())
