"""The tables of `speed.py` besides that of meta-training."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import speed_peers as peers
import torch
from speed_timing import cpu_seconds, step_seconds
from speed_workloads import WORKLOADS, Fit, Null, build_model, draw_tasks

GROWTH = {
    "tasks a step": ("W3", "batch", (8, 32, 128, 512)),
    "inner steps": ("W3", "inner_steps", (1, 5, 10, 20)),
    "support rows a class": ("W3", "n_shots", (1, 5, 20, 50)),
    "query rows a class": ("W3", "n_queries", (1, 15, 50)),
    "tasks that wait": ("W1", None, (300, 3000, 30000)),
}


def framework_rows(args):
    """Yield what an outer step takes beyond its mathematics."""
    for name in args.only:
        workload, times = WORKLOADS[name], []
        tasks = draw_tasks(workload, args.seed)
        fits = [Null(build_model(name, workload), tasks, n) for n in (args.steps, 1)]
        for fit in fits:
            fit.run()
        for _ in range(2 * args.rounds):
            step, start = (cpu_seconds(fit.run) / fit.n_steps for fit in fits)
            update = fits[0].update_seconds()
            times.append([step, update, step - update, start])
        yield [name, *(f"{1e3 * t:.3f}" for t in np.median(times, axis=0))]


def scaling_rows(args):
    """Yield how the time of an outer step grows with one number."""
    for title, (name, field, values) in GROWTH.items():
        values, steps = (values[:2], 24) if args.quick else (values, None)
        times = []
        for value in values:
            change = {} if field is None else {field: value}
            workload = replace(WORKLOADS[name], **change)
            n_tasks = value if field is None else 300
            own = replace_steps(args, steps or max(36, 3000 // max(value, 10)))
            seconds = step_seconds(name, workload, own, n_tasks)
            times.append(1e3 * np.median(seconds))
        pairs = zip(values, times, strict=True)
        yield [title, name, " · ".join(f"{n}: {ms:.2f}" for n, ms in pairs)]


def replace_steps(args, steps):
    """Return the options with another number of outer steps."""
    return type(args)(**vars(args) | {"steps": min(args.steps, steps)})


def serving_rows(args):
    """Yield the time of `adapt` and `predict`, input checks included."""
    workload = WORKLOADS["W3"]
    tasks = draw_tasks(workload, args.seed)
    fit = Fit(build_model("W3", workload), tasks, 24)
    fit.run()
    model, n = fit.model, workload.n_support
    X, y = tasks[0]
    many = draw_tasks(workload, args.seed + 1, 1000)
    X_query = np.concatenate([X[n:] for X, _ in many])
    ids = np.repeat(np.arange(len(many)), workload.n_query)
    support = [(X[:n], y[:n]) for X, y in many]
    calls = {
        "1 task": lambda: model.adapt(X[:n], y[:n]).predict(X[n:]),
        "1000 tasks": lambda: model.adapt_tasks(support).predict(X_query, tasks=ids),
    }
    if peers.installed({"learn2learn": None}):
        calls["1 task, learn2learn"] = partial(serve_one, workload, tasks)
    for title, call in calls.items():
        call()
        repeats = 1 if "1000" in title else 20
        seconds = [cpu_seconds(call, repeats) for _ in range(2 * args.rounds)]
        yield [title, f"{1e3 * np.median(seconds):.2f}", f"{1e3 * min(seconds):.2f}"]


def serve_one(workload, tasks):
    """Adapt learn2learn's network to the first task, and predict its query rows."""
    loop = serve_one.loops.setdefault(
        workload, peers.Learn2Learn(workload, tasks[:1], 1)
    )
    X, y, X_query, _ = loop.episodes[0]
    network = loop.adapted(X, y, first_order=True)
    with torch.no_grad():
        return network(X_query)


serve_one.loops = {}


def memory(batch, seed):
    """Print how far a fit of W3 with so many tasks a step raises the peak, in MiB."""
    workload = WORKLOADS["W3"]
    fit = Fit(build_model("W3", workload), draw_tasks(workload, seed), 12)
    fit.model.set_params(meta_batch_size=1)
    fit.run()
    fit.model.set_params(meta_batch_size=batch)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak until now
    before = peak_memory()
    fit.run()
    print(peak_memory() - before)


def peak_memory():
    """Return the most memory that the process has had, in MiB."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def memory_rows():
    """Yield the memory of large meta-batches, each in its own process."""
    for batch in (32, 512):
        script = str(Path(__file__).with_name("speed.py"))
        command = [sys.executable, script, "--memory", str(batch)]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        yield [batch, f"{float(found.stdout):.0f}"]
