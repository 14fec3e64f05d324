"""Outer steps on a GPU: as they come, as CUDA graphs, and beside a loop over tasks.

The workloads are those of `speed.py`, with more and more tasks in a step. Wall-clock
time counts, up to when the GPU has done its work. Two floors stand beside it: what it
takes to start as many kernels as a step has, one by one, and what its products take at
the rate of large ones. A loop over tasks is timed with 32 of them and scales with
their number; learn2learn takes part where it is installed (see `speed.py`).
"""

import time
import warnings

import numpy as np
import report
import speed_peers as peers
import torch
from speed_workloads import WORKLOADS, Fit, build_model, draw_tasks
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from sklearn_meta.exceptions import DeviceWarning

LOOPS = {"W4": peers.Learn2LearnPrototypes, "W5": peers.ProcessLoop}
LOOP_TASKS = 32
SHORT = 12
N_STARTS, N_PRODUCTS, WIDTH = 5000, 20, 4096


class Device:
    """What is asked of a device beside the fits."""

    def __init__(self, name):
        self.name, self.is_gpu = name, name.startswith("cuda")
        self.start_seconds = self._start_seconds()
        self.flops_a_second = self._flops_a_second()

    def seconds(self, function):
        """Return the wall-clock time of a call, until all of its work is done."""
        self.wait()
        start = time.perf_counter()
        function()
        self.wait()
        return time.perf_counter() - start

    def wait(self):
        """Wait for the GPU."""
        if self.is_gpu:
            torch.cuda.synchronize(self.name)

    def floors(self, fit):
        """Return the seconds a step needs to start its kernels and for its products."""
        lengths = SHORT, 2 * SHORT
        kernels, flops = np.transpose([self._count(fit, n) for n in lengths])
        n_kernels, n_flops = (
            (long - short) / SHORT for short, long in (kernels, flops)
        )
        return n_kernels * self.start_seconds, n_flops / self.flops_a_second

    def _count(self, fit, n_steps):
        """Return the kernels and the floating-point operations of some steps."""
        fit.n_steps = n_steps
        activities = [ProfilerActivity.CPU]
        if self.is_gpu:
            activities.append(ProfilerActivity.CUDA)
        with profile(activities=activities) as profiled:
            fit.run()
        kind = DeviceType.CUDA if self.is_gpu else DeviceType.CPU
        n_kernels = sum(event.device_type == kind for event in profiled.events())
        with FlopCounterMode(display=False) as counted:
            fit.run()
        return n_kernels, counted.get_total_flops()

    def _start_seconds(self):
        number = torch.zeros(1, device=self.name)

        def start_all():
            for _ in range(N_STARTS):
                number.add_(1)

        start_all()
        return self.seconds(start_all) / N_STARTS

    def _flops_a_second(self):
        width = WIDTH if self.is_gpu else WIDTH // 8
        factor = torch.ones(width, width, device=self.name)

        def multiply():
            for _ in range(N_PRODUCTS):
                factor @ factor

        multiply()
        return N_PRODUCTS * 2 * width**3 / self.seconds(multiply)


def row(name, n_tasks, device, args):
    """Return a row of the table: ms of an outer step in each way."""
    workload = WORKLOADS[name].with_batch(n_tasks)
    tasks = draw_tasks(workload, args.seed)
    ways = [False, "cudagraphs"] if device.is_gpu else [False]
    fits = [
        Fit(build_model(name, workload, device=device.name, compile=way), tasks, SHORT)
        for way in ways
    ]
    times = [step_seconds(fit, device, args) for fit in fits]
    floors = device.floors(fits[0])
    loop = loop_seconds(name, tasks, device, args) * n_tasks / LOOP_TASKS
    cells = [f"{1e3 * seconds:.3f}" for seconds in (*times, *floors, loop)]
    cells += [f"{loop / min(times):.0f}", f"{100 * max(floors) / min(times):.0f} %"]
    return [name, n_tasks, *cells]


def step_seconds(fit, device, args):
    """Return the time of an outer step without what is paid once: of two lengths."""
    seconds = []
    for _ in range(args.rounds + 1):  # the first is not counted
        pair = []
        for fit.n_steps in (SHORT, SHORT + args.steps):
            pair.append(device.seconds(fit.run))
        seconds.append((pair[1] - pair[0]) / args.steps)
    return np.median(seconds[1:])


def loop_seconds(name, tasks, device, args):
    """Return the time of a step of a loop over tasks."""
    kind = LOOPS.get(name, peers.Learn2Learn)
    if kind is peers.Learn2Learn and not peers.installed({"learn2learn": kind}):
        kind = peers.Autograd
    workload = WORKLOADS[name].with_batch(LOOP_TASKS)
    loop = kind(workload, tasks, 1, device.name)
    return np.median([device.seconds(loop.run) for _ in range(args.rounds + 1)][1:])


def main():
    """Time all that is asked for and write the table."""
    parser = report.command_line(__doc__)
    names = [name for name in WORKLOADS if name != "GP"]
    parser.add_argument("--only", nargs="+", default=names)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tasks", type=int, nargs="+", default=[32, 512, 4096])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=48, help="steps that are timed")
    args = parser.parse_args()
    if args.quick:
        args.tasks, args.rounds, args.steps = [8], 1, SHORT
    warnings.simplefilter("error", DeviceWarning)  # a step that is not recorded
    device = Device(args.device)
    rows = []
    for name in args.only:
        for n_tasks in args.tasks:
            rows.append(row(name, n_tasks, device, args))
            report.progress(" | ".join(map(str, rows[-1])))
    graphs = ["as CUDA graphs"] if device.is_gpu else []
    header = ["", "tasks", "fit, ms", *graphs, "starts", "products", "task loop"]
    title = torch.cuda.get_device_name(args.device) if device.is_gpu else "CPU"
    start, rate = 1e6 * device.start_seconds, device.flops_a_second / 1e12
    text = (
        f"Milliseconds of an outer step on one {title}, median of {args.rounds} "
        f"rounds. A kernel takes {start:.1f} microseconds to start; large products in "
        f"float32 run at {rate:.1f} TFLOP/s."
    )
    table = report.markdown_table([*header, "times faster", "larger floor"], rows)
    report.write("speed_gpu", "Speed on a GPU", [text, table], quick=args.quick)


if __name__ == "__main__":
    main()
