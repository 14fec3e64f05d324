"""Softmax regression on kernels, for all tasks at once and without a step size."""

import torch
from torch import Tensor

from sklearn_meta.functional.factors import stable_cholesky
from sklearn_meta.functional.likelihoods import mask_absent

__all__ = ["softmax_coefficients", "squared_exponential"]


def squared_exponential(a: Tensor, b: Tensor, length_scale: Tensor | float) -> Tensor:
    """Squared exponential kernel between rows.

    It is ``exp(-|a - b|^2 / (2 length_scale^2 d))`` for rows of ``d`` features.

    Parameters
    ----------
    a : Tensor of shape (n_tasks, n_a, d)
        Rows.
    b : Tensor of shape (n_tasks, n_b, d)
        Rows.
    length_scale : Tensor of shape () or float
        In units of the root mean square of a feature, > 0.

    Returns
    -------
    Tensor of shape (n_tasks, n_a, n_b)
        Values in (0, 1].

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import squared_exponential
    >>> rows = torch.zeros(1, 2, 3)
    >>> squared_exponential(rows, rows, torch.tensor(1.0))[0, 0].tolist()
    [1.0, 1.0]
    """
    squares = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)
    distances = (squares - 2 * a @ b.mT).clamp_min(0)
    return torch.exp(-0.5 * distances / (a.shape[-1] * length_scale**2))


def softmax_coefficients(
    kernel: Tensor,
    Y: Tensor,
    mask: Tensor,
    n_iter: int = 8,
    offset: Tensor | None = None,
) -> Tensor:
    r"""Coefficients of softmax regression with a kernel and a unit Gaussian prior.

    The logits of the support are ``f = o + K a`` for coefficients ``a`` that minimise
    :math:`-\sum_i \log p(y_i | f_i) + \frac12 \sum_c a_c' K a_c`. The Hessian of the
    log-likelihood is bounded by half the identity [1]_, so that

    .. math:: a \leftarrow a + (I + K / 2)^{-1} (Y - \mathrm{softmax}(o + K a) - a)

    decreases the objective at every step, with one Cholesky factor for all steps. The
    first step gives ridge-weighted class means; the later ones refine them.

    Parameters
    ----------
    kernel : Tensor of shape (n_tasks, n_support, n_support)
        Positive semi-definite.
    Y : Tensor of shape (n_tasks, n_support, n_classes)
        One-hot classes.
    mask : Tensor of shape (n_tasks, n_support), bool
        True for a real row.
    n_iter : int, default=8
        Steps.
    offset : Tensor of shape (n_tasks, n_support, n_classes), default=None
        Logits ``o`` before the support is seen. None is zero, and rules out classes
        without rows.

    Returns
    -------
    Tensor of shape (n_tasks, n_support, n_classes)
        Coefficients; zero for padding rows.

    References
    ----------
    .. [1] D. Böhning, "Multinomial logistic regression algorithm", Annals of the
       Institute of Statistical Mathematics 44, 1992.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import softmax_coefficients
    >>> mask = torch.ones(1, 2, dtype=torch.bool)
    >>> a = softmax_coefficients(torch.eye(2)[None], torch.eye(2)[None], mask)
    >>> bool(a[0, 0, 0] > 0 > a[0, 0, 1])
    True
    """
    if offset is None:
        offset = mask_absent(torch.zeros_like(Y), Y.sum(1) > 0)
    real = mask.unsqueeze(-1)
    kernel = torch.where(real & real.mT, kernel, 0.0)
    eye = torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
    # at least 1 on the diagonal: inverting it is safe, and cheaper than eight solves
    inverse = torch.cholesky_inverse(stable_cholesky(eye + 0.5 * kernel))
    coefficients = torch.zeros_like(Y)
    for _ in range(n_iter):
        gap = Y - torch.softmax(offset + kernel @ coefficients, -1) - coefficients
        coefficients = coefficients + inverse @ torch.where(real, gap, 0.0)
    return coefficients
