"""The device, the threads and the seed of a run; the global ones are given back."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sklearn_meta.exceptions import DeviceWarning


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch inside the block and give the global state back after it."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        # torch.manual_seed would also reseed devices that are not forked here
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


class one_thread:
    """Use one CPU thread inside the block: more only slow many small products down.

    Blocks may overlap in several threads of Python. torch has one number for all of
    them, and it is that of before the first block again after the last.
    """

    def __init__(self, device: torch.device) -> None:
        self.is_on_cpu = device.type == "cpu"

    def __enter__(self) -> None:
        is_inside = getattr(_this_thread, "is_inside", False)
        self.is_outermost = self.is_on_cpu and not is_inside
        if self.is_outermost:
            _blocks.enter()

    def __exit__(self, *error: Any) -> None:
        if self.is_outermost:
            _blocks.leave()


class _Blocks:
    """The blocks that want one CPU thread, and how many there were before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n_inside, self.before = 0, 0

    def enter(self) -> None:
        """Set one thread, and remember the number if it is the first block."""
        with self.lock:
            if not self.n_inside:
                self.before = torch.get_num_threads()
            self.n_inside += 1
            torch.set_num_threads(1)
        _this_thread.is_inside = True

    def leave(self) -> None:
        """Give the number back, to this thread and to those that are yet to start."""
        _this_thread.is_inside = False
        with self.lock:
            self.n_inside -= 1
            torch.set_num_threads(self.before)

    def after_fork(self) -> None:
        """Forget the blocks of threads that the child has not got."""
        self.lock = threading.Lock()
        self.n_inside = int(getattr(_this_thread, "is_inside", False))


_this_thread, _blocks = threading.local(), _Blocks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_blocks.after_fork)


def resolve_device(device: str | torch.device, must_exist: bool = True) -> torch.device:
    """Return the device to use; "auto" is the GPU where there is one.

    So is "accelerate", outside of the processes that `Processes` stands for.

    Raises
    ------
    ValueError
        If it is no device, or is not there and ``must_exist``; one that is not there
        otherwise gives a warning, and the CPU is used.
    """
    if device in ("auto", "accelerate"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"Expected device to be 'auto', 'cpu' or 'cuda', got {device!r}: {error}"
        ) from error
    if device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_available()):
        return device
    if must_exist:
        raise ValueError(
            f"device={str(device)!r} is not available here. Use device='auto' or 'cpu'."
        )
    warnings.warn(
        f"The device {str(device)!r} is not available here; the model is loaded on the "
        "CPU.",
        DeviceWarning,
        stacklevel=3,
    )
    return torch.device("cpu")
