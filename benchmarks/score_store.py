"""Scores of all methods on disk, so that one can be added without running the others.

One file per collection holds a row per method, split, number of support rows and
episode; a second one holds a row per method, split and number of support rows.
"""

import contextlib
import fcntl
import gzip
from pathlib import Path

import pandas as pd

KEYS = ["method", "repeat", "K"]
EPISODE_KEYS = [*KEYS, "episode"]


class ScoreStore:
    """Per-episode scores and costs of each collection.

    Parameters
    ----------
    folder : Path
        Where the files are; it is made when something is stored.
    """

    def __init__(self, folder):
        self.folder = Path(folder)

    def scores(self, collection):
        """Return scores with a row per method, repeat, K and episode."""
        return _read(self._path(collection, "scores"), EPISODE_KEYS)

    def costs(self, collection):
        """Return seconds and calibration error per method, repeat and K."""
        return _read(self._path(collection, "costs"), KEYS)

    def has(self, collection, method, repeat):
        """Return whether a method has been scored on a split."""
        known = self.costs(collection)
        return bool(((known.method == method) & (known.repeat == repeat)).any())

    def add(self, collection, scores, costs):
        """Store the rows of some methods in the place of what they had before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            for what, new, keys in (
                ("scores", scores, EPISODE_KEYS),
                ("costs", costs, KEYS),
            ):
                path = self._path(collection, what)
                both = pd.concat([_read(path, keys), new]).drop_duplicates(
                    keys, keep="last"
                )
                _write(path, both.sort_values(keys))

    def _path(self, collection, what):
        return self.folder / f"{collection}.{what}.csv.gz"

    @contextlib.contextmanager
    def _locked(self):
        """Let one process at a time read and write."""
        with open(self.folder / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _read(path, keys):
    """Read a table, which is empty where there is no file."""
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=keys)


def _write(path, table):
    """Write a table whose bytes depend on its content alone."""
    text = table.to_csv(index=False, float_format="%.5g", lineterminator="\n")
    # no time stamp, and never a half-written file
    partial = path.with_suffix(".partial")
    partial.write_bytes(gzip.compress(text.encode(), mtime=0))
    partial.replace(path)
