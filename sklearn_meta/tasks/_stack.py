"""Putting the tables of tasks on top of each other, without keeping the tasks."""

from collections.abc import Hashable
from typing import Any

import numpy as np

# entries of the tables that are kept before they become one
BLOCK_ENTRIES = 2**21


class TableStack:
    """Tables with the same columns on top of each other, added one by one.

    A lazy task can be forgotten once it is added, and no more than one table of all
    rows is ever in memory.
    """

    def __init__(self) -> None:
        self._blocks: list = []
        self._pending: list = []
        self._n_pending = 0
        self._first: Any = None
        self._first_name: Hashable = None

    def add(self, table: Any, name: Hashable) -> None:
        """Add the table (or the target) of a task; the name is for messages."""
        if self._first is None:
            self._first, self._first_name = table[:0], name
        self._check_columns(table, name)
        self._pending.append(table)
        self._n_pending += np.size(table)
        if self._n_pending >= BLOCK_ENTRIES:
            self._close_block()

    def merge(self) -> Any:
        """Return all rows: a DataFrame if every table is one, else an array."""
        self._close_block()
        blocks, self._blocks = self._blocks, []
        if len(blocks) == 1:
            return blocks[0]
        if all(hasattr(block, "iloc") for block in blocks):
            return _concatenate(blocks)
        blocks = [np.asarray(block) for block in blocks]
        shape = (sum(map(len, blocks)), *blocks[0].shape[1:])
        merged = np.empty(shape, np.result_type(*blocks))
        end = len(merged)
        while blocks:  # from the end: what is copied is given back at once
            block = blocks.pop()
            merged[end - len(block) : end] = block
            end -= len(block)
        return merged

    def _close_block(self) -> None:
        """Make one table of the pending ones."""
        if self._pending:
            self._blocks.append(_concatenate(self._pending))
            self._pending, self._n_pending = [], 0

    def _check_columns(self, table: Any, name: Hashable) -> None:
        """Raise unless a table has the columns of the first one."""
        first = self._first
        if hasattr(table, "iloc") and hasattr(first, "iloc"):
            if not table.columns.equals(first.columns):
                raise ValueError(
                    f"Task {name!r} has the columns {list(table.columns)}, task "
                    f"{self._first_name!r} has {list(first.columns)}: give all tasks "
                    "the same columns in the same order."
                )
        elif table.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"Task {name!r} has {table.shape[1]} features, task "
                f"{self._first_name!r} has {first.shape[1]}: all tasks need the same "
                "columns."
            )


def _concatenate(tables: list) -> Any:
    """Put tables on top of each other; of DataFrames make one."""
    if all(hasattr(table, "iloc") for table in tables):
        import pandas as pd

        return pd.concat(tables, ignore_index=True)
    return np.concatenate([np.asarray(table) for table in tables])
