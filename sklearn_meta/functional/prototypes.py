"""Class means of embedded support rows, and distances of query rows to them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from sklearn_meta.functional.factors import stable_cholesky


def class_counts(Y: Tensor) -> Tensor:
    """Number of support rows of each class.

    Parameters
    ----------
    Y : Tensor of shape (n_tasks, n_support, n_classes)
        One-hot classes; rows of padding are all zero.

    Returns
    -------
    Tensor of shape (n_tasks, n_classes)
        Counts, 0 for a class that the support lacks.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import class_counts
    >>> class_counts(torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]]))
    tensor([[2., 0.]])
    """
    return Y.sum(1)


def class_means(
    features: Tensor,
    Y: Tensor,
    prior: Tensor | None = None,
    prior_weight: Tensor | float = 0.0,
) -> Tensor:
    """Mean feature vector of each class, optionally shrunk towards a prior.

    A class with n rows of sum s gets ``(s + w * prior) / (n + w)``: the prior counts
    as w more rows.

    Parameters
    ----------
    features : Tensor of shape (n_tasks, n_support, n_features)
        Embedded support rows.
    Y : Tensor of shape (n_tasks, n_support, n_classes)
        One-hot classes; rows of padding are all zero.
    prior : Tensor broadcastable to (n_tasks, n_classes, n_features), default=None
        Where a class is thought to be before any row is seen.
    prior_weight : float or Tensor of shape (), default=0.0
        Pseudo-count w, in rows, >= 0. Not used without `prior`.

    Returns
    -------
    Tensor of shape (n_tasks, n_classes, n_features)
        Class means. A class with neither rows nor prior gets zeros: mask it.

    References
    ----------
    J. Snell, K. Swersky, R. Zemel, "Prototypical Networks for Few-shot Learning",
    NeurIPS 2017, equation 1.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import class_means
    >>> features = torch.tensor([[[0.0], [2.0], [5.0]]])
    >>> Y = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    >>> class_means(features, Y).squeeze(-1)
    tensor([[1., 5.]])
    """
    total = Y.mT @ features
    weight = class_counts(Y).unsqueeze(-1)
    if prior is not None:
        total = total + prior_weight * prior
        weight = weight + prior_weight
    return total / torch.where(weight > 0, weight, 1.0)


def squared_euclidean(queries: Tensor, prototypes: Tensor) -> Tensor:
    """Squared Euclidean distance of every query row to every prototype.

    Parameters
    ----------
    queries : Tensor of shape (n_tasks, n_query, n_features)
        Embedded query rows.
    prototypes : Tensor of shape (n_tasks, n_classes, n_features)
        One point a class.

    Returns
    -------
    Tensor of shape (n_tasks, n_query, n_classes)
        Squared distances, >= 0.

    Notes
    -----
    Squared, as in Snell et al. (2017), section 2.3: only then is the classifier
    linear in the features. The products are taken about the prototypes' mean, which
    changes no distance and keeps float32 from cancelling far from the origin.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import squared_euclidean
    >>> squared_euclidean(torch.zeros(1, 1, 2), torch.tensor([[[3.0, 4.0]]]))
    tensor([[[25.]]])
    """
    origin = prototypes.detach().mean(1, keepdim=True)
    queries, prototypes = queries - origin, prototypes - origin
    norms = queries.square().sum(-1, keepdim=True)
    norms = norms + prototypes.square().sum(-1).unsqueeze(1)
    distances = torch.baddbmm(norms, queries, prototypes.mT, alpha=-2)
    return distances.clamp_min(0)


def cosine_similarity(queries: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of the angle between every query row and every prototype.

    Parameters
    ----------
    queries : Tensor of shape (n_tasks, n_query, n_features)
        Embedded query rows.
    prototypes : Tensor of shape (n_tasks, n_classes, n_features)
        One point a class.

    Returns
    -------
    Tensor of shape (n_tasks, n_query, n_classes)
        Cosines in [-1, 1]; 0 where a vector is zero.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import cosine_similarity
    >>> cosine_similarity(torch.tensor([[[2.0, 0.0]]]), torch.eye(2)[None])
    tensor([[[1., 0.]]])
    """
    return F.normalize(queries, dim=-1) @ F.normalize(prototypes, dim=-1).mT


