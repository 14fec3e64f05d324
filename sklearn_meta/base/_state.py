"""Copies and files of fitted estimators, and estimators that survive errors."""

import copy
from typing import Any, Self

import torch
from sklearn.base import BaseEstimator

from sklearn_meta.learners.contract import Learner
from sklearn_meta.serving import AdaptedTasks, move_state, pack_state
from sklearn_meta.training import resolve_device


class PortableStateMixin(BaseEstimator):
    """Shallow copies share what was learned; pickles load without the GPU they knew."""

    device: str | torch.device
    device_: torch.device
    learner_: Learner
    optimizer_state_: dict
    adapted_: AdaptedTasks

    def __copy__(self) -> Self:
        """Share what was learned: adapting the copy leaves this object as it is."""
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        return new

    def __getstate__(self) -> dict:
        """Store everything on the CPU, so that it loads where there is no GPU."""
        state = dict(super().__getstate__())
        if "learner_" in state:
            cpu = torch.device("cpu")
            state["learner_"] = copy.deepcopy(self.learner_).to(cpu)
            state["optimizer_state_"] = move_state(self.optimizer_state_, cpu)
            state.pop("device_", None)
            if "adapted_" in state:
                states = [pack_state(part) for part in self.adapted_.states]
                state["adapted_"] = self.adapted_._replace(states=states)
        return state

    def __setstate__(self, state: dict) -> None:
        """Go back to the device, or to the CPU with a warning if it is not there."""
        super().__setstate__(state)
        if "learner_" not in state:
            return
        self.device_ = resolve_device(self.device, must_exist=False)
        self.learner_ = self.learner_.to(self.device_)
        if hasattr(self, "adapted_"):
            states = [move_state(part, self.device_) for part in self.adapted_.states]
            self.adapted_ = self.adapted_._replace(states=states)


class unchanged_on_error:
    """Give an estimator its attributes back if the block fails."""

    def __init__(self, estimator: BaseEstimator) -> None:
        self.estimator = estimator

    def __enter__(self) -> None:
        self.before = dict(vars(self.estimator))

    def __exit__(self, error: type[BaseException] | None, *where: Any) -> None:
        if error is not None:
            vars(self.estimator).clear()
            vars(self.estimator).update(self.before)
