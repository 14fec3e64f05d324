"""What the default costs: seconds of a fit and of adapting, on the 338 days of nox."""

import time

import numpy as np
import report

from sklearn_meta import MetaStackingRegressor
from sklearn_meta.datasets import load_task_collection

# preset: seconds that a fit may take
ASKED = {"fast": 6, "default": 30}
ASKED_ADAPT, ASKED_THOUSAND = 5, 1
N_SHOTS, N_TASKS = 10, 1000
N_CALLS, N_LARGE_CALLS = 50, 5


def seconds(call):
    """Return wall-clock seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(preset, X, y, tasks, args):
    """Return a table row: what one preset takes."""
    fits = []
    for n_jobs in (args.jobs, 1):
        model = MetaStackingRegressor(
            preset=preset, n_jobs=n_jobs, random_state=args.seed
        )
        fits.append(seconds(lambda model=model: model.fit(X, y, tasks=tasks)))
    support = [np.flatnonzero(tasks == t)[:N_SHOTS] for t in np.unique(tasks)]
    one = [
        seconds(lambda rows=rows: model.adapt(X[rows], y[rows]))
        for rows in support[:N_CALLS]
    ]
    rows = np.concatenate([support[i % len(support)] for i in range(N_TASKS)])
    ids = np.repeat(np.arange(N_TASKS), N_SHOTS)
    thousand = [
        seconds(lambda: model.adapt_tasks(X[rows], y[rows], ids))
        for _ in range(N_LARGE_CALLS)
    ]
    return [
        preset,
        f"at most {ASKED[preset]} s",
        *(f"{fit:.1f} s" for fit in fits),
        f"{1000 * np.median(one):.1f} ms (at most {ASKED_ADAPT})",
        f"{np.median(thousand):.2f} s (at most {ASKED_THOUSAND})",
    ]


def main():
    """Measure each preset and write the table."""
    parser = report.command_line(__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="processes of a fit")
    args = parser.parse_args()
    X, y, tasks = load_task_collection("nox", return_X_y_tasks=True, as_frame=False)
    if args.quick:
        keep = np.isin(tasks, np.unique(tasks)[:40])
        X, y, tasks = X[keep], y[keep], tasks[keep]
    rows = [measure(preset, X, y, tasks, args) for preset in ASKED]
    header = [
        "preset",
        "fit, asked",
        f"fit, {args.jobs} processes",
        "fit, 1 process",
        f"adapt to {N_SHOTS} rows",
        f"adapt to {N_TASKS} tasks",
    ]
    text = (
        f"`MetaStackingRegressor` on {len(np.unique(tasks))} tasks of {len(X)} rows in "
        "all; wall-clock time, of adapting the median of calls, beside what was asked. "
        "To start processes takes seconds, which a short fit does not earn back."
    )
    sections = [text, report.markdown_table(header, rows)]
    report.write("cost", "Cost", sections, quick=args.quick)


if __name__ == "__main__":
    main()
