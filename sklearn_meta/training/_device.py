"""The device, the threads and the seed of a run; the global ones are given back."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Use one CPU thread inside the block: more only slow many small products down."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
