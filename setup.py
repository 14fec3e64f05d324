"""The compiled engine; all else is in pyproject.toml."""

import os
from pathlib import Path

from setuptools import Extension, setup

FOLDER = Path("sklearn_meta/functional")
# Compilers may then make vectors of comparisons; no number changes.
FLAGS = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math"]

setup(
    ext_modules=[
        Extension(
            "sklearn_meta.functional._perceptron",
            [str(FOLDER / "_perceptron.c")],
            depends=[str(path) for path in sorted(FOLDER.glob("*.h"))],
            extra_compile_args=[] if os.name == "nt" else FLAGS,
            optional=True,  # without a compiler another engine runs
        )
    ]
)
