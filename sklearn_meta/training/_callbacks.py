"""Watching over the outer loop: finite numbers, best weights, a progress bar."""

import math
from typing import Any

import torch
from skorch.callbacks import Callback
from torch import Tensor
from tqdm.auto import tqdm

from sklearn_meta.exceptions import DivergenceWarning, warn_user


class KeepFinite(Callback):
    """Stop at the first chunk that leaves the finite numbers, on sound weights."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Start from the weights as they are."""
        self.weights_ = self.sound_weights_ = _copy(net.module_.state_dict())

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Check the loss and the weights of the chunk."""
        # weights are sound once a step from them had a finite loss: the ones that
        # overflow it may still be finite themselves
        if bool(net.losses[-1][0].isfinite()):
            self.sound_weights_ = self.weights_
        weights = net.module_.state_dict()
        finite = _all_finite(weights)
        if finite and math.isfinite(net.history[-1, "train_loss"]):
            self.weights_ = _copy(weights)
            return
        net.module_.load_state_dict(self.sound_weights_)
        warn_user(
            f"The outer loop diverged within the first {net.n_steps} steps; the last "
            "sound weights are kept. Lower lr or inner_lr, or scale the features "
            "and the target.",
            DivergenceWarning,
        )
        net.stop("divergence")

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Give sound weights back if an interruption came before the check."""
        if not _all_finite(net.module_.state_dict()):
            net.module_.load_state_dict(self.sound_weights_)


class KeepBest(Callback):
    """Keep the weights with the least loss on held-out tasks; stop without gain.

    Parameters
    ----------
    patience : int
        Evaluations without gain before stopping.
    first_epoch : int
        No stop before this evaluation.
    """

    best_weights_: dict[str, Tensor] | None

    def __init__(self, patience: int, first_epoch: int) -> None:
        self.patience = patience
        self.first_epoch = first_epoch

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Forget an earlier run."""
        self.best_loss_, self.best_weights_, self.misses_ = math.inf, None, 0

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Compare the loss on the held-out tasks with the best so far."""
        loss = float(net.history[-1, "valid_loss"])
        if loss < self.best_loss_:
            self.best_loss_, self.misses_ = loss, 0
            self.best_weights_ = _copy(net.module_.state_dict())
            return
        self.misses_ += 1
        if self.misses_ >= self.patience and len(net.history) >= self.first_epoch:
            net.stop("no gain on the held-out tasks")

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Go back to the best weights, after an interruption too."""
        if self.best_weights_ is not None:
            net.module_.load_state_dict(self.best_weights_)


class Progress(Callback):
    """A bar with outer steps, time left, loss and score on the held-out tasks."""

    def __init__(self, max_iter: int) -> None:
        self.max_iter = max_iter

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = tqdm(
            total=self.max_iter,
            initial=net.n_steps,
            unit="step",
            desc="meta-training",
        )

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Move the bar to the steps taken."""
        last = net.history[-1]
        shown = {}
        if "train_loss" in last:  # not if the stretch was interrupted
            shown["loss"] = f"{last['train_loss']:.4f}"
        if "valid_loss" in last:
            shown["validation score"] = f"{-last['valid_loss']:.4f}"
        self.bar_.set_postfix(shown, refresh=False)
        self.bar_.update(net.n_steps - self.bar_.n)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Close the bar, whatever ended the run."""
        if len(net.history):  # the stretch that ended the run was not shown
            self.on_epoch_end(net)
        self.bar_.close()


def _all_finite(weights: dict[str, Tensor]) -> bool:
    """Return whether no weight is infinite or NaN, by one read from the device."""
    flat = torch.cat([weight.flatten() for weight in weights.values()])
    return bool(flat.isfinite().all())


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy weights, so that later steps do not change them."""
    return {name: value.clone() for name, value in weights.items()}
