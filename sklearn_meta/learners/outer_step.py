"""Loss and gradient of an outer step of MAML by formulas, part of the tasks by part.

Parts bound the memory, and tasks of similar size share one, so that little padding is
computed with. Autograd sees a single number whose gradient is known beforehand.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from sklearn_meta.functional import (
    InnerLoss,
    bounded_std,
    categorical_nll,
    cross_entropy_loss,
    last_columns,
    squared_error_loss,
    squared_error_with_noise,
    zero_padding,
)
from sklearn_meta.functional.at_hand import is_at_hand, is_whole
from sklearn_meta.functional.compiled import compiled_outer_loss
from sklearn_meta.functional.formulas import Formulas
from sklearn_meta.functional.inner_loop import Rates
from sklearn_meta.functional.perceptron import Chain
from sklearn_meta.functional.recursion import learned_rates

Parameters = dict[str, Tensor]

# what the tapes of a part may take: more leaves the cache, and memory is bounded
PART_BYTES = 12 * 2**20
# ragged tasks go through in so many groups of similar size
N_GROUPS = 3
SMALLEST_GROUP = 4

KNOWN_CRITERIA = {
    "gaussian": squared_error_with_noise,
    "categorical": categorical_nll,
}


class Rows(NamedTuple):
    """Support or query rows of many tasks."""

    X: Tensor  # (n_tasks, n_rows, n_features)
    Y: Tensor  # (n_tasks, n_rows, n_outputs)
    mask: Tensor  # (n_tasks, n_rows), True for a real row

    def is_whole(self) -> bool:
        """Whether it is known that there is no padding."""
        return is_whole(self.mask)

    def without_padding(self) -> "Rows":
        """The same rows with zeros for padding."""
        X, Y = (zero_padding(values, self.mask) for values in (self.X, self.Y))
        return Rows(X, Y, self.mask)


class InnerLoop(NamedTuple):
    """Where the tasks start and how they adapt."""

    chain: Chain
    start: Parameters
    lr: Rates
    n_steps: int
    second_order: bool
    formulas: Formulas
    present: Tensor | None = None  # (n_tasks, n_classes), True where a task has a class


class Noise(NamedTuple):
    """The spread of a task's predictions, a function of the size of its support."""

    intercept: Tensor
    slope: Tensor
    floor: float


class _Part(NamedTuple):
    """Tasks that go through at once, and their most support and query rows."""

    tasks: slice
    n_support: int
    n_query: int


def loss_by_formulas(
    loop: InnerLoop,
    support: Rows,
    query: Rows,
    noise: Noise | None = None,
    n_offsets: int = 0,
) -> Tensor:
    """Mean of the query losses over each task's own rows, then over tasks.

    Parameters
    ----------
    loop : InnerLoop
        Start and steps; its tensors get the gradients.
    support, query : Rows
        Episodes of all tasks.
    noise : Noise, default=None
        For a squared error with noise; None for classes.
    n_offsets : int, default=0
        How many of the last features are offsets of the logits.

    Returns
    -------
    Tensor of shape ()
        The loss. Autograd knows its first derivatives.
    """
    compute = _in_one_call if loop.formulas.by_task else _in_parts
    with torch.no_grad():
        losses, gradients = compute(loop, support, query, noise, n_offsets)
        value = losses.sum()
    inputs = [*loop.start.values(), *learned_rates(loop.lr).values()]
    inputs += [] if noise is None else noise[:2]
    loss: Tensor = _KnownGradient.apply(value, gradients, *inputs)
    return loss


def _in_one_call(
    loop: InnerLoop, support: Rows, query: Rows, noise: Noise | None, n_offsets: int
) -> tuple[Tensor, list[Tensor]]:
    """What the tasks add to the loss, and its gradients; in C, task by task."""
    losses, of_start, of_rates, of_noise = compiled_outer_loss(
        loop.chain,
        loop.start,
        support,
        query,
        loop.lr,
        loop.n_steps,
        second_order=loop.second_order,
        noise=noise,
        n_offsets=n_offsets,
        present=loop.present,
    )
    gradients = [of_start[name] for name in loop.start]
    return losses, [*gradients, *of_rates.values(), *of_noise]


