"""Mixtures over samples of a latent variable: their moments and their likelihood."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sklearn_meta.functional.likelihoods import Gaussian


def gaussian_moments(samples: Gaussian) -> Gaussian:
    """Mean and standard deviation of an equal mixture of Gaussians.

    Parameters
    ----------
    samples : Gaussian
        Means and standard deviations of shape (n_tasks, n_samples, n_query).

    Returns
    -------
    Gaussian
        Of shape (n_tasks, n_query). The variance is the mean of the variances plus the
        variance of the means.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import Gaussian, gaussian_moments
    >>> means = torch.tensor([[[-3.0], [3.0]]])
    >>> gaussian_moments(Gaussian(means, torch.full((1, 2, 1), 4.0))).std
    tensor([[5.]])
    """
    variance = samples.std.square().mean(1) + samples.mean.var(1, correction=0)
    return Gaussian(samples.mean.mean(1), variance.sqrt())


def mean_probabilities(logits: Tensor) -> Tensor:
    """Log of the mean probabilities of an equal mixture.

    Parameters
    ----------
    logits : Tensor of shape (n_tasks, n_samples, n_query, n_classes)
        Unnormalised log-probabilities.

    Returns
    -------
    Tensor of shape (n_tasks, n_query, n_classes)
        Log-probabilities.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import mean_probabilities
    >>> logits = torch.tensor([[[[9.0, -9.0]], [[0.0, 0.0]]]])
    >>> mean_probabilities(logits).exp().round(decimals=2)
    tensor([[[0.7500, 0.2500]]])
    """
    return torch.logsumexp(F.log_softmax(logits, -1), 1) - math.log(logits.shape[1])


def mixture_nll(row_loss: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of all rows of a task together, in nats per row.

    Parameters
    ----------
    row_loss : Tensor of shape (n_tasks, n_samples, n_query)
        Negative log-likelihood of each row given each sample.
    mask : Tensor of shape (n_tasks, n_query), bool
        True for a real row.

    Returns
    -------
    Tensor of shape ()
        The rows of a task share a sample: their likelihoods are multiplied, and then
        averaged over samples. Mean over the tasks that have any row.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import mixture_nll
    >>> losses = torch.tensor([[[0.0, 0.0], [9.0, 9.0]]])  # one sample explains both
    >>> mixture_nll(losses, torch.ones(1, 2, dtype=torch.bool))
    tensor(0.3466)
    """
    joint = torch.where(mask.unsqueeze(1), row_loss, 0).sum(2)
    log_mean = torch.logsumexp(-joint, 1) - math.log(row_loss.shape[1])
    n_rows = mask.sum(1)
    per_row = torch.where(n_rows > 0, -log_mean / n_rows.clamp_min(1), 0)
    return per_row.sum() / (n_rows > 0).sum().clamp_min(1)
