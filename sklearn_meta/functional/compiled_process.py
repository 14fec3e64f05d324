r"""Losses of a Gaussian process in C, one task after another, with their gradients.

The target of a row is a mean, plus a function drawn for each task, plus noise. With
linear features A (one row per row of data) and coordinates U, the covariances of the
function are :math:`K = A A' + S`, :math:`S_{ij} = s^2 \exp(-\tfrac12 |u_i - u_j|^2)`.
Of a row x the features are a constant, scaled columns and learned features,
:math:`[c, x \cdot b, \beta z]`, and the coordinates :math:`[x \cdot l, \gamma u]`.

**Solution.** Let s be the support and q the query rows of a task, D the variances of
the noise and r the residuals of the support. With :math:`C = K_{ss} + D_s`,
:math:`M = \mathrm{chol}(C)^{-1}`, :math:`v = M r`, :math:`a = M' v`,
:math:`W = K_{qs} M'` and :math:`O = W M` the function has at the query rows the mean
:math:`W v` and the variance :math:`K_{qq} - \mathrm{diag}(W W')`. A query row of weight
w whose target misses its mean by e, and has the variance V with noise, adds

.. math:: \tfrac{w}{2} (\log V + e^2 / V + \log 2 \pi), \qquad
    g = -w e / V, \qquad h = \tfrac{w}{2} (1 / V - e^2 / V^2),

to the loss, its derivative by the mean and its derivative by the variance.

**Levels of noise.** The noise of a task has one of several levels, which multiplies its
variances by :math:`L_j` and has a weight :math:`\pi_j` beforehand. The support gives it
the weight :math:`p_j \propto \pi_j N(r; 0, K_{ss} + L_j D_s)`, and a query row adds
minus the logarithm of :math:`\sum_j p_j N(e_j; 0, V_j)`. With the share :math:`\rho_j`
of a level in that sum, its g and h are those above times :math:`\rho_j`, and the
derivative by :math:`\log p_j` before the weights are normalised is
:math:`w (p_j - \rho_j)`, summed over the query rows.

Of a whole task, whose rows are all support, minus the log marginal likelihood is
:math:`\tfrac12 v'v - \sum_i \log M_{ii} + \tfrac{m}{2} \log 2 \pi`. Its gradients are
:math:`\tfrac12 (M'M - a a')` by C and K, and :math:`-a` by the prior means.

**Gradient.** From :math:`d C^{-1} = -C^{-1}\, dC\, C^{-1}`, the gradients are
:math:`-O' g` by the residuals' prior means, :math:`g a' - 2\, \mathrm{diag}(h) O` by
:math:`K_{qs}` and :math:`O' \mathrm{diag}(h) O - (O' g) a'` by C, whose diagonal is
that by :math:`D_s`. By the prior variances of query rows, and by their noise, it is h.
With G the gradient by K of all rows with those of the support, that by A is
:math:`G A_s`, and for the support :math:`G' A` more; by a coordinate :math:`u_i` it is
:math:`\sum_j (G \cdot S)_{ij} (u_j - u_i)`, and the same by columns for the support.
"""

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from sklearn_meta.functional.compiled_call import is_served
from sklearn_meta.functional.compiled_library import Process, load_library

MOST_SUPPORT_ROWS = 128


class Features(NamedTuple):
    """What the kernel, the mean and the noise of rows are computed from.

    Learned features are None where there are none.
    """

    linear: Tensor | None  # (n_rows, n_linear)
    smooth: Tensor | None  # (n_rows, n_smooth)
    mean: Tensor  # (n_rows,)
    noise: Tensor  # (n_rows,), variances


class Scales(NamedTuple):
    """The logarithms of the scales of a kernel."""

    constant: Tensor  # ()
    linear: Tensor  # (n_columns,)
    length: Tensor  # (n_columns,)
    smooth: Tensor  # ()


class Levels(NamedTuple):
    """Levels of the noise of a task, (n_levels,) each; None for a single one."""

    log_level: Tensor | None = None  # of what the variance is multiplied by
    logit: Tensor | None = None  # how likely they are, up to a constant


ONE_LEVEL = Levels()


class Limits(NamedTuple):
    """Numbers that are not learned: scales of learned features, smallest variance."""

    linear_scale: float
    smooth_scale: float
    least_variance: float


def run_process(function: str, problem: Process) -> None:
    """Call a function of the library.

    Parameters
    ----------
    function : {"likelihood", "solve_support"}
        Its name.
    problem : Process
        Tasks, and where the results go.

    Raises
    ------
    MemoryError
        If a task does not fit.
    """
    library = load_library()
    if library is None:
        raise RuntimeError(
            "expected the compiled engine; it is not there. Ask `has_process`."
        )
    problem.instructions = library.widest_instructions()
    if getattr(library, function)(ctypes.byref(problem)):
        raise MemoryError(
            f"expected room for a task of {problem.n_rows} rows; got none."
        )


def has_process(support: Tensor) -> bool:
    """Whether the library takes tasks like these.

    Parameters
    ----------
    support : Tensor of shape (n_tasks, n_support, n_columns)
        Support rows.

    Returns
    -------
    bool
        True for float32 and float64 on the CPU, and supports that are not large:
        factors of those are LAPACK's trade.
    """
    return is_served(support) and support.shape[1] <= MOST_SUPPORT_ROWS


