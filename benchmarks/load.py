"""Many users at once, many tasks at once, and one large task: throughput and memory.

Threads share one fitted model and call ``sklearn_meta.adapt`` for tasks of their own;
every answer is compared with the one that a single thread gave. Each measurement of
memory is made in a process of its own: the peak, less that of the same process before.
Times are of the processor, so that other work on the machine matters little.
"""

import multiprocessing
import resource
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import report
from sklearn.linear_model import Ridge

from sklearn_meta import (
    MAMLRegressor,
    ModelBasedMetaRegressor,
    ProtoNetClassifier,
    TaskEnsembleRegressor,
    adapt,
)
from sklearn_meta.exceptions import LargeSupportWarning

N_FEATURES, N_SUPPORT, N_QUERY, N_WAYS = 8, 5, 5, 5
THREADS = [1, 8]
QUERY_ROWS_OF_LARGE_TASK = 10_000
SETTINGS = {"max_iter": 5, "random_state": 0, "device": "cpu"}
FAMILIES = {
    "MAML": MAMLRegressor(**SETTINGS),
    "ANIL": MAMLRegressor(variant="anil", **SETTINGS),
    "ProtoNet": ProtoNetClassifier(label_mode="task", embedding="network", **SETTINGS),
    "CNP": ModelBasedMetaRegressor("cnp", **SETTINGS),
    "transformer": ModelBasedMetaRegressor("transformer", **SETTINGS),
    "hypernetwork": ModelBasedMetaRegressor("hypernetwork", **SETTINGS),
    "ensemble of 50 ridges": TaskEnsembleRegressor(Ridge(), random_state=0),
}


def draw_rows(n_tasks, n_rows, name, seed=0):
    """Return rows, targets and ids of tasks for a family."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_tasks * n_rows, N_FEATURES))
    y = rng.normal(size=len(X))
    if name == "ProtoNet":
        y = np.arange(len(X)) % N_WAYS
    return X, y, np.repeat(np.arange(n_tasks), n_rows)


def fitted(name):
    """Return a model of a family; how well it was trained makes no difference here."""
    X, y, ids = draw_rows(60, 20, name, seed=1)
    return FAMILIES[name].fit(X, y, tasks=ids)


def serve(model, X, y):
    """Answer one request."""
    adapted = adapt(model, X[:N_SUPPORT], y[:N_SUPPORT])
    return adapted.predict(X[N_SUPPORT:])


def serve_threads(name, n_requests):
    """Return requests a second for each number of threads, and the wrong answers."""
    model = fitted(name)
    X, y, _ = draw_rows(n_requests, N_SUPPORT + N_QUERY, name)
    tasks = list(zip(np.split(X, n_requests), np.split(y, n_requests), strict=True))
    expected = [serve(model, *task) for task in tasks]
    rates, n_wrong = [], 0
    for n_threads in THREADS:
        # every thread asks for every task, each at another time
        jobs = [task for _ in range(n_threads) for task in range(n_requests)]
        np.random.default_rng(n_threads).shuffle(jobs)
        with ThreadPoolExecutor(n_threads) as pool:
            start = time.process_time()
            answers = list(pool.map(lambda i: serve(model, *tasks[i]), jobs))
            rates.append(len(jobs) / (time.process_time() - start))
        pairs = zip(answers, jobs, strict=True)
        n_wrong += sum(not np.array_equal(a, expected[i]) for a, i in pairs)
    return rates, n_wrong, sum(THREADS) * n_requests


def peak_megabytes():
    """Return the largest memory that this process had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def adapt_and_predict(name, n_tasks, n_rows, n_query):
    """Return seconds of adapt_tasks and of predict, and megabytes of both."""
    model = fitted(name)
    X, y, ids = draw_rows(n_tasks, n_rows, name)
    before = peak_megabytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LargeSupportWarning)
        start = time.process_time()
        model.adapt_tasks(X, y, ids)
        middle = time.process_time()
    predicted = model.predict(X[:n_query], tasks=ids[:n_query])
    assert np.isfinite(predicted).all()
    end = time.process_time()
    return middle - start, end - middle, peak_megabytes() - before


def in_process(*args):
    """Measure in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(adapt_and_predict, args)


def main():
    """Measure all families and write the three tables."""
    parser = report.command_line(__doc__)
    parser.add_argument("--requests", type=int, default=500, help="of each thread")
    parser.add_argument("--tasks", type=int, nargs="+", default=[10**3, 10**4, 10**5])
    parser.add_argument("--rows", type=int, default=10**6, help="of the large task")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    args = parser.parse_args()
    if args.quick:
        args.requests, args.tasks, args.rows = 20, [100], 10**4
    requests, many, large = [], [], []
    for name in args.families:
        rates, n_wrong, n_all = serve_threads(name, args.requests)
        requests.append([name, *(f"{r:.0f}" for r in rates), f"{n_wrong} of {n_all}"])
        report.progress(f"{name}: {requests[-1][1:]}")
        for n in args.tasks:
            adapting, predicting, memory = in_process(name, n, N_SUPPORT, n * N_SUPPORT)
            cells = [f"{n / adapting:.0f}", f"{n / predicting:.0f}", f"{memory:.0f}"]
            many.append([name, n, *cells])
            report.progress(f"{name}, {n} tasks: {cells}")
        seconds = in_process(name, 1, args.rows, QUERY_ROWS_OF_LARGE_TASK)
        large.append([name, *(f"{s:.2f}" for s in seconds[:2]), f"{seconds[2]:.0f}"])
        report.progress(f"{name}, one task: {large[-1][1:]}")
    threads = [f"{n} thread{'s' * (n > 1)}" for n in THREADS]
    sections = [
        f"{N_FEATURES} features, default networks, {N_SUPPORT} support rows a task. "
        "Seconds are those of the processor, over all threads, so that other work on "
        "the machine matters little; what threads gain on idle cores is not seen.",
        "## Requests a second, by threads of Python",
        f"A request adapts a copy to a task and predicts {N_QUERY} rows; each thread "
        f"makes {args.requests}, all for different tasks. Wrong: not equal to the last "
        "bit to the answer of a single thread.",
        report.markdown_table(["family", *threads, "wrong answers"], requests),
        "## Many new tasks in one call",
        "Memory is the peak that `adapt_tasks` and `predict` (of all support rows) add "
        "to that of the data.",
        report.markdown_table(
            ["family", "tasks", "adapted a second", "predicted a second", "MB"], many
        ),
        f"## One task of {args.rows} rows",
        f"`predict` of {QUERY_ROWS_OF_LARGE_TASK} rows. Families whose time or memory "
        "grows with the support use some of its rows, with a `LargeSupportWarning`.",
        report.markdown_table(["family", "s adapt_tasks", "s predict", "MB"], large),
    ]
    report.write("load", "Load: users, tasks, rows", sections, quick=args.quick)


if __name__ == "__main__":
    main()
