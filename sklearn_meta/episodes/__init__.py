"""Seeded sampling of episodes, and the crossing from numpy tables to stacked tensors.

An episode is one draw of a task into support and query rows. Episodes are drawn for
many outer steps at once as row numbers; a step then gathers its rows, wherever the
table lives. Nothing here loops over tasks.
"""

from sklearn_meta.episodes._class_sampler import ClassEpisodeSampler
from sklearn_meta.episodes._row_sampler import RowEpisodeSampler
from sklearn_meta.episodes._rows import EpisodeRows, Episodes
from sklearn_meta.episodes._stacks import as_tensor, stack_rows, task_chunks

__all__ = [
    "ClassEpisodeSampler",
    "EpisodeRows",
    "Episodes",
    "RowEpisodeSampler",
    "as_tensor",
    "stack_rows",
    "task_chunks",
]
