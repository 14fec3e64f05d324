"""Several processes that train one learner, each on its share of every meta-batch."""

import importlib
import os
from typing import Any

import torch
from torch import Tensor

from sklearn_meta.episodes import EpisodeRows


class Processes:
    """The processes of ``accelerate launch``, this one among them.

    All draw the same episodes, since they have the same seed, and take their own share
    of each meta-batch. The gradients of the shares add up to that of the meta-batch, so
    all processes take the same step, which is that of a single process.

    Raises
    ------
    ImportError
        If accelerate is not installed.
    RuntimeError
        If accelerate was set up by other code and does not see the processes.

    Attributes
    ----------
    device : torch.device
        The device of this process, as accelerate assigns it.
    is_main : bool
        Whether this process writes files and shows progress.
    """

    def __init__(self) -> None:
        self._accelerate = _import_accelerate()
        accelerator = _join(self._accelerate)
        self.rank, self.count = accelerator.process_index, accelerator.num_processes
        self.is_main = accelerator.is_main_process
        # learners adapt in float64, which the devices of other kinds do not have
        known = accelerator.device.type in ("cpu", "cuda")
        self.device = accelerator.device if known else torch.device("cpu")

    def share(self, rows: EpisodeRows) -> tuple[EpisodeRows, Tensor]:
        """Return the own episodes, and the weight of their mean loss in that of all."""
        own = rows.select(slice(self.rank, None, self.count))
        scored = own.query_mask.any(1).sum() / rows.query_mask.any(1).sum().clamp_min(1)
        if len(own.support):
            return own, scored
        return rows.select(slice(0, 1)), scored  # a weight of zero

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        return self._accelerate.utils.reduce(tensor, reduction="sum")

    def sum_step(self, loss: Tensor, parameters: list[Tensor]) -> Tensor:
        """Sum gradients in place, all in one message; return the sum of the losses."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = [loss.reshape(1), *(gradient.flatten() for gradient in gradients)]
        total, *parts = self.sum(torch.cat(flat)).split([len(part) for part in flat])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return total.squeeze(0)

    def agree(self, value: Any) -> Any:
        """Return the value of the main process, in all of them."""
        return self._accelerate.utils.broadcast_object_list([value])[0]

    def check_same(self, fit: dict[str, str]) -> None:
        """Raise in all processes unless they fit the same model to the same data."""
        others = self._accelerate.utils.gather_object([fit])
        for rank, other in enumerate(others):
            names = sorted(other.keys() | fit.keys())
            differing = [n for n in names if other.get(n) != others[0].get(n)]
            if differing:
                raise ValueError(
                    "Expected the same parameters and data in all processes, got "
                    f"{' and '.join(differing)} in process {rank} other than in "
                    "process 0. Give every process all tasks: each takes its share of "
                    "every meta-batch by itself."
                )


def _join(accelerate: Any) -> Any:
    """Return accelerate's view of the processes.

    By itself it looks for other processes only where there is a GPU; each of several on
    CPUs would train alone, and not say so.
    """
    is_ready = accelerate.state.is_initialized()
    on_cpu = not torch.cuda.is_available()
    accelerator = accelerate.Accelerator(cpu=on_cpu and not is_ready)
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if launched != accelerator.num_processes:
        raise RuntimeError(
            f"Expected accelerate to join {launched} processes, got "
            f"{accelerator.num_processes}: it was set up before fit. Set it up as "
            f"Accelerator(cpu={on_cpu}), or leave that to fit."
        )
    return accelerator


def _import_accelerate() -> Any:
    """Import the package that only runs on several processes need."""
    try:
        importlib.import_module("accelerate.utils")
        return importlib.import_module("accelerate")
    except ImportError as error:
        raise ImportError(
            "device='accelerate' needs the package accelerate, which is not installed: "
            "pip install 'sklearn-meta[accelerate]'. On one device, use device='auto'."
        ) from error
