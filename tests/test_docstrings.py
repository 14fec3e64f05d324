"""Docstrings of the public API agree with the code."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc
from numpydoc.validate import validate

API = Path(__file__).parents[1] / "doc" / "api.rst"

# Everything that these offer must be on the API page.
FACADES = ["", "datasets", "exceptions", "functional", "learners", "metrics"]
FACADES += ["inspection", "model_selection", "persistence", "pipeline", "task_column"]

# Methods of a contract that torch (Module) or scikit-learn (splitters) writes down.
FOREIGN = {"forward", "get_n_splits"}

# What numpydoc is asked to enforce: a one-line summary that ends in a period,
# known sections in order, every parameter documented, in order, with a type and a
# description. Left out are matters of taste (extended summaries, See Also).
CHECKED = {"GL03", "GL06", "GL07", "GL08", "SS01", "SS02", "SS03", "SS04", "SS06"}
CHECKED |= {"PR01", "PR02", "PR03", "PR04", "PR05", "PR07", "PR10", "RT03"}


def documented_names():
    """Yield the module and the name of every entry of the API page."""
    module = "sklearn_meta"
    for line in API.read_text(encoding="utf-8").splitlines():
        if directive := re.fullmatch(r"\.\. currentmodule:: (\S+)", line):
            module = directive[1]
        elif entry := re.fullmatch(r"   (\w+)", line):
            yield module, entry[1]


def public_objects():
    """Map the dotted name of everything on the API page to the object."""
    return {
        f"{module}.{name}": getattr(importlib.import_module(module), name)
        for module, name in documented_names()
    }


def public_methods(objects):
    """Map the dotted name of every public method that the package defines."""
    methods = {}
    for cls in filter(inspect.isclass, objects.values()):
        for name, method in inspect.getmembers(cls, inspect.isroutine):
            ours = (getattr(method, "__module__", "") or "").startswith("sklearn_meta")
            public = not name.startswith("_") and name not in FOREIGN
            if ours and public and method.__qualname__.count(".") == 1:
                methods[f"{method.__module__}.{method.__qualname__}"] = method
    return methods


OBJECTS = public_objects()
METHODS = public_methods(OBJECTS)
# Exceptions take what the built-in ones take, which has no signature.
SIGNED = METHODS | {
    name: found
    for name, found in OBJECTS.items()
    if not (inspect.isclass(found) and issubclass(found, Exception))
}


def errors_of(name, checked):
    """List what numpydoc finds wrong with a docstring, among the checked codes."""
    return [error for error in validate(name)["errors"] if error[0] in checked]


def agrees(text, default):
    """Return whether ``default=`` in a parameter's type says the code's default."""
    value = text.partition("default=")[2].strip()
    try:
        return ast.literal_eval(value) == default
    except (SyntaxError, ValueError):
        # A symbol such as pi, or a function, is not compared.
        return bool(value) and not isinstance(default, (str, type(None)))


def default_errors(found):
    """List the parameters whose documented default is not that of the signature."""
    parse = ClassDoc if inspect.isclass(found) else FunctionDoc
    types = {p.name: " ".join(p.type.split()) for p in parse(found)["Parameters"]}
    return [
        f"{name}: {types[name]!r}, the code has {parameter.default!r}"
        for name, parameter in inspect.signature(found).parameters.items()
        if parameter.default is not inspect.Parameter.empty
        and name in types
        and not agrees(types[name], parameter.default)
    ]


@pytest.mark.parametrize("facade", FACADES)
def test_api_page_when_a_module_offers_a_name_then_it_is_there(facade):
    # What is not on the page is not checked below, and no user finds it.
    module = importlib.import_module(f"sklearn_meta.{facade}".rstrip("."))
    offered = [getattr(module, name) for name in module.__all__]
    known = list(OBJECTS.values())
    assert [found for found in offered if callable(found) and found not in known] == []


@pytest.mark.parametrize("name", OBJECTS)
def test_docstring_when_a_name_is_public_then_it_is_complete(name):
    # A user reads the docstring first: it must document each parameter and run.
    assert errors_of(name, CHECKED | {"EX01"}) == []


@pytest.mark.parametrize("name", METHODS)
def test_docstring_when_a_method_is_public_then_parameters_are_documented(name):
    # Methods come without an example of their own: that of the class shows them.
    assert errors_of(name, CHECKED) == []


@pytest.mark.parametrize("name", SIGNED)
def test_docstring_when_a_parameter_has_a_default_then_it_is_the_documented_one(name):
    # A default that is written twice is sooner or later written differently.
    assert default_errors(SIGNED[name]) == []


def test_default_errors_when_the_docstring_is_wrong_then_it_is_named():
    # A test that cannot fail guards nothing.
    def shifted(a, b=1):
        """Return b.

        Parameters
        ----------
        a : int
            One number.
        b : int, default=2
            Another number.
        """

    assert default_errors(shifted) == ["b: 'int, default=2', the code has 1"]
