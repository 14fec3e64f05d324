r"""Ridge regression of many tasks at once, in the smaller of its two forms.

With rows Z and penalty :math:`\lambda`, weights and leverage of a row z are

.. math::

    W = (Z^\top Z + \lambda I)^{-1} Z^\top Y = Z^\top (Z Z^\top + \lambda I)^{-1} Y,
    \qquad
    h(z) = z^\top (Z^\top Z + \lambda I)^{-1} z,

where the second form (Woodbury) has a matrix of the size of the support.
"""

from typing import NamedTuple

from torch import Tensor, cholesky_solve, diag_embed
from torch.linalg import solve_triangular

from sklearn_meta.functional.factors import stable_cholesky


class RidgeFit(NamedTuple):
    """Weights of each task, and what their uncertainty is computed from.

    Parameters
    ----------
    weights : Tensor of shape (n_tasks, n_features, n_outputs)
        Ridge weights.
    penalty : Tensor of shape (n_tasks,)
        What they were penalised by.
    factor : Tensor of shape (n_tasks, n, n)
        Cholesky factor, n the smaller of support rows and features.
    rows : Tensor of shape (n_tasks, n_support, n_features) or None
        The support, where it has fewer rows than features.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import fit_ridge
    >>> fit_ridge(torch.zeros(1, 2, 3), torch.zeros(1, 2, 1), torch.ones(1)).rows.shape
    torch.Size([1, 2, 3])
    """

    weights: Tensor
    penalty: Tensor
    factor: Tensor
    rows: Tensor | None


def fit_ridge(rows: Tensor, targets: Tensor, penalty: Tensor) -> RidgeFit:
    """Ridge regression on the support of every task.

    Parameters
    ----------
    rows : Tensor of shape (n_tasks, n_support, n_features)
        Support rows; those of padding are zero.
    targets : Tensor of shape (n_tasks, n_support, n_outputs)
        Targets; those of padding are zero.
    penalty : Tensor of shape (n_tasks,)
        Penalty of the squared weights, > 0.

    Returns
    -------
    RidgeFit
        The weights, and factors for :func:`ridge_leverage`.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import fit_ridge
    >>> rows = torch.tensor([[[1.0], [1.0]]])
    >>> fit_ridge(rows, 3 * rows, torch.ones(1)).weights
    tensor([[[2.]]])
    """
    n_support, n_features = rows.shape[1:]
    if n_support < n_features:
        factor = _factor(rows @ rows.mT, penalty)
        weights = rows.mT @ cholesky_solve(targets, factor)
        return RidgeFit(weights, penalty, factor, rows)
    factor = _factor(rows.mT @ rows, penalty)
    weights = cholesky_solve(rows.mT @ targets, factor)
    return RidgeFit(weights, penalty, factor, None)


def ridge_leverage(fit: RidgeFit, rows: Tensor) -> Tensor:
    """How little the support says about query rows.

    Times the variance of the noise, it is the posterior variance of the mean under the
    Gaussian prior whose mode ridge regression is.

    Parameters
    ----------
    fit : RidgeFit
        As of :func:`fit_ridge`.
    rows : Tensor of shape (n_tasks, n_query, n_features)
        Query rows.

    Returns
    -------
    Tensor of shape (n_tasks, n_query)
        Leverages, at least 0.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import fit_ridge, ridge_leverage
    >>> rows = torch.tensor([[[1.0], [1.0]]])
    >>> fit = fit_ridge(rows, 3 * rows, torch.ones(1))
    >>> round(ridge_leverage(fit, torch.tensor([[[2.0]]])).item(), 4)
    1.3333
    """
    if fit.rows is None:
        return _squared_norm(fit.factor, rows)
    lengths = rows.square().sum(-1)
    known = _squared_norm(fit.factor, rows @ fit.rows.mT)
    return (lengths - known).clamp_min(0) / fit.penalty.unsqueeze(-1)


def _factor(products: Tensor, penalty: Tensor) -> Tensor:
    """Cholesky factor of products (n_tasks, n, n) with a penalty on their diagonal."""
    diagonal = products.diagonal(dim1=-2, dim2=-1)
    ridge = penalty.unsqueeze(-1).expand_as(diagonal)
    return stable_cholesky(products + diag_embed(ridge))


def _squared_norm(factor: Tensor, rows: Tensor) -> Tensor:
    """Squared norm of rows (n_tasks, n_rows, n) as the inverse matrix measures it."""
    return solve_triangular(factor, rows.mT, upper=False).square().sum(-2)
