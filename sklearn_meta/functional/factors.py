"""Factors of covariance and kernel matrices."""

import torch
from torch import Tensor

__all__ = ["stable_cholesky"]


def stable_cholesky(matrices: Tensor) -> Tensor:
    """Cholesky factors of matrices that rounding may have made indefinite.

    Some units in the last place of the trace are added to the diagonal: nothing on
    well-scaled data, enough where features are so large that an identity added to their
    products is lost.

    Parameters
    ----------
    matrices : Tensor of shape (..., d, d)
        Positive semi-definite up to rounding.

    Returns
    -------
    Tensor of shape (..., d, d)
        Lower triangular factors.

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
    return torch.linalg.cholesky(matrices + torch.diag_embed(jitter))
