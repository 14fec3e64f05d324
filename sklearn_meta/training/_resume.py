"""The state of a running outer loop: written from time to time, given back later."""

import json
import time
from typing import Any

import torch
from skorch.callbacks import Callback

from sklearn_meta.training._checkpoint import CheckpointFile
from sklearn_meta.training._stream import EpisodeStream


class Resume(Callback):
    """Go on from a checkpoint, and write one where enough time has gone by.

    Parameters
    ----------
    file : CheckpointFile
        Where it is.
    stream : EpisodeStream
        The episodes of the run.
    watched : list of Callback
        Callbacks whose state belongs to the run; those before this one.
    """

    def __init__(
        self, file: CheckpointFile, stream: EpisodeStream, watched: list[Callback]
    ) -> None:
        self.file, self.stream, self.watched = file, stream, watched

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Give the state of an earlier run back."""
        self.written_at_ = time.monotonic()
        if self.file.state is not None:
            _give_back(self.file.state, net, self.stream, self.watched)
            n_left = self.stream.n_chunks - len(net.history)
            net.max_epochs = n_left if net.stopped_by is None else 0

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Write a checkpoint where it is time."""
        if time.monotonic() - self.written_at_ >= self.file.seconds:
            self._write(net)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Write the end of a run whose file stays."""
        if self.file.keep and not net.is_interrupted:
            self._write(net)

    def _write(self, net: Any) -> None:
        """Write a checkpoint, in the process whose file it is."""
        if self.file.is_owner:
            self.file.write_or_warn(_take(net, self.stream, self.watched))
        self.written_at_ = time.monotonic()


def _take(net: Any, stream: EpisodeStream, watched: list[Callback]) -> dict:
    """Return all that decides how the run goes on, as tensors and plain values."""
    device = next(net.module_.parameters()).device
    return {
        "weights": net.module_.state_dict(),
        "optimizer": net.optimizer_.state_dict(),
        "stream": stream.state_dict(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "losses": torch.cat(net.losses),
        "history": json.dumps(list(net.history), default=_plain),
        "callbacks": [_state_of(callback) for callback in watched],
        "stopped_by": net.stopped_by,
    }


def _give_back(
    state: dict, net: Any, stream: EpisodeStream, watched: list[Callback]
) -> None:
    """Set all that `_take` returned."""
    device = next(net.module_.parameters()).device
    net.module_.load_state_dict(state["weights"])
    net.optimizer_.load_state_dict(state["optimizer"])
    stream.load_state_dict(state["stream"])
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
    net.losses = [state["losses"]]
    net.n_steps = len(state["losses"])
    net.stopped_by = state["stopped_by"]
    net.history.extend(json.loads(state["history"]))
    for callback, values in zip(watched, state["callbacks"], strict=True):
        vars(callback).update(values)


def _state_of(callback: Callback) -> dict:
    """Return what a callback has learned, which by custom ends in an underscore."""
    return {name: v for name, v in vars(callback).items() if name.endswith("_")}


def _plain(value: Any) -> Any:
    """Return a number of numpy or torch in the history as one of Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(
        f"Expected numbers and texts in the history, got a {type(value).__name__} from "
        "a callback. Record plain values, or fit without a checkpoint."
    )
