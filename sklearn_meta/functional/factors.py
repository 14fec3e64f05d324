"""Factors of covariance and kernel matrices."""

import math

import torch
from torch import Tensor

from sklearn_meta.functional.at_hand import is_at_hand

__all__ = ["stable_cholesky"]


def stable_cholesky(matrices: Tensor, *, check: bool = True) -> Tensor:
    """Cholesky factors of matrices that rounding may have made indefinite.

    Some units in the last place of the trace are added to the diagonal: nothing on
    well-scaled data, enough where features are so large that an identity added to their
    products is lost.

    Parameters
    ----------
    matrices : Tensor of shape (..., d, d)
        Positive semi-definite up to rounding.
    check : bool, default=True
        Whether a matrix that is not so, or not finite, is an error. Without the check
        its factor is NaN, for callers that look at their result as a whole. A GPU is
        never asked, as it would have to wait: there the factor is NaN.

    Returns
    -------
    Tensor of shape (..., d, d)
        Lower triangular factors.

    Raises
    ------
    torch.linalg.LinAlgError
        If a matrix on the CPU has no factor and ``check``.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import stable_cholesky
    >>> huge = torch.full((2, 2), 1e30, dtype=torch.float64)
    >>> bool(stable_cholesky(huge + torch.eye(2)).isfinite().all())
    True
    """
    diagonal = matrices.diagonal(dim1=-2, dim2=-1)
    unit = 10 * torch.finfo(matrices.dtype).eps
    jitter = unit * diagonal.detach().sum(-1, keepdim=True).expand_as(diagonal)
    lifted = matrices + torch.diag_embed(jitter)
    if check and is_at_hand(matrices):
        return torch.linalg.cholesky(lifted)
    factors, failed = torch.linalg.cholesky_ex(lifted)
    return factors.masked_fill((failed > 0)[..., None, None], math.nan)
