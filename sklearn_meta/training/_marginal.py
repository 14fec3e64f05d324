"""Fitting a few hyper-parameters by the marginal likelihood of whole tasks."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from skorch.history import History
from torch import Tensor, nn

from sklearn_meta.draws import draw_without_replacement
from sklearn_meta.episodes import RowEpisodeSampler
from sklearn_meta.exceptions import DivergenceWarning, warn_user
from sklearn_meta.training._optimizer import PlainAdamW
from sklearn_meta.training._outer_loop import TrainingRecord
from sklearn_meta.training._precision import Precision

__all__ = ["MarginalLikelihood"]

# tasks and rows per task that enter; their covariances are factorised in every step
MAX_TASKS, MAX_ROWS = 150, 24
# a task of fewer rows says little about how its rows vary together
MIN_ROWS = 4
REDRAW_EVERY = 25
# of the logarithm of a variance; that of a standard deviation takes half the step
RATE = 0.06
STANDARD_DEVIATIONS = {"log_constant", "log_linear", "log_smooth", "log_noise"}
# columns that do not help lose their part in the kernel
PENALTY = 1e-3


@dataclass
class MarginalLikelihood:
    """Fit a shallow Gaussian process to all rows of each task at once.

    The tasks are samples of one process, and the hyper-parameters are those under
    which their targets are likeliest (empirical Bayes). There is no split into support
    and query, and nothing to hold out. It runs in place of
    :class:`~sklearn_meta.training.OuterLoop`.

    Parameters
    ----------
    n_steps : int
        Steps of Adam on up to 150 of the tasks and up to 24 rows of each, which are
        drawn anew every 25 steps.

    References
    ----------
    C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning",
    MIT Press, 2006, equations 5.8 and 5.9.
    """

    n_steps: int

    def run(
        self,
        learner: nn.Module,
        sampler: RowEpisodeSampler,
        validation: None,
        generator: torch.Generator,
        optimizer_state: dict | None = None,
        *how: Any,
    ) -> TrainingRecord:
        """Fit the parameters of a `KernelLearner` without networks, in place.

        It takes about a second: there is no checkpoint, and every one of several
        processes takes all of its steps.
        """
        optimizer = _build_optimizer(learner)
        if optimizer_state is not None:
            optimizer.load_state_dict(optimizer_state)
        tasks = _choose_tasks(sampler.sizes, generator)
        losses: list[Tensor] = []
        precision = Precision(learner, sampler.X.device)
        for begin in range(0, self.n_steps, REDRAW_EVERY):
            sound = copy.deepcopy(learner.state_dict())
            batch = _draw_tasks(sampler, tasks, generator)
            with precision.of_loop():
                for _ in range(min(REDRAW_EVERY, self.n_steps - begin)):
                    losses.append(_step(learner, optimizer, *batch))
            if not _is_finite(learner):
                learner.load_state_dict(sound)
                warn_user(
                    f"The marginal likelihood diverged within the first {len(losses)} "
                    "steps; the last sound hyper-parameters are kept. Scale the "
                    "features and the target.",
                    DivergenceWarning,
                )
                break
        curve = torch.stack(losses).tolist()
        state = optimizer.state_dict()
        return TrainingRecord(History(), curve, None, state, interrupted=False)


def _build_optimizer(learner: nn.Module) -> PlainAdamW:
    """Adam whose steps are alike in the logarithm of every variance."""
    groups: dict[float, list[Tensor]] = {}
    for name, parameter in learner.named_parameters():
        rate = RATE / 2 if name in STANDARD_DEVIATIONS else RATE
        groups.setdefault(rate, []).append(parameter)
    return PlainAdamW(
        [{"params": parameters, "lr": rate} for rate, parameters in groups.items()],
        weight_decay=0,
        fused=True,
    )


def _step(
    learner: Any, optimizer: PlainAdamW, X: Tensor, Y: Tensor, mask: Tensor
) -> Tensor:
    """Take one step; return minus the log likelihood, in nats per row."""
    for parameter in learner.parameters():
        parameter.grad = None
    loss = learner.marginal_loss(X, Y, mask)
    spread = (2 * learner.log_linear).exp().sum() / Y.var().clamp_min(1e-12)
    (loss + PENALTY * spread).backward()
    optimizer.clip_and_step(None)
    return loss.detach()


def _choose_tasks(sizes: Tensor, generator: torch.Generator) -> Tensor:
    """Positions of the tasks that enter; small ones only if there are no others."""
    large = (sizes >= sizes.max().clamp_max(MIN_ROWS)).nonzero().squeeze(1)
    return large[torch.randperm(len(large), generator=generator)[:MAX_TASKS]]


def _draw_tasks(
    sampler: RowEpisodeSampler, tasks: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw rows of each task: X, Y and the mask of real rows."""
    sizes = sampler.sizes[tasks]
    most = min(MAX_ROWS, int(sizes.max()))
    draws, mask = draw_without_replacement(sizes, most, generator)
    rows = (sampler.starts[tasks].unsqueeze(1) + draws).to(sampler.X.device)
    return sampler.X[rows], sampler.Y[rows], mask.to(sampler.X.device)


def _is_finite(learner: nn.Module) -> bool:
    """Whether every parameter is."""
    return all(bool(p.isfinite().all()) for p in learner.parameters())