def _in_parts(
    loop: InnerLoop, support: Rows, query: Rows, noise: Noise | None, n_offsets: int
) -> tuple[Tensor, list[Tensor]]:
    """What the tasks add to the loss, and its gradients; in torch, part by part."""
    whole, query_whole = support.is_whole(), query.is_whole()
    order, parts = _plan_parts(loop, support.mask, query.mask, whole)
    support = _in_order(support, order, whole)
    query = _in_order(query, order, query_whole)
    inner = _known_loss(support, noise, n_offsets, whole)
    outer = _known_loss(query, noise, n_offsets, query_whole)
    outer = outer.times(_share(query.mask, query.Y, query_whole))
    losses, gradients = _add_up(loop, support.X, inner, query.X, outer, parts)
    if noise is not None:
        added, of_noise = _noise_term(noise, losses, support.mask, query.mask)
        losses, gradients = losses + added, gradients + of_noise
    return losses, gradients


def backward(loss: Tensor) -> None:
    """Write gradients as ``loss.backward()`` does, at once where they are known."""
    known = getattr(loss.grad_fn, "known", None)
    if known is None:
        loss.backward()
        return
    for parameter, gradient in known:
        # Products may come transposed, which optimizers do not expect.
        gradient = gradient.contiguous()
        old = parameter.grad
        parameter.grad = gradient if old is None else old + gradient


def is_known(criterion: Callable[..., Any], likelihood: str) -> bool:
    """Whether the formulas are those of a criterion, for a likelihood."""
    return criterion is KNOWN_CRITERIA[likelihood]


def _known_loss(
    rows: Rows, noise: Noise | None, n_offsets: int, is_whole: bool
) -> InnerLoss:
    """Loss of the rows of every task."""
    if is_whole:  # the same weights, of which most need no arithmetic
        rows = rows._replace(mask=rows.mask[:1])
    if noise is not None:
        loss = squared_error_loss(rows.Y, rows.mask)
    else:
        offset = last_columns(rows.X, n_offsets)
        loss = cross_entropy_loss(rows.Y, rows.mask, offset=offset)
    return loss._replace(weight=loss.weight.expand(*rows.Y.shape[:2], 1))


def _share(mask: Tensor, like: Tensor, is_whole: bool) -> Tensor | float:
    """One over the number of tasks that have any row."""
    if is_whole:
        return 1 / len(mask)
    # in the type of the rows, which an integer would take down to float32
    return 1 / mask.any(1).sum().clamp_min(1).to(like)


def _add_up(
    loop: InnerLoop,
    X: Tensor,
    loss: InnerLoss,
    X_query: Tensor,
    query_loss: InnerLoss,
    parts: list[_Part],
) -> tuple[Tensor, list[Tensor]]:
    """Query losses (n_tasks,) and the gradients of their sum, part by part."""
    losses: list[Tensor] = []
    total: list[Tensor] = []
    for part in parts:
        own_query_loss = query_loss.part(part.tasks, part.n_query)
        found = loop.formulas.outer_gradient(
            loop.chain,
            loop.start,
            X[part.tasks, : part.n_support],
            loss.part(part.tasks, part.n_support),
            loop.lr,
            loop.n_steps,
            X_query[part.tasks, : part.n_query],
            own_query_loss,
            second_order=loop.second_order,
        )
        losses.append(found.losses)
        own = [found.of_start[name] for name in loop.start]
        own += [found.of_rates[name] for name in learned_rates(loop.lr)]
        if total:
            torch._foreach_add_(total, own)
        total = total or own
    return torch.cat(losses), total


