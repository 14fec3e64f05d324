"""CPU time of functions, of some in turns, and of an outer step."""

import time

import numpy as np
from speed_workloads import Fit, build_model, draw_tasks

# a fit of so many steps has as many stretches between evaluations as a long one
SHORT = 12


def cpu_seconds(function, repeats=1):
    """Return the CPU time of a call."""
    start = time.process_time()
    for _ in range(repeats):
        function()
    return (time.process_time() - start) / repeats


def in_turns(functions, rounds):
    """Return the CPU times of functions that take turns, (rounds, n_functions)."""
    for function in functions:
        function()
    return np.array(
        [[cpu_seconds(function) for function in functions] for _ in range(rounds)]
    )


def step_seconds(name, workload, args, n_tasks):
    """Return the CPU time of an outer step, (rounds,), without what is paid once.

    It comes from two lengths of `fit` that take turns.
    """
    tasks = draw_tasks(workload, args.seed, n_tasks)
    lengths = max(2 * SHORT, args.steps), SHORT
    fits = [Fit(build_model(name, workload), tasks, length) for length in lengths]
    seconds = in_turns([fit.run for fit in fits], args.rounds)
    return (seconds[:, 0] - seconds[:, 1]) / (lengths[0] - lengths[1])
