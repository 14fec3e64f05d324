"""CUDA graphs: a GPU repeats an outer step that it was shown once.

An outer step is hundreds or thousands of small kernels. To start each of them takes the
CPU longer than it takes the GPU to compute it; a graph of them is started as one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sklearn_meta.episodes import EpisodeRows
from sklearn_meta.exceptions import DeviceWarning, warn_user
from sklearn_meta.learners.steady import steady_since
from sklearn_meta.training._optimizer import PlainAdamW
from sklearn_meta.training._processes import Processes
from sklearn_meta.training._stream import EpisodeStream

__all__ = ["CUDA_GRAPHS", "GRAPHS", "StepGraph", "open_graph"]

CUDA_GRAPHS = "cudagraphs"  # as torch calls it among the backends of its compiler

# As torch advises: in the first steps libraries choose kernels and take memory, and the
# optimizer makes its moments.
WARM_UP_STEPS = 3

Step = Callable[[], None]


class Graphs(Protocol):
    """What records the work of a device."""

    def __init__(self, device: torch.device) -> None: ...

    def warm_up(self, step: Step) -> None:
        """Take a step where it can be recorded later."""

    def capture(self, step: Step) -> Step:
        """Record a step without taking it; return what takes it."""


class CUDAGraphs:
    """Graphs of an NVIDIA GPU, on a stream of their own.

    Parameters
    ----------
    device : torch.device
        The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def warm_up(self, step: Step) -> None:
        """Take a step between all that was asked before and all that is asked after."""
        others = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(others)
        with torch.cuda.stream(self._stream):
            step()
        others.wait_stream(self._stream)

    def capture(self, step: Step) -> Step:
        """Record a step without taking it; return what takes it."""
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(self._device),
            torch.cuda.graph(graph, stream=self._stream),
        ):
            step()
        return graph.replay


# by kind of device
GRAPHS: dict[str, type[Graphs]] = {"cuda": CUDAGraphs}


class _Memory(NamedTuple):
    """What the steps of a chunk read and write."""

    rows: EpisodeRows  # (n_steps, n_episodes, n_rows)
    rates: Tensor  # (n_steps,)
    losses: Tensor  # (n_steps,)
    number: Tensor  # (1,), of the next step

    @classmethod
    def like(cls, rows: EpisodeRows) -> "_Memory":
        """Take the memory for as many steps as there are rows of."""
        device, n_steps = rows.support.device, len(rows.support)
        return cls(
            EpisodeRows(*map(torch.empty_like, rows)),
            # the type in which the fused optimizer reads a rate on a GPU
            torch.zeros(n_steps, dtype=torch.float32, device=device),
            torch.zeros(n_steps, dtype=torch.float64, device=device),
            torch.zeros(1, dtype=torch.int64, device=device),
        )

    def fill(self, rows: EpisodeRows, rates: list[float]) -> None:
        """Put rows and rates in, at most as many as there is room for."""
        for place, part in zip(self.rows, rows, strict=True):
            place[: len(part)] = part
        self.rates[: len(rates)] = torch.tensor(rates)
        self.number.zero_()

    def read(self) -> tuple[EpisodeRows, Tensor]:
        """Return the rows and the rate of the next step."""
        rows = (part.index_select(0, self.number)[0] for part in self.rows)
        return EpisodeRows(*rows), self.rates.index_select(0, self.number)[0]

    def write(self, loss: Tensor) -> None:
        """Keep the loss of a step, which is over."""
        self.losses.index_copy_(0, self.number, loss.to(self.losses).unsqueeze(0))
        self.number.add_(1)


