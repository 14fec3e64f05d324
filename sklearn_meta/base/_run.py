"""What surrounds a fit: device, processes, checkpoint and random numbers."""

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import check_random_state

from sklearn_meta.base._fingerprint import describe_fit
from sklearn_meta.tasks import TaskRows
from sklearn_meta.training import CheckpointFile, Processes, resolve_device


class Run(NamedTuple):
    """The surroundings of one fit; processes and checkpoint are None without them."""

    device: torch.device
    processes: Processes | None
    checkpoint: CheckpointFile | None
    random_state: np.random.RandomState

    def draw_seed(self) -> int:
        """Draw the seed of torch."""
        return int(self.random_state.randint(np.iinfo(np.int32).max))

    def finish(self, interrupted: bool) -> None:
        """Remove the checkpoint of a fit that is done."""
        if self.checkpoint is not None and not interrupted:
            self.checkpoint.finish()


def open_run(
    estimator: Any,
    rows: TaskRows,
    validation: TaskRows | None,
    resume: bool,
    classes: Any,
) -> Run:
    """Return the surroundings that an estimator's parameters ask for."""
    processes = Processes() if estimator.device == "accelerate" else None
    device = processes.device if processes else resolve_device(estimator.device)
    random_state = check_random_state(estimator.random_state)
    if processes is None and estimator.checkpoint is None:
        return Run(device, None, None, random_state)
    fit = describe_fit(estimator, rows, validation, resume, classes)
    if processes is not None:
        processes.check_same(fit)
        random_state = processes.agree(random_state)
    if estimator.checkpoint is None:
        return Run(device, processes, None, random_state)
    checkpoint = _open_checkpoint(estimator.checkpoint, fit, processes)
    if estimator.random_state is None:
        random_state = check_random_state(checkpoint.seed)
    return Run(device, processes, checkpoint, random_state)


def _open_checkpoint(
    place: Any, fit: dict[str, str], processes: Processes | None
) -> CheckpointFile:
    """Open the file in one process, and give what is in it to all."""
    if processes is None:
        return CheckpointFile(place, fit)
    checkpoint = CheckpointFile(place, fit, is_owner=processes.is_main)
    found = processes.agree((checkpoint.state, checkpoint.seed))
    checkpoint.state, checkpoint.seed = found
    return checkpoint
