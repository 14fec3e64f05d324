"""The table of `speed.py` about new tasks: ours with all checks, the peers without."""

from functools import partial

import numpy as np
import torch
from speed_peers import Learn2Learn, installed
from speed_stacked import Jax
from speed_timing import in_turns
from speed_workloads import WORKLOADS, Fit, build_model, draw_tasks

N_TASKS = (1, 1000)
# a call for one task is short: so many are timed together
REPEATS = {1: 20, 1000: 1}


def serving_rows(args):
    """Yield the time of adapting to tasks and predicting, each peer in its turn."""
    workload = WORKLOADS["W3"]
    fit = Fit(build_model("W3", workload), draw_tasks(workload, args.seed), 24)
    fit.run()
    peers = installed({"learn2learn": serve_in_loop, "JAX": serve_by_jax})
    for n_tasks in N_TASKS:
        tasks = draw_tasks(workload, args.seed + 1, n_tasks)
        calls = {"ours": serve_by(fit.model, workload, tasks)}
        calls |= {name: peer(workload, tasks) for name, peer in peers.items()}
        repeats = REPEATS[n_tasks]
        timed = [partial(repeat, call, repeats) for call in calls.values()]
        seconds = in_turns(timed, 2 * args.rounds) / repeats
        yield [
            f"{n_tasks} task{'s' * (n_tasks > 1)}",
            *(f"{1e3 * np.median(s):.2f} ({1e3 * min(s):.2f})" for s in seconds.T),
        ]


def serving_columns():
    """Return the heads of the table's columns."""
    return ["adapt and predict", "ours", *installed({"learn2learn": 0, "JAX": 0})]


def repeat(call, n):
    """Call a function so many times."""
    for _ in range(n):
        call()


def serve_by(model, workload, tasks):
    """Return a call of the public estimator: one task alone, or all in one call."""
    n = workload.n_support
    if len(tasks) == 1:
        X, y = tasks[0]
        return lambda: model.adapt(X[:n], y[:n]).predict(X[n:])
    X_query = np.concatenate([X[n:] for X, _ in tasks])
    ids = np.repeat(np.arange(len(tasks)), workload.n_query)
    support = [(X[:n], y[:n]) for X, y in tasks]
    return lambda: model.adapt_tasks(support).predict(X_query, tasks=ids)


def serve_in_loop(workload, tasks):
    """Return a call of learn2learn, one task after the other."""
    peer = Learn2Learn(workload, tasks, 1)

    def call():
        for X, y, X_query, _ in peer.episodes:
            network = peer.adapted(X, y, first_order=True)
            with torch.no_grad():
                network(X_query)

    return call


def serve_by_jax(workload, tasks):
    """Return a call of what JAX compiled for so many tasks."""
    peer = Jax(workload, tasks, 1)
    return partial(peer.predict, *peer.stacks[:3])