def covariance_factors(
    features: Tensor, Y: Tensor, means: Tensor, epsilon: float = 0.1
) -> Tensor:
    """Cholesky factors of the regularised covariance of each class.

    A class with n rows has ``lambda S_class + (1 - lambda) S_task + epsilon I`` with
    ``lambda = n / (n + 1)``: the fewer its rows, the more it borrows from the task.

    Parameters
    ----------
    features : Tensor of shape (n_tasks, n_support, n_features)
        Embedded support rows.
    Y : Tensor of shape (n_tasks, n_support, n_classes)
        One-hot classes; rows of padding are all zero.
    means : Tensor of shape (n_tasks, n_classes, n_features)
        Class means, about which the class covariances are taken.
    epsilon : float, default=0.1
        Added to every variance, in squared units of the features, > 0.

    Returns
    -------
    Tensor of shape (n_tasks, n_classes, n_features, n_features)
        Lower triangular factors. A class of one row, or of none, is fine.

    References
    ----------
    P. Bateni et al., "Improved Few-Shot Visual Classification", CVPR 2020,
    equation 2 (Simple CNAPS; there epsilon is 1).

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import covariance_factors
    >>> features, Y = torch.ones(1, 1, 2), torch.ones(1, 1, 1)
    >>> covariance_factors(features, Y, features, epsilon=4.0)
    tensor([[[[2., 0.],
              [0., 2.]]]])
    """
    counts = class_counts(Y)
    task_weights = Y.sum(-1, keepdim=True).mT  # (n_tasks, 1, n_support)
    task_mean = class_means(features, task_weights.mT)
    of_class = _covariances(features, Y.mT, means)
    of_task = _covariances(features, task_weights, task_mean)
    trust = (counts / (counts + 1))[..., None, None]
    mixed = trust * of_class + (1 - trust) * of_task
    mixed.diagonal(dim1=-2, dim2=-1).add_(epsilon)
    return stable_cholesky(mixed)


def mahalanobis(queries: Tensor, prototypes: Tensor, factors: Tensor) -> Tensor:
    """Squared Mahalanobis distance of every query row to every prototype.

    Parameters
    ----------
    queries : Tensor of shape (n_tasks, n_query, n_features)
        Embedded query rows.
    prototypes : Tensor of shape (n_tasks, n_classes, n_features)
        One point a class.
    factors : Tensor of shape (n_tasks, n_classes, n_features, n_features)
        Lower Cholesky factors, as of :func:`covariance_factors`.

    Returns
    -------
    Tensor of shape (n_tasks, n_query, n_classes)
        Squared distances, >= 0.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import mahalanobis
    >>> factors = 2 * torch.eye(2).expand(1, 1, 2, 2)
    >>> mahalanobis(torch.zeros(1, 1, 2), torch.tensor([[[3.0, 4.0]]]), factors)
    tensor([[[6.2500]]])
    """
    differences = queries.unsqueeze(1) - prototypes.unsqueeze(2)
    # (n_tasks, n_classes, n_features, n_query)
    whitened = torch.linalg.solve_triangular(factors, differences.mT, upper=False)
    return whitened.square().sum(2).mT


def _covariances(features: Tensor, weights: Tensor, means: Tensor) -> Tensor:
    """Covariances (n_tasks, n_groups, d, d); weights (n_tasks, n_groups, n_support)."""
    centred = features.unsqueeze(1) - means.unsqueeze(2)
    centred = centred * weights.unsqueeze(-1)  # one-hot: the weight is its own square
    # One row has no spread to estimate; dividing by n - 1 = 0 would give NaN.
    freedom = (weights.sum(-1) - 1).clamp_min(1)
    return centred.mT @ centred / freedom[..., None, None]
