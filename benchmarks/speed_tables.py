"""The tables of `speed.py` besides that of meta-training."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from speed_timing import step_seconds
from speed_workloads import WORKLOADS, Fit, build_model, draw_tasks

GROWTH = {
    "tasks a step": ("W3", "batch", (8, 32, 128, 512)),
    "inner steps": ("W3", "inner_steps", (1, 5, 10, 20)),
    "support rows a class": ("W3", "n_shots", (1, 5, 20, 50)),
    "query rows a class": ("W3", "n_queries", (1, 15, 50)),
    "tasks that wait": ("W1", None, (300, 3000, 30000)),
}


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
