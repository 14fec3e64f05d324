"""Collections larger than memory: which tasks are there at a time."""

import numpy as np

from sklearn_meta.tasks._collection import TaskCollection

# a window is read in about so many runs of tasks that are neighbours: reading them one
# by one would be slow, and all neighbours are too much alike where a table is sorted
RUNS_OF_A_WINDOW = 16


class TaskWindows:
    """Windows of tasks, in shuffled passes over a collection.

    Which tasks are in a window depends on the seed and its number only, so a run that
    is taken up again needs to know nothing else.

    Parameters
    ----------
    tasks : TaskCollection
        The collection.
    window : int
        Most tasks in memory at a time.
    n_held_out : int
        Tasks that are in no window, at most one window.
    seed : int
        Seed of the order.

    Attributes
    ----------
    n_tasks : int
        Tasks of the collection.
    held_out : TaskCollection
        The tasks that are in no window.

    Examples
    --------
    >>> from sklearn_meta.tasks import TaskCollection, TaskWindows
    >>> tasks = TaskCollection([([[0.0], [1.0]], [0.0, 1.0])] * 10)
    >>> windows = TaskWindows(tasks, window=4, n_held_out=2, seed=0)
    >>> [len(windows.window(i)) for i in range(3)], len(windows.held_out)
    ([4, 4, 4], 2)
    """

    def __init__(
        self, tasks: TaskCollection, window: int, n_held_out: int, seed: int
    ) -> None:
        self._tasks, self._window, self._seed = tasks, window, seed
        self.n_tasks = len(tasks)
        order = np.random.default_rng(seed).permutation(len(tasks))
        n_held_out = min(n_held_out, window)
        self.held_out = tasks[np.sort(order[:n_held_out])]
        self._rest = np.sort(order[n_held_out:])
        self._per_pass = -(-len(self._rest) // window)

    def window(self, number: int) -> TaskCollection:
        """Return the tasks of a window, counted from 0."""
        n_pass, position = divmod(number, self._per_pass)
        length = max(1, self._window // RUNS_OF_A_WINDOW)
        runs = np.split(self._rest, np.arange(length, len(self._rest), length))
        shuffled = np.random.default_rng([self._seed, n_pass]).permutation(len(runs))
        order = np.concatenate([runs[i] for i in shuffled])
        return self._tasks[np.sort(np.array_split(order, self._per_pass)[position])]
