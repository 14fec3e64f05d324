"""Memory that large collections and large tasks take, each in a process of its own.

What counts is the most memory of the process while it works, beyond what it had when
the packages were loaded and a small model was trained.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import report

from sklearn_meta import MAMLRegressor, ModelBasedMetaRegressor, TaskCollection
from sklearn_meta.exceptions import LargeSupportWarning

N_TASKS, N_LONG = 100_000, 1_000_000
QUICK = 50  # times smaller
N_ROWS, N_FEATURES, WINDOW = 20, 10, 1000
MEGABYTE = 2**20


class Lines:
    """Tasks that are made when they are read: lines, each with a level of its own."""

    def __init__(self, n_tasks, n_rows=N_ROWS):
        self.n_tasks, self.n_rows = n_tasks, n_rows

    def __len__(self):
        return self.n_tasks

    def __getitem__(self, number):
        rng = np.random.default_rng(number)
        X = rng.standard_normal((self.n_rows, N_FEATURES))
        return X, X[:, 0] + rng.normal() + 0.1 * rng.standard_normal(self.n_rows)


class Peak:
    """The most memory of this process inside a block, beyond what it had before."""

    def __enter__(self):
        self.before = self.most = memory()
        self.done = threading.Event()
        self.watch = threading.Thread(target=self.follow)
        self.watch.start()
        return self

    def __exit__(self, *error):
        self.done.set()
        self.watch.join()

    def follow(self):
        while not self.done.wait(0.005):
            self.most = max(self.most, memory())


def memory():
    """Return the bytes that this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def regressor():
    """Return a model with a short training: memory does not grow with its length."""
    return MAMLRegressor((32,), max_iter=120, random_state=0)


def first_tasks(n_tasks, n_rows=N_ROWS):
    """Return tasks that are in memory."""
    tasks = Lines(n_tasks, n_rows)
    return [tasks[i] for i in range(n_tasks)]


def fit_all(scale, folder):
    """`fit`, {tasks} lazy tasks of 20 rows"""
    tasks = TaskCollection(Lines(N_TASKS // scale))
    return lambda: regressor().fit(tasks), N_TASKS // scale * N_ROWS


def fit_window(scale, folder):
    """`fit`, the same with `window=1000`"""
    tasks = TaskCollection(Lines(N_TASKS // scale), window=WINDOW)
    return lambda: regressor().fit(tasks), N_TASKS // scale * N_ROWS


def fit_parquet(scale, folder):
    """`fit`, the same from a Parquet file with `window=1000`"""
    write_parquet(folder, N_TASKS // scale)

    def fit():
        given = {"task": "task", "target": "y", "window": WINDOW}
        regressor().fit(TaskCollection.from_parquet(folder, **given))

    return fit, N_TASKS // scale * N_ROWS


def fit_long(scale, folder):
    """`fit`, 20 tasks, one of them of {rows} rows"""
    tasks = first_tasks(19) + first_tasks(1, N_LONG // scale)
    return lambda: regressor().fit(tasks), N_LONG // scale


def adapt_maml(scale, folder):
    """`MAMLRegressor`, `adapt` to {rows} rows and `predict` them"""
    return long_task(regressor(), scale)


def adapt_transformer(scale, folder):
    """`ModelBasedMetaRegressor`, the same, 20,000 rows to predict"""
    model = ModelBasedMetaRegressor(max_iter=24, random_state=0)
    return long_task(model, scale, 20_000)


def fit_odd(scale, folder):
    """`fit`, {tasks} tasks, columns constant, of 1e100 and of 1e-100"""
    scales = np.array([0.0, 1e100, 1e-100] + [1.0] * (N_FEATURES - 3))
    tasks = [(X * scales, y) for X, y in first_tasks(N_TASKS // scale // 10)]

    def fit():
        X, y = tasks[0]
        assert np.isfinite(regressor().fit(tasks).adapt(X, y).predict(X)).all()

    return fit, N_TASKS // scale // 10 * N_ROWS


CASES = [
    fit_all,
    fit_window,
    fit_parquet,
    fit_long,
    adapt_maml,
    adapt_transformer,
    fit_odd,
]


def long_task(model, scale, n_queries=None):
    """Return the work of adapting to one long task, and its number of rows."""
    model.fit(first_tasks(30))
    ((X, y),) = first_tasks(1, N_LONG // scale)
    return lambda: model.adapt(X, y).predict(X[:n_queries]), N_LONG // scale


def write_parquet(folder, n_tasks):
    """Write tasks to a file, in row groups of 250 of them."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    tasks, writer = Lines(n_tasks), None
    for begin in range(0, n_tasks, 250):
        names = np.arange(begin, min(begin + 250, n_tasks))
        X, y = (np.concatenate(p) for p in zip(*(tasks[i] for i in names), strict=True))
        columns = {f"x{j}": X[:, j] for j in range(N_FEATURES)}
        block = pa.table(columns | {"y": y, "task": np.repeat(names, N_ROWS)})
        writer = writer or ParquetWriter(Path(folder) / "lines.parquet", block.schema)
        writer.write_table(block)
    writer.close()


def measure(name, scale):
    """Run one case in this process and print its figures."""
    warnings.simplefilter("ignore", LargeSupportWarning)
    regressor().fit(first_tasks(12))  # what is loaded at the first use is no part of it
    with tempfile.TemporaryDirectory() as folder:
        work, n_rows = globals()[name](scale, folder)
        start = time.perf_counter()
        with Peak() as peak:
            work()
        seconds = time.perf_counter() - start
    table = 8 * n_rows * (N_FEATURES + 1)
    print(json.dumps([table, peak.most - peak.before, seconds]))


def run_case(case, scale):
    """Run one case in a process of its own; return a row of the report."""
    report.progress(case.__name__)
    command = [sys.executable, __file__, "--case", case.__name__, "--scale", str(scale)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    table, most, seconds = json.loads(found.stdout.splitlines()[-1])
    sizes = {"tasks": N_TASKS // scale, "rows": N_LONG // scale}
    if case is fit_odd:
        sizes["tasks"] //= 10
    return [
        case.__doc__.format(**{name: f"{size:,}" for name, size in sizes.items()}),
        f"{table / MEGABYTE:.0f}",
        f"{most / MEGABYTE:.0f}",
        f"{most / table:.2f}",
        f"{seconds:.0f}",
    ]


def main():
    """Run all cases, or one of them."""
    parser = report.command_line(__doc__)
    parser.add_argument("--case", help="run one case in this process")
    parser.add_argument("--scale", type=int, default=1, help="times smaller")
    options = parser.parse_args()
    scale = QUICK if options.quick else options.scale
    if options.case:
        measure(options.case, scale)
        return
    header = ["case", "table in float64, MB", "peak, MB", "peak / table", "seconds"]
    rows = [run_case(case, scale) for case in CASES]
    report.write(
        "load_memory",
        "Memory of large collections and large tasks",
        [__doc__.partition("\n\n")[2].strip(), report.markdown_table(header, rows)],
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
