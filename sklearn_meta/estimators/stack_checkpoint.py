"""Checkpoints of a mixture: each member's own, under one that names the fit."""

import shutil
from itertools import chain
from typing import Any

from sklearn.base import BaseEstimator

from sklearn_meta.base import BaseMetaEstimator
from sklearn_meta.base._fingerprint import describe_fit, describe_params
from sklearn_meta.tasks import TaskRows
from sklearn_meta.training import CheckpointFile, as_checkpoint

__all__ = ["StackCheckpoint"]


class StackCheckpoint:
    """A directory of the members' checkpoints, and a file that says of which fit.

    The members' files stay when a member is done, so that a mixture which is started
    again trains only what is left. Members without an outer loop are fitted again.

    Parameters
    ----------
    checkpoint : Checkpoint, str or path-like
        Where it is, and how often members that train write theirs.
    mixture : estimator
        Its parameters tell one fit from another.
    members : list of (str, estimator)
        The members, before they are given seeds.
    rows : TaskRows
        The checked rows of all tasks.

    Attributes
    ----------
    seed : int
        Drawn by the first run, for a mixture that has no seed of its own.

    Raises
    ------
    ValueError
        If the directory holds another fit's checkpoint, or one that cannot be read.
    """

    def __init__(
        self,
        checkpoint: Any,
        mixture: BaseEstimator,
        members: list[tuple[str, Any]],
        rows: TaskRows,
    ) -> None:
        checkpoint = as_checkpoint(checkpoint)
        fit = describe_fit(mixture, rows, None, False, None)
        fit.pop("estimators")
        for name, member in members:
            # one by one, so that an error can say which one differs
            fit[name] = type(member).__name__
            fit |= {f"{name}__{k}": v for k, v in describe_params(member).items()}
        self._file = CheckpointFile(checkpoint, fit)
        self.seed = self._file.seed
        self._directory = self._file.path.with_suffix(".members")
        self._of_members = checkpoint._replace(
            directory=self._directory, shared=True, keep=True
        )
        self._is_left = False
        self._file.write_or_warn({})

    def give_to(self, members: list[Any]) -> None:
        """Let members that train write here; they are changed."""
        for member in members:
            if isinstance(member, BaseMetaEstimator):
                member.set_params(checkpoint=self._of_members)

    def leave(self) -> str:
        """Keep the files of a fit that was interrupted; return how it goes on."""
        self._is_left = True
        return (
            "Call fit again with the same parameters and data to go on from the "
            f"checkpoint {str(self._file.path)!r}."
        )

    def finish(self, fitted: list[list[Any]]) -> None:
        """Remove all files of a mixture that is done, unless they are to be kept."""
        for model in chain.from_iterable(fitted):
            if isinstance(model, BaseMetaEstimator):
                model.set_params(checkpoint=None)
        if self._is_left or self._file.keep:
            return
        shutil.rmtree(self._directory, ignore_errors=True)
        self._file.finish()
