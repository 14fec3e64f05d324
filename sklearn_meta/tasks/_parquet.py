"""Tasks in Parquet files: where the rows of each are, and reading them when needed."""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_meta.tasks._stack import TableStack


class ParquetTasks(Sequence):
    """The tasks of Parquet files; a task is read at access, with its row group.

    Only the column of ids is read at first. The last row group is kept, so tasks that
    are neighbours in a file cost one read.

    Parameters
    ----------
    path : str, path-like or list of them
        Files, or directories of files that end in ".parquet".
    task : str
        Name of the column with the task id.
    target : str
        Name of the column with the target.

    Attributes
    ----------
    names : list
        The ids, in order of first appearance.
    """

    def __init__(self, path: Any, task: str, target: str) -> None:
        self._paths = _list_files(path)
        self._columns = self._check_columns(task, target)
        self._target = target
        codes: dict = {}
        runs = [
            (codes.setdefault(name, len(codes)), *place)
            for file, found in enumerate(self._paths)
            for name, place in _runs_of(found, file, task)
        ]
        self.names = list(codes)
        self._runs = np.array(runs).reshape(-1, 5)
        # the runs of a task together, in the order of the files
        self._runs = self._runs[np.argsort(self._runs[:, 0], kind="stable")]
        self._starts = np.searchsorted(self._runs[:, 0], np.arange(len(codes) + 1))
        self._group: tuple = (None, None)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> tuple:
        first, end = self._starts[range(len(self))[index] + np.arange(2)]
        parts = [self._rows_of(run) for run in self._runs[first:end].tolist()]
        if len(parts) == 1:
            return parts[0]
        X, y = TableStack(), TableStack()
        for rows, targets in parts:
            X.add(rows, self.names[index])
            y.add(targets, self.names[index])
        return X.merge(), y.merge()

    def __getstate__(self) -> dict:
        """Leave the rows that are kept out of pickles."""
        return vars(self) | {"_group": (None, None)}

    def _rows_of(self, run: list[int]) -> tuple:
        """Return the rows and the targets of a run."""
        _, file, group, start, stop = run
        X, y = self._read(file, group)
        return X.iloc[start:stop], y[start:stop]

    def _read(self, file: int, group: int) -> Any:
        """Return the rows and the targets of a row group."""
        kept, table = self._group
        if kept != (file, group):
            with _parquet().ParquetFile(self._paths[file]) as opened:
                frame = opened.read_row_group(group, self._columns).to_pandas()
            table = frame.drop(columns=self._target), frame[self._target].to_numpy()
            self._group = ((file, group), table)
        return table

    def _check_columns(self, task: str, target: str) -> list[str]:
        """Return the columns to read; all files must have them."""
        columns: list[str] = []
        for path in self._paths:
            found = _parquet().read_schema(path).names
            for role, name in (("task", task), ("target", target)):
                if name not in found:
                    raise ValueError(
                        f"The {role} column {name!r} is not in {str(path)!r}. Its "
                        f"columns are {found}."
                    )
            columns = columns or [name for name in found if name != task]
            if {*columns, task} != set(found):
                raise ValueError(
                    f"Expected the columns of {str(self._paths[0])!r} in all files, "
                    f"got {found} in {str(path)!r}. Write all files with the same "
                    "columns."
                )
        return columns


def _list_files(path: Any) -> list[Path]:
    """Return the files of a path or of several, those of a directory by name."""
    given = path if isinstance(path, (list, tuple)) else [path]
    files: list[Path] = []
    for place in map(Path, given):
        files += sorted(place.glob("*.parquet")) if place.is_dir() else [place]
    missing = [str(file) for file in files if not file.is_file()]
    if missing or not files:
        raise ValueError(
            "Expected Parquet files or directories of them, got "
            f"{missing[0] if missing else str(path)!r}, where there is none."
        )
    return files


def _runs_of(path: Path, file: int, task: str) -> Iterator[tuple]:
    """Yield the id and the place of each run of rows with one id."""
    compute = importlib.import_module("pyarrow.compute")
    with _parquet().ParquetFile(path) as opened:
        for group in range(opened.num_row_groups):
            ids = opened.read_row_group(group, columns=[task]).column(0)
            if ids.null_count:
                raise ValueError(
                    f"Expected an id in each row of the task column {task!r}, got "
                    f"none in {ids.null_count} rows of {str(path)!r}. Drop these rows."
                )
            chunk = ids.combine_chunks()
            if hasattr(chunk, "dictionary_decode"):
                chunk = chunk.dictionary_decode()
            runs = compute.run_end_encode(chunk)
            start = 0
            for name, end in zip(
                runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True
            ):
                yield name, (file, group, start, end)
                start = end


def _parquet() -> Any:
    """Import the packages that only Parquet files need."""
    try:
        importlib.import_module("pandas")
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ImportError(
            f"Parquet files need {error.name}, which is not installed: pip install "
            "'sklearn-meta[parquet]'."
        ) from error
