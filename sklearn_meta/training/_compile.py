"""A learner's forward pass through torch's compiler, where that works."""

from typing import Any

import torch
from torch import nn

from sklearn_meta.exceptions import warn_user

__all__ = ["Compiled"]


class Compiled:
    """A compiled forward pass, or the plain one where the compiler fails.

    Parameters
    ----------
    learner : nn.Module
        It stays as it is: weights are shared, and nothing compiled is kept in it.
    """

    def __init__(self, learner: nn.Module):
        self._learner = learner
        self._forward: Any = torch.compile(learner)

    def __call__(self, *episodes: Any) -> Any:
        """Return the learner's prediction; the first call compiles."""
        try:
            return self._forward(*episodes)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            warn_user(
                f"torch.compile failed, and the fit goes on without it: {reason} It "
                "needs a C++ compiler; on a GPU, Triton.",
                RuntimeWarning,
            )
            self._forward = self._learner
            return self._learner(*episodes)
