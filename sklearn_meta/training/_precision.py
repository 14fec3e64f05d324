"""What ``torch.autocast`` around a fit changes in its outer loop."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from sklearn_meta.exceptions import DeviceWarning, warn_user

__all__ = ["Precision"]


class Precision:
    """Autocast of the losses, and of nothing else, while a user has it on.

    A learner that is all layers (``mixed_precision = True``) follows it. Inner steps,
    kernels and systems to be solved lose in bfloat16 what they learn; such learners
    stay in full precision, with a warning.

    Parameters
    ----------
    learner : nn.Module
        The learner that is trained.
    device : torch.device
        Where it lives.
    """

    def __init__(self, learner: nn.Module, device: torch.device):
        self._kind = device.type
        self._is_on = torch.is_autocast_enabled(device.type)
        self._dtype = torch.get_autocast_dtype(device.type)
        self._follows = self._is_on and getattr(learner, "mixed_precision", False)
        if self._is_on and not self._follows:
            warn_user(
                f"torch.autocast is on, but {type(learner).__name__} learns in full "
                "precision: its inner steps, kernels or solved systems need it. Fit "
                "outside of autocast to silence this.",
                DeviceWarning,
            )

    def of_loop(self) -> AbstractContextManager:
        """Return the context of all that is around the losses, gradients included."""
        return torch.autocast(self._kind, enabled=False) if self._is_on else _NOTHING

    def of_loss(self) -> AbstractContextManager:
        """Return the context of a loss."""
        if not self._follows:
            return _NOTHING
        # weights change between two losses: a cache of their copies would be stale
        return torch.autocast(self._kind, self._dtype, cache_enabled=False)


_NOTHING = nullcontext()