class StepGraph:
    """Outer steps of which a device repeats all but the first.

    What is repeated reads and writes the same memory. So all that changes from step to
    step lies there: rows and rates of a chunk of steps, their losses, and the number of
    the step in its chunk, which the step itself counts.

    Parameters
    ----------
    step : callable
        ``step(rows, rate)`` takes an outer step on the episodes of some rows, and
        returns its loss. The rate is a tensor of shape ().
    meta_batch_size : int
        Episodes in a step.
    graphs : Graphs
        What records it.
    steady_since : float
        Share of the outer steps, in [0, 1], from which on one stands for the others.
    """

    _parameters: list[Tensor]
    _memory: _Memory
    _n_warm: int
    _replay: Step | None

    def __init__(
        self,
        step: Callable[[EpisodeRows, Tensor], Tensor],
        meta_batch_size: int,
        graphs: Graphs,
        steady_since: float,
    ) -> None:
        self._step, self._size = step, meta_batch_size
        self._graphs, self._steady_since = graphs, steady_since
        self._parameters = []

    def open_chunk(
        self, rows: EpisodeRows, rates: list[float], parameters: list[Tensor]
    ) -> None:
        """Put the rows and rates of the next steps where a step reads them.

        Parameters
        ----------
        rows : EpisodeRows
            Those of all steps; no chunk has more than the first.
        rates : list of float
            The rate of each step.
        parameters : list of Tensor
            What learns. If a callback froze some of them, a step is recorded anew.
        """
        by_step = EpisodeRows(*(part.unflatten(0, (-1, self._size)) for part in rows))
        if list(map(id, parameters)) != list(map(id, self._parameters)):
            self._parameters, self._memory = parameters, _Memory.like(by_step)
            self._n_warm, self._replay = 0, None
        self._memory.fill(by_step, rates)

    def take_step(self, number: int, progress: float) -> Tensor:
        """Take the next step of the chunk.

        Parameters
        ----------
        number : int
            Its number in the chunk.
        progress : float
            Share of the outer steps that are done.

        Returns
        -------
        Tensor of shape ()
            Its loss; the memory is used again in the next chunk.
        """
        is_warm = self._n_warm >= WARM_UP_STEPS and progress >= self._steady_since
        if self._replay is None and is_warm:
            self._replay = self._capture()
        if self._replay is None:
            self._graphs.warm_up(self._take)
            self._n_warm += 1
        else:
            self._replay()
        return self._memory.losses[number]

    def _capture(self) -> Step:
        """Record a step; return what takes one, as before where that fails."""
        try:
            return self._graphs.capture(self._take)
        except RuntimeError as error:
            _warn(f"a step cannot be recorded: {str(error).strip().splitlines()[0]}")
            return partial(self._graphs.warm_up, self._take)

    def _take(self) -> None:
        """Take the step whose number is in the memory: what is recorded."""
        self._memory.write(self._step(*self._memory.read()))


def open_graph(
    step: Callable[[EpisodeRows, Tensor], Tensor],
    learner: nn.Module,
    optimizer: Any,
    stream: EpisodeStream,
    processes: Processes | None,
) -> StepGraph | None:
    """Return the graph of a fit's steps; None, with a warning, if there can be none.

    Parameters
    ----------
    step : callable
        As of :class:`StepGraph`.
    learner : nn.Module
        What learns.
    optimizer : class
        The outer optimizer.
    stream : EpisodeStream
        The episodes of the fit.
    processes : Processes or None
        The processes that share the fit.

    Returns
    -------
    StepGraph or None
        The graph, of which nothing is recorded yet.
    """
    device, since = stream.sampler.X.device, steady_since(learner)
    if device.type not in GRAPHS:
        obstacle = f"it needs an NVIDIA GPU, and the device is {device.type!r}"
    elif processes is not None:
        obstacle = "several processes talk to each other in every step"
    elif stream.refill is not None:
        obstacle = "the tasks of a collection larger than memory do not stay in place"
    elif optimizer is not PlainAdamW:
        obstacle = (
            f"{optimizer.__name__} may count its steps in Python. Leave optimizer at "
            "its default, with no other options than weight_decay, betas and eps"
        )
    elif since is None:
        obstacle = (
            f"the training_loss of {type(learner).__name__} may differ from step to "
            "step. Mark it with sklearn_meta.learners.steady.steady_from if not"
        )
    else:
        graphs = GRAPHS[device.type](device)
        return StepGraph(step, stream.meta_batch_size, graphs, since)
    _warn(obstacle)
    return None


def _warn(reason: str) -> None:
    """Say that the steps of a fit are taken one by one."""
    warn_user(
        f"compile={CUDA_GRAPHS!r} is not used, and the fit goes on without: {reason}.",
        DeviceWarning,
    )