def _noise_term(
    noise: Noise, losses: Tensor, support_mask: Tensor, query_mask: Tensor
) -> tuple[Tensor, list[Tensor]]:
    r"""Likelihood of the residuals, as of `squared_error_with_noise`, and its gradient.

    With a task's mean squared residual m and :math:`\sigma = c + \log(1 + e^s)`, the
    term is :math:`\log\sigma + m / (2 \sigma^2)` up to a constant. Its derivative by s
    is :math:`(1 / \sigma - m / \sigma^3)\, \mathrm{sigmoid}(s)`.
    """
    log_count = torch.log1p(support_mask.sum(1).to(losses))
    raw = noise.intercept + noise.slope * log_count
    std = bounded_std(raw, noise.floor)
    scored = query_mask.any(1).to(losses)
    share = scored / scored.sum().clamp_min(1)
    # the losses have their share in them already
    scaled = losses / std.square()
    constant = 0.5 * math.log(2 * math.pi)
    value = share * (std.log() + constant) + 0.5 * scaled
    slope = (share - scaled) / std * raw.sigmoid()
    return value, [slope.sum(), (slope * log_count).sum()]


class _KnownGradient(Function):
    """A number whose derivatives by the inputs were computed with it."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, gradients: list[Tensor], *inputs: Tensor
    ) -> Tensor:
        """Return the number and keep its gradient."""
        ctx.gradients = gradients
        # what was computed from parameters, as a task's own head, takes a walk
        if all(value.is_leaf for value in inputs):
            ctx.known = list(zip(inputs, gradients, strict=True))
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        """Hand the gradient out."""
        return None, None, *torch._foreach_mul(ctx.gradients, factor)


def _plan_parts(
    loop: InnerLoop, support_mask: Tensor, query_mask: Tensor, is_whole: bool
) -> tuple[Tensor | None, list[_Part]]:
    """The order of the tasks by size, if it matters, and the parts to take them in."""
    n_tasks, n_support = support_mask.shape
    n_query = query_mask.shape[1]
    if is_whole or not is_at_hand(support_mask):
        room = _tasks_in_part(loop, n_support, n_query, support_mask)
        bounds = _cut(0, n_tasks, room)
        return None, [_Part(tasks, n_support, n_query) for tasks in bounds]
    widths = _widths(support_mask)
    order = widths.argsort()
    sizes, query_sizes = widths[order].tolist(), _widths(query_mask)[order].tolist()
    n_groups = max(1, min(N_GROUPS, n_tasks // SMALLEST_GROUP))
    parts = []
    for group in range(n_groups):
        begin = group * n_tasks // n_groups
        end = (group + 1) * n_tasks // n_groups
        most = max(sizes[end - 1], 1), max(*query_sizes[begin:end], 1)
        room = _tasks_in_part(loop, *most, support_mask)
        parts += [_Part(tasks, *most) for tasks in _cut(begin, end, room)]
    return order, parts


def _widths(mask: Tensor) -> Tensor:
    """Rows up to the last real one of every task, (n_tasks,)."""
    return (mask * torch.arange(1, mask.shape[1] + 1)).amax(1)


def _tasks_in_part(loop: InnerLoop, n_support: int, n_query: int, like: Tensor) -> int:
    """How many tasks keep the tapes of a part within bounds."""
    weights = [loop.start[f"{name}.weight"] for name, _ in loop.chain]
    units = sum(len(weight) for weight in weights)
    n_tapes = loop.n_steps if loop.second_order else 1
    # of a layer a tape keeps its weight, and of a row what goes in and out, the slope
    # and delta
    numbers = n_tapes * (sum(w.numel() for w in weights) + 4 * n_support * units)
    numbers += 4 * n_query * units
    return max(1, PART_BYTES // (numbers * weights[0].element_size()))


def _cut(begin: int, end: int, most: int) -> Iterator[slice]:
    """Even slices of at most so many."""
    n_parts = -(-(end - begin) // most)
    for i in range(n_parts):
        first, last = (begin + (end - begin) * k // n_parts for k in (i, i + 1))
        yield slice(first, last)


def _in_order(rows: Rows, order: Tensor | None, is_whole: bool) -> Rows:
    """The tasks in an order, with zeros for padding; as they are if there is none."""
    if order is not None:
        rows = Rows(*(part.index_select(0, order) for part in rows))
    return rows if is_whole else rows.without_padding()