def process_loss(
    X: Tensor,
    Y: Tensor,
    mask: Tensor,
    n_support: int,
    features: Features,
    scales: Scales,
    limits: Limits,
    levels: Levels = ONE_LEVEL,
) -> Tensor:
    """Negative log-likelihood of query rows given the support.

    Parameters
    ----------
    X : Tensor of shape (n_rows, n_columns)
        The real rows of all tasks, one task after another, the support of each first.
        It gets no gradient.
    Y : Tensor of shape (n_rows,)
        Their targets.
    mask : Tensor of shape (n_tasks, n_places), bool
        Whether there is a row, in stacks of the tasks.
    n_support : int
        How many of the places are the support's.
    features : Features
        Of the rows.
    scales : Scales
        Of the kernel.
    limits : Limits
        Of the kernel.
    levels : Levels, default=ONE_LEVEL
        Of the noise of a task; at most 8.

    Returns
    -------
    Tensor of shape ()
        A mean over a task's own query rows, then over tasks, in nats. Autograd knows
        its first derivatives by features, scales and levels; NaN for a covariance
        without a factor.

    References
    ----------
    C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning",
    MIT Press, 2006, equations 2.25 and 2.26.
    """
    known = _Rows(X, Y, mask, n_support, limits)
    loss: Tensor = _ProcessLoss.apply(known, *features, *scales, *levels)
    return loss


def marginal_loss(
    X: Tensor,
    Y: Tensor,
    mask: Tensor,
    features: Features,
    scales: Scales,
    limits: Limits,
) -> Tensor:
    """Minus the log marginal likelihood of whole tasks.

    Parameters
    ----------
    X, Y, mask, features, scales, limits
        As of :func:`process_loss`, where no row is a query.

    Returns
    -------
    Tensor of shape ()
        A mean over the rows of all tasks, in nats. Autograd knows its first
        derivatives by features and scales; NaN for a covariance without a factor.

    References
    ----------
    C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine Learning",
    MIT Press, 2006, equations 5.8 and 5.9.
    """
    known = _Rows(X, Y, mask, mask.shape[1], limits, is_marginal=True)
    loss: Tensor = _ProcessLoss.apply(known, *features, *scales, *ONE_LEVEL)
    return loss


class _Rows(NamedTuple):
    """What gets no gradient; as of :func:`process_loss`."""

    X: Tensor
    Y: Tensor
    mask: Tensor
    n_support: int
    limits: Limits
    is_marginal: bool = False


class _ProcessLoss(Function):
    """The loss, whose gradient is computed with it."""

    @staticmethod
    def forward(ctx: Any, rows: _Rows, *inputs: Any) -> Tensor:
        """Return the loss () and keep its gradient."""
        features, scales = Features(*inputs[:4]), Scales(*inputs[4:8])
        levels = Levels(*inputs[8:])
        numbers = [
            scales.constant.exp(),
            scales.linear.exp(),
            scales.length.neg().exp(),
            (2 * scales.smooth).exp(),
        ]
        loss, of_features, of_numbers, of_levels = _run(rows, features, numbers, levels)
        # by the logarithm of a number; that of the variance is known already
        for gradient, number in zip(of_numbers[:3], numbers, strict=False):
            gradient.mul_(number)
        constant, linear, length, variance = of_numbers
        of_scales = constant, linear, length.neg_(), 2 * variance
        ctx.gradients = *of_features, *of_scales, *of_levels
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        """Hand the gradient out; the factor () is that of the loss."""
        return None, *(None if g is None else g * factor for g in ctx.gradients)


def _run(
    rows: _Rows, features: Features, numbers: list[Tensor], levels: Levels
) -> tuple[Tensor, list[Tensor | None], list[Tensor], list[Tensor | None]]:
    """The loss (), and its gradients by the features, the scales and the levels.

    Each is in the shape of what it belongs to; numbers are the scales, not logarithms.
    """
    X = rows.X
    parts = [None if part is None else part.contiguous() for part in features]
    known = [X.contiguous(), *parts, rows.Y.contiguous(), rows.mask.contiguous()]
    of_parts = [None if part is None else torch.zeros_like(part) for part in parts]
    of_numbers = [torch.zeros_like(number) for number in numbers]
    of_levels = [None if part is None else torch.zeros_like(part) for part in levels]
    level = None if levels.log_level is None else levels.log_level.exp()
    loss = X.new_empty(())
    problem = Process(
        X.dtype == torch.float64,
        *rows.mask.shape,
        rows.n_support,
        X.shape[1],
        *(0 if part is None else part.shape[-1] for part in parts[:2]),
        rows.is_marginal,
        *map(_address, (*known, *numbers)),
        *rows.limits,
        *map(_address, (loss, *of_parts, *of_numbers)),
        n_levels=1 if level is None else len(level),
        level=_address(level),
        prior=_address(levels.logit),
        level_out=_address(of_levels[0]),
        prior_out=_address(of_levels[1]),
    )
    run_process("likelihood", problem)
    return loss, of_parts, of_numbers, of_levels


def _address(values: Tensor | None) -> int | None:
    """Where the numbers of a tensor of any shape are; None for none."""
    return None if values is None else values.data_ptr()
