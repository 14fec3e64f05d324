"""The layer table of the package: imports go down only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sklearn_meta"

LAYERS = {
    "exceptions": -1,  # names only, for every layer
    "tasks": 0,
    "functional": 0,
    "targets": 0,
    "averaging": 0,
    "mixing": 0,
    "draws": 0,
    "episodes": 1,
    "datasets": 1,
    "adaptation": 1,
    "whitening": 1,
    "distributions": 2,
    "held_out": 2,
    "shifts": 1,
    "metrics": 2,
    "pooling": 2,
    "learners": 2,
    "serving": 2,
    "members": 3,
    "training": 3,
    "base": 4,
    "estimators": 5,
    "adapted": 6,
    "task_column": 6,
    "model_selection": 6,
    "pipeline": 6,
    "inspection": 6,
    "persistence": 7,
    "__init__": 8,  # the facade
}

# Numpy stays above `episodes` and torch below it: tasks are free of torch, and
# tensor code is free of numpy and scikit-learn.
FORBIDDEN = {
    "tasks": {"torch", "skorch"},
    "targets": {"torch", "skorch"},
    "averaging": {"torch", "skorch"},
    "mixing": {"torch", "skorch"},
    "shifts": {"torch", "skorch"},
    "adaptation": {"torch", "skorch"},
    "distributions": {"torch", "skorch"},
    "functional": {"numpy", "scipy", "sklearn", "skorch"},
    "learners": {"numpy", "scipy", "sklearn", "skorch"},
}

FILES = sorted(PACKAGE.rglob("*.py"))


def unit_of(parts):
    """Return the row of the table that a file or a module belongs to."""
    return parts[0].removesuffix(".py") if parts else "__init__"


def imported_modules(source):
    """Yield the dotted name of everything that the source imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `from sklearn_meta import tasks` may name a module: keep both parts.
            names = [alias.name for alias in node.names]
            submodules = node.module == "sklearn_meta"
            yield from (
                [f"sklearn_meta.{name}" for name in names]
                if submodules
                else [node.module or "."]
            )


def violations(unit, source):
    """List the imports of a source file that its layer does not allow."""
    found = []
    for module in imported_modules(source):
        root, *rest = module.split(".")
        if root != "sklearn_meta":
            if root in FORBIDDEN.get(unit, ()):
                found.append(module)
            continue
        target = rest[0] if rest and rest[0] in LAYERS else "__init__"
        if target != unit and LAYERS[target] >= LAYERS[unit]:
            found.append(module)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports_when_a_module_is_read_then_go_down_only(path):
    # A layer that imports from its own height or above cannot be read by itself.
    unit = unit_of(path.relative_to(PACKAGE).parts)
    assert unit in LAYERS, f"{unit} has no row in the layer table: add it"
    assert violations(unit, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("unit", "source"),
    [
        ("tasks", "from sklearn_meta.metrics import few_shot_scorer"),
        ("tasks", "import torch"),
        ("learners", "import sklearn_meta.estimators.metric"),
        ("metrics", "from sklearn_meta import training"),
        ("base", "from sklearn_meta import MAMLClassifier"),
        ("functional", "def f():\n    import numpy as np"),
    ],
)
def test_violations_when_an_import_goes_up_then_it_is_named(unit, source):
    # A test that cannot fail guards nothing.
    assert len(violations(unit, source)) == 1


def test_violations_when_an_import_goes_down_then_there_are_none():
    # The rule must let through what the table allows, and a package its own files.
    source = "import torch\nfrom sklearn_meta.learners.metric import MetricLearner"
    assert violations("learners", source) == []
    assert violations("estimators", source) == []
