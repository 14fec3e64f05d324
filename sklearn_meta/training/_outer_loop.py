"""The outer loop on a skorch ``NeuralNet``.

One skorch "batch" is a chunk of many outer steps, so that skorch's work for a batch
(history, callbacks, one number read from the device) is paid once per chunk while its
callbacks and history stay usable.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from skorch import NeuralNet
from skorch.helper import predefined_split
from torch import Tensor, nn

from sklearn_meta.episodes import EpisodeRows, Episodes
from sklearn_meta.learners.outer_step import backward
from sklearn_meta.training._callbacks import KeepBest, KeepFinite, Progress
from sklearn_meta.training._checkpoint import CheckpointFile
from sklearn_meta.training._compile import Compiled
from sklearn_meta.training._episode_loss import EpisodeLoss
from sklearn_meta.training._graphs import CUDA_GRAPHS, StepGraph, open_graph
from sklearn_meta.training._optimizer import OWN_OPTIONS, PlainAdamW, clip_gradient
from sklearn_meta.training._precision import Precision
from sklearn_meta.training._processes import Processes
from sklearn_meta.training._resume import Resume
from sklearn_meta.training._stream import (
    Chunks,
    EpisodeSampler,
    EpisodeStream,
    ValidationEpisodes,
)

VALIDATION_BATCH = 64
# episodes of several outer steps are looked up at once, while they stay in the cache
LOOK_UP_BYTES = 2**21
# before this share of the steps a rate that still rises or is high says little
PATIENCE_FROM = 0.4
WARM_UP = 0.1


@dataclass
class TrainingRecord:
    """What a run of the outer loop left behind."""

    history: Any
    loss_curve: list[float]
    validation_scores: list[float] | None
    optimizer_state: dict
    interrupted: bool


@dataclass
class OuterLoop:
    """Settings of the outer loop.

    Parameters
    ----------
    criterion : callable
        Maps a prediction and the query targets to a loss per query row, of shape
        (n_tasks, n_query).
    max_iter : int
        Outer steps.
    meta_batch_size : int
        Episodes in an outer step.
    lr : float
        Largest rate of the outer optimizer.
    lr_schedule : {"one_cycle", "constant"}
        "one_cycle" rises over the first tenth and falls to zero along a cosine.
    optimizer : class or None
        A ``torch.optim.Optimizer``; None is AdamW with weight decay 1e-3.
    optimizer_params : dict
        Its keyword arguments besides ``lr``.
    max_grad_norm : float or None
        The norm to which the outer gradient is clipped.
    n_iter_no_change : int
        Evaluations on the held-out tasks without gain before stopping.
    callbacks : list
        skorch callbacks of the user.
    verbose : int
        Whether a progress bar is shown.
    compile : bool or "cudagraphs"
        Whether the forward pass of a learner without a ``training_loss`` is compiled,
        or a GPU repeats whole steps.

    Notes
    -----
    The loss is the mean over each task's own query rows, then over tasks, unless the
    learner has a ``training_loss`` of its own.
    """

    criterion: Callable[[Any, Tensor], Tensor]
    max_iter: int
    meta_batch_size: int
    lr: float
    lr_schedule: str = "one_cycle"
    optimizer: Any = None
    optimizer_params: dict = field(default_factory=dict)
    max_grad_norm: float | None = 2.0
    n_iter_no_change: int = 5
    callbacks: list = field(default_factory=list)
    verbose: int = 0
    compile: bool | str = False

    def run(
        self,
        learner: nn.Module,
        sampler: EpisodeSampler,
        validation: ValidationEpisodes | None,
        generator: torch.Generator,
        optimizer_state: dict | None = None,
        checkpoint: CheckpointFile | None = None,
        processes: Processes | None = None,
        refill: Callable[[int], EpisodeSampler] | None = None,
    ) -> TrainingRecord:
        """Train a learner in place; with validation it ends with its best weights."""
        stream = EpisodeStream(
            sampler, self.max_iter, self.meta_batch_size, generator, refill
        )
        net = self._build_net(learner, stream, validation, checkpoint, processes)
        net.initialize()
        if optimizer_state is not None:
            net.optimizer_.load_state_dict(optimizer_state)
        with net.loss_of.precision.of_loop():
            net.partial_fit(stream)
        # net and graph hold each other, and the graph memory of the GPU
        net.graph = None
        scores = (
            None
            if validation is None
            else [-row["valid_loss"] for row in net.history if "valid_loss" in row]
        )
        return TrainingRecord(
            net.history,
            torch.cat(net.losses).tolist() if net.losses else [],
            scores,
            net.optimizer_.state_dict(),
            net.is_interrupted,
        )

    def _build_net(
        self,
        learner: nn.Module,
        stream: EpisodeStream,
        validation: ValidationEpisodes | None,
        checkpoint: CheckpointFile | None = None,
        processes: Processes | None = None,
    ) -> "_ChunkNet":
        """Put learner, optimizer and callbacks into a skorch net."""
        optimizer, params = self.optimizer, dict(self.optimizer_params)
        if optimizer is None:
            is_own = params.keys() <= OWN_OPTIONS
            optimizer = PlainAdamW if is_own else torch.optim.AdamW
            params = {"weight_decay": 1e-3, "fused": True} | params
        own: list = [("keep_finite", KeepFinite())]
        if validation is not None:
            first = math.ceil(PATIENCE_FROM * stream.n_chunks)
            own.append(("keep_best", KeepBest(self.n_iter_no_change, first)))
        if checkpoint is not None:
            watched = [callback for _, callback in own]
            own.append(("resume", Resume(checkpoint, stream, watched)))
        if self.verbose and (processes is None or processes.is_main):
            own.append(("progress", Progress(self.max_iter)))
        net = _ChunkNet(
            learner,
            criterion=nn.Identity,
            optimizer=optimizer,
            lr=self.lr,
            max_epochs=stream.n_chunks,
            train_split=None if validation is None else predefined_split(validation),
            iterator_train=Chunks,
            iterator_valid=Chunks,
            callbacks=own + list(self.callbacks),
            callbacks__print_log=None,
            verbose=0,
            device=None,
            **{f"optimizer__{name}": value for name, value in params.items()},
        )
        precision = Precision(learner, stream.sampler.X.device)
        forward = Compiled(learner) if self.compile is True else learner
        net.attach(
            self, processes, EpisodeLoss(learner, forward, self.criterion, precision)
        )
        if self.compile == CUDA_GRAPHS:
            step = net.step_from_memory
            net.graph = open_graph(step, learner, optimizer, stream, processes)
        return net

    def rate(self, step: int) -> float:
        """Return the rate of an outer step, counted from 0."""
        if self.lr_schedule == "constant":
            return self.lr
        progress = (step + 0.5) / self.max_iter
        if progress < WARM_UP:
            return self.lr * progress / WARM_UP
        return (
            self.lr
            * 0.5
            * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))
        )


class _ChunkNet(NeuralNet):
    """A skorch net whose batch is a chunk of outer steps."""

    def attach(
        self,
        loop: OuterLoop,
        processes: Processes | None,
        loss_of: EpisodeLoss,
    ) -> None:
        """Set what a run needs and skorch has no parameter for."""
        self.loop, self.processes, self.loss_of = loop, processes, loss_of
        self.graph: StepGraph | None = None
        self.losses: list[Tensor] = []
        self.n_steps = 0
        self.stopped_by: str | None = None

    @property
    def progress(self) -> float:
        """Share of the outer steps that are done."""
        return self.n_steps / self.loop.max_iter

    @property
    def is_interrupted(self) -> bool:
        """Whether a run that is over was ended from outside."""
        return self.n_steps < self.loop.max_iter and self.stopped_by is None

    def stop(self, reason: str) -> None:
        """End the run after this chunk, in skorch's own way."""
        self.stopped_by = reason
        raise KeyboardInterrupt

    def get_split_datasets(self, X: Any, y: Any = None, **params: Any) -> tuple:
        """Remember the datasets; the steps gather from their samplers."""
        self.datasets = super().get_split_datasets(X, y, **params)
        return self.datasets

    def train_step(self, batch: EpisodeRows, **fit_params: Any) -> dict:
        """Take the outer steps of a chunk; the loss is read once, at its end."""
        self.module_.train()
        # one that a callback has frozen must not follow its last gradient
        self.module_.zero_grad()
        # looked up once a chunk: walking through a module costs as much as some layers
        self.parameters_ = [p for p in self.module_.parameters() if p.requires_grad]
        losses = []
        try:
            for loss in self._losses_of(batch):
                losses.append(loss)
                self.n_steps += 1
        finally:
            # a chunk that is interrupted counts as far as it came
            if losses:
                self.losses.append(torch.stack(losses).cpu())
        return {"loss": self.losses[-1].mean(), "y_pred": None}

    def _losses_of(self, batch: EpisodeRows) -> Iterator[Tensor]:
        """Take the outer steps of a chunk, each when its loss is asked for."""
        if self.graph is not None:
            yield from self._repeated_losses(self.graph, batch)
            return
        for episodes, weight in self._shared_episodes(batch):
            self._set_rate(self.loop.rate(self.n_steps))
            yield self._outer_step(episodes, weight)

    def _repeated_losses(
        self, graph: StepGraph, batch: EpisodeRows
    ) -> Iterator[Tensor]:
        """Take the same steps, of which a device repeats all but the first."""
        n_steps = len(batch.support) // self.loop.meta_batch_size
        rates = [self.loop.rate(self.n_steps + i) for i in range(n_steps)]
        graph.open_chunk(batch, rates, self.parameters_)
        for number, rate in enumerate(rates):
            self._set_rate(rate)
            yield graph.take_step(number, self.progress)

    def step_from_memory(self, rows: EpisodeRows, rate: Tensor) -> Tensor:
        """Take one step whose episodes and rate are in the memory of the device."""
        self._set_rate(rate)
        try:
            return self._outer_step(self.datasets[0].sampler.gather(rows), None)
        finally:
            # what the optimizer's state tells is a number
            self._set_rate(self.loop.rate(self.n_steps))

    def _shared_episodes(
        self, batch: EpisodeRows
    ) -> Iterator[tuple[Episodes, Tensor | None]]:
        """Yield the episodes of each step that are this process's, and their weight."""
        sampler, size = self.datasets[0].sampler, self.loop.meta_batch_size
        if self.processes is not None:
            for rows in batch.split(size):
                own, weight = self.processes.share(rows)
                yield sampler.gather(own), weight
            return
        n_rows = size * (batch.support.shape[1] + batch.query.shape[1])
        n_bytes = n_rows * sampler.X.shape[1] * sampler.X.element_size()
        for rows in batch.split(size * max(1, LOOK_UP_BYTES // n_bytes)):
            for episodes in sampler.gather(rows).split(size):
                yield episodes, None

    def _set_rate(self, rate: float | Tensor) -> None:
        """Tell the optimizer the rate of the next step."""
        for group in self.optimizer_.param_groups:
            group["lr"] = rate

    def _outer_step(self, episodes: Episodes, weight: Tensor | None) -> Tensor:
        """Take one step of the outer optimizer and return its loss."""
        for parameter in self.parameters_:
            parameter.grad = None
        loss = self.loss_of(episodes, self.progress)
        if weight is not None:
            loss = loss * weight
        backward(loss)
        loss = loss.detach()
        if self.processes is not None:
            loss = self.processes.sum_step(loss, self.parameters_)
        if isinstance(self.optimizer_, PlainAdamW):
            self.optimizer_.clip_and_step(self.loop.max_grad_norm)
        else:
            if self.loop.max_grad_norm is not None:
                clip_gradient(self.parameters_, self.loop.max_grad_norm)
            self.optimizer_.step()
        return loss

    def validation_step(self, batch: EpisodeRows, **fit_params: Any) -> dict:
        """Return the loss on the held-out tasks."""
        self.module_.eval()
        with torch.no_grad():
            parts = map(self._validation_loss, batch.split(VALIDATION_BATCH))
            total = reduce(torch.add, parts)
        if self.processes is not None:
            total = self.processes.sum(total)
        return {"loss": total / len(batch.support), "y_pred": None}

    def _validation_loss(self, rows: EpisodeRows) -> Tensor:
        """Sum of the losses of held-out episodes, or what this process adds to it."""
        own, weight = rows, None
        if self.processes is not None:
            own, weight = self.processes.share(rows)
        episodes = self.datasets[1].sampler.gather(own)
        loss = self.loss_of(episodes, self.progress)
        return (loss if weight is None else loss * weight) * len(rows.support)
