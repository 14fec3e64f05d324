"""What a Gaussian process keeps of the support rows of a task."""

import torch
from torch import Tensor

from sklearn_meta.functional.compiled_library import Process
from sklearn_meta.functional.compiled_process import has_process, run_process
from sklearn_meta.functional.gaussian_process import inverse_factor
from sklearn_meta.functional.process_kernel import KernelRows, kernel_matrix


def solve_support(
    rows: KernelRows,
    log_variance: Tensor,
    noise: Tensor,
    residual: Tensor,
    mask: Tensor,
) -> tuple[Tensor, Tensor]:
    """Solve the system of the support rows, from which queries are predicted.

    Where no graph is built, it is solved in C if that is there: for a single task,
    calls of torch take longer than the arithmetic.

    Parameters
    ----------
    rows : KernelRows of n_support rows per task
        The support.
    log_variance : Tensor of shape () or (n_tasks, 1, 1)
        As of :func:`kernel_matrix`.
    noise : Tensor of shape (n_tasks, n_support)
        Variance of the noise of each row, > 0.
    residual : Tensor of shape (n_tasks, n_support)
        Targets less their prior means, zero at padding.
    mask : Tensor of shape (n_tasks, n_support), bool
        True for a real row.

    Returns
    -------
    factor : Tensor of shape (n_tasks, n_support, n_support)
        As of :func:`inverse_factor`.
    values : Tensor of shape (n_tasks, n_support)
        The residuals times it.
    """
    if not torch.is_grad_enabled() and has_process(residual):
        return _solve_in_c(rows, log_variance, noise, residual, mask)
    kernel = kernel_matrix(rows, rows, log_variance)
    # LAPACK leaves columns adjacent; a file and an index make rows so
    factor = inverse_factor(kernel, noise, mask).contiguous()
    return factor, (factor @ residual.unsqueeze(-1)).squeeze(-1)


def _solve_in_c(
    rows: KernelRows,
    log_variance: Tensor,
    noise: Tensor,
    residual: Tensor,
    mask: Tensor,
) -> tuple[Tensor, Tensor]:
    """The same, in the same shapes, one task after another; padding is not read."""
    is_whole = bool(mask.all())
    linear, place, noise, target = (
        part.flatten(0, 1).contiguous() if is_whole else part[mask]
        for part in (*rows, noise, residual)
    )
    mask, variance = mask.contiguous(), log_variance.exp()
    # the rows are features as they are: nothing is added to them, or to their targets
    zeros = torch.zeros_like(target)
    factor = residual.new_empty(*mask.shape, mask.shape[1])
    values = residual.new_empty(mask.shape)
    problem = Process(
        is_double=residual.dtype == torch.float64,
        n_tasks=len(mask),
        n_rows=mask.shape[1],
        n_support=mask.shape[1],
        n_linear=linear.shape[1],
        n_smooth=place.shape[1],
        linear=linear.data_ptr(),
        smooth=place.data_ptr(),
        mean=zeros.data_ptr(),
        noise=noise.data_ptr(),
        Y=target.data_ptr(),
        mask=mask.data_ptr(),
        constant=zeros.data_ptr(),
        variance=variance.data_ptr(),
        variance_step=variance.ndim > 0,
        linear_scale=1.0,
        smooth_scale=1.0,
        factor_out=factor.data_ptr(),
        values_out=values.data_ptr(),
    )
    run_process("solve_support", problem)
    return factor, values
