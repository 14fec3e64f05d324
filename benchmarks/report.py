"""What every benchmark here shares: its command line, and its table on disk."""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import sklearn
import torch
from scipy import stats

import sklearn_meta

RESULTS = Path(__file__).parent / "results"


def command_line(description):
    """Return a parser with the options of all benchmarks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="seconds instead of minutes: shows that it runs, not how good it is",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws")
    return parser


def mean_and_half_width(values):
    """Return the mean and half the width of its 95 % interval by Student's t."""
    values = np.asarray(values, dtype=float)
    error = values.std(ddof=1) / np.sqrt(len(values))
    return values.mean(), stats.t.ppf(0.975, len(values) - 1) * error


def interval(values, digits=3):
    """Return "mean ± half width of the 95 % interval" of scores over tasks."""
    mean, half = mean_and_half_width(values)
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def difference(values, digits=3):
    """Return a signed mean and its 95 % interval, bold where the interval is off 0."""
    mean, half = mean_and_half_width(values)
    text = f"{mean:+.{digits}f} ± {half:.{digits}f}"
    return f"**{text}**" if abs(mean) > half else text


def markdown_table(header, rows):
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def progress(message, start=None):
    """Print what is going on, and for how long."""
    spent = "" if start is None else f" ({time.perf_counter() - start:.0f} s)"
    print(f"{message}{spent}", flush=True)


def write(name, title, sections, *, quick):
    """Print a report, and store it under results/ unless the run was a quick one."""
    text = "\n\n".join([f"# {title}", _circumstances(), *sections]) + "\n"
    print("\n" + text)
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text(text)


def _circumstances():
    """Say by what command and with which versions the figures were made."""
    arguments = " ".join([f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    versions = ", ".join(
        f"{package} {version}"
        for package, version in [
            ("Python", platform.python_version()),
            ("torch", torch.__version__),
            ("scikit-learn", sklearn.__version__),
            ("numpy", np.__version__),
            ("sklearn_meta", sklearn_meta.__version__),
        ]
    )
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return f"Command: `python {arguments}`, {threads} thread(s).  \nWith {versions}."
