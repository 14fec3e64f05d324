"""What surrounds a fit: device, processes, checkpoint and random numbers."""

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import check_random_state

from sklearn_meta.base._fingerprint import describe_fit
from sklearn_meta.exceptions import is_called_from, warn_user
from sklearn_meta.tasks import TaskRows
from sklearn_meta.training import (
    CheckpointFile,
    Processes,
    TrainingRecord,
    resolve_device,
)

# of scikit-learn: they fit many models, and take each for one that was fitted whole
FITTERS_OF_MANY = tuple(
    f"sklearn.{part}"
    for part in (
        "calibration",
        "ensemble",
        "feature_selection",
        "model_selection",
        "multiclass",
        "multioutput",
    )
)


class Run(NamedTuple):
    """The surroundings of one fit; processes and checkpoint are None without them.

    ``is_part`` says that a fit is part of a larger one, which an interruption ends.
    """

    device: torch.device
    processes: Processes | None
    checkpoint: CheckpointFile | None
    random_state: np.random.RandomState
    is_part: bool = False

    def draw_seed(self) -> int:
        """Draw the seed of torch."""
        return int(self.random_state.randint(np.iinfo(np.int32).max))

    def finish(self, record: TrainingRecord, max_iter: int) -> None:
        """Remove the checkpoint of a fit that is done; say what another one keeps."""
        if record.interrupted:
            self._interrupt(record, max_iter)
        elif self.checkpoint is not None:
            self.checkpoint.finish()

    def _interrupt(self, record: TrainingRecord, max_iter: int) -> None:
        """Warn of an interruption; where the fit is a part, leave it to the whole."""
        if self.is_part or is_one_of_many():
            raise KeyboardInterrupt
        no_scores = record.validation_scores is None
        kept = "last weights" if no_scores else "best weights until then"
        message = (
            f"The fit was interrupted after {len(record.loss_curve)} of {max_iter} "
            f"outer steps; the model keeps its {kept}."
        )
        if self.checkpoint is not None and self.checkpoint.path.exists():
            message += (
                " Call fit again with the same parameters and data to go on from the "
                f"checkpoint {str(self.checkpoint.path)!r}."
            )
        warn_user(message, UserWarning)


def is_one_of_many() -> bool:
    """Return whether a tool of scikit-learn fits models of which this is one."""
    return is_called_from(FITTERS_OF_MANY)


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
