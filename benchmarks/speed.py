"""Time of a whole `fit`, of adapting and of predicting, beside the field's libraries.

Most peers (`speed_peers.py`) do one task after another, as the libraries of the field
do; JAX and a Gaussian process on stacked tensors (`speed_stacked.py`) take all tasks of
a step at once. They get their episodes as arrays, ready made; `fit` draws its own. All
take turns in one process, at one thread, and CPU time is what counts, so that a busy
machine changes little.

The loop by autograd always takes part. The others do if they can be imported: higher
after `pip install higher`, TorchOpt after `pip install torchopt`, JAX after `pip
install jax`, and learn2learn, whose build fails on Python 3.11, if L2L_SRC names the
folder of its unpacked source (`pip download --no-deps --no-binary :all:
learn2learn==0.2.0`), of which only the Python files are used.
"""

import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np
import report
import speed_peers as peers
import speed_stacked as stacked
import speed_tables as tables
import torch
from speed_framework import framework_rows, measure
from speed_serving import serving_columns, serving_rows
from speed_timing import in_turns
from speed_workloads import WORKLOADS, Fit, build_model, draw_tasks

GRADIENT_PEERS = {
    "autograd loop": peers.Autograd,
    "learn2learn": peers.Learn2Learn,
    "higher": peers.Higher,
    "TorchOpt": peers.TorchOpt,
    "JAX": stacked.Jax,
}
PEERS = {
    "W4": {
        "autograd loop": peers.PrototypeLoop,
        "learn2learn": peers.Learn2LearnPrototypes,
    },
    "W5": {"autograd loop": peers.ProcessLoop},
    "GP": {
        "autograd loop": stacked.KernelLoop,
        "autograd, stacked": stacked.KernelStack,
    },
}
# TorchOpt has no first order; JAX needs tasks of one size
MISSING = {"W2": {"TorchOpt"}, "W3r": {"JAX"}}


def peers_of(name):
    """Return the peers of a workload that are installed."""
    known = PEERS.get(name, GRADIENT_PEERS)
    missing = MISSING.get(name, set())
    return peers.installed({n: p for n, p in known.items() if n not in missing})


def step_times(name, args, *, as_module=False):
    """Return ms of an outer step of fit and of each peer, (rounds, 1 + n_peers)."""
    workload = WORKLOADS[name]
    tasks = draw_tasks(workload, args.seed)
    n_steps = args.steps // 5 if as_module else args.steps
    own = Fit(build_model(name, workload, as_module=as_module), tasks, n_steps)
    n_peer_steps = max(1, n_steps // 25)
    others = [peer(workload, tasks, n_peer_steps) for peer in peers_of(name).values()]
    runs = [own, *others]
    seconds = in_turns([run.run for run in runs], args.rounds)
    return 1e3 * seconds / [run.n_steps for run in runs]


def training_row(name, args, *, as_module=False):
    """Return a row of the table: ms a step, and as a multiple of `fit`."""
    steps = step_times(name, args, as_module=as_module)
    times = np.median(steps[:, 1:], axis=0)
    ratios = np.median(steps[:, 1:] / steps[:, :1], axis=0)
    cells = {
        peer: f"{ms:.2f} (**{ratio:.1f}**)"
        for peer, ms, ratio in zip(peers_of(name), times, ratios, strict=True)
    }
    title = WORKLOADS[name].title + (", any nn.Module" if as_module else "")
    columns = [cells.get(column, "") for column in peer_columns()]
    return [name, title, f"{np.median(steps[:, 0]):.2f}", *columns]


def peer_columns():
    """Return the names of all peers that are installed."""
    known = {
        n: p for group in (GRADIENT_PEERS, *PEERS.values()) for n, p in group.items()
    }
    return list(peers.installed(known))


def main():
    """Run the workloads that are asked for and write the tables."""
    parser = report.command_line(__doc__)
    parser.add_argument("--only", nargs="+", default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600, help="outer steps of fit")
    parser.add_argument("--framework", action="store_true", help="no more than that")
    parser.add_argument("--memory", type=int, help="measure a meta-batch, and no more")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory:
        tables.memory(args.memory, args.seed)
        return
    if args.framework:
        print(json.dumps(list(measure(args))))
        return
    if args.quick:
        args.rounds, args.steps = 2, 25
    runs = [(name, False) for name in args.only]
    runs += [(name, True) for name in ("W1", "W3") if name in args.only]
    rows = []
    for name, as_module in runs:
        rows.append(training_row(name, args, as_module=as_module))
        report.progress(" | ".join(rows[-1]))
    report.write("speed", "Speed", sections(rows, args), quick=args.quick)


def sections(rows, args):
    """Return the texts and tables of the report."""
    table = report.markdown_table
    return [
        f"CPU time of one of {args.steps} outer steps in ms, median of {args.rounds} "
        "rounds in turns; in brackets as a multiple of `fit`, within a round. `fit` "
        "counts as a whole, with its checks and its sampling; the peers get ready-made "
        "arrays.",
        table(["", "workload", "fit, ms", *peer_columns()], rows),
        "## What an outer step takes beyond its mathematics",
        f"One of {args.steps} steps of a fit, in ms, whose loss and gradient are given "
        "beforehand, less the update of the weights and a bare look-up of the rows: "
        "checks, sampling, masks, clipping, history. What is paid once for a fit is in "
        "it, and shown too. The last row is what a plain skorch net takes for a batch "
        "of 128 rows beyond a loop that updates the same network on bare slices.",
        table(
            ["", "fit without loss", "update", "rows", "framework", "once for a fit"],
            framework_rows(args),
        ),
        "## How an outer step grows",
        "In ms, without what is paid once.",
        table(["number of", "workload", "number: ms"], tables.scaling_rows(args)),
        "## Adapting and predicting",
        "CPU time in ms, the median of calls in turns and, in brackets, the least: 5 "
        "ways, 5 shots, 5 steps, 75 query rows a task. Ours is in float64 with all "
        "checks, the others in float32 without any, on tensors that lie ready.",
        table(serving_columns(), serving_rows(args)),
        "## Memory",
        "Peak memory of the process.",
        table(["tasks a step of W3", "MiB above a fit with 1"], tables.memory_rows()),
    ]


if __name__ == "__main__":
    main()
