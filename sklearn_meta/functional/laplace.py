"""Gaussian process classification: Laplace's approximation, for all tasks at once."""

from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_meta.functional.factors import stable_cholesky
from sklearn_meta.functional.likelihoods import mask_absent
from sklearn_meta.functional.logistic import softmax_coefficients

__all__ = ["LaplacePosterior", "laplace_logits", "laplace_posterior"]

# they cost little: eight of them save a step of Newton's method
N_BOUND_STEPS = 16
# in logits: further, the likelihood is not what it was where the step was computed
MAX_STEP = 3.0
# a probability whose square root still has a finite derivative
SMALLEST_PROBABILITY = 1e-14


class LaplacePosterior(NamedTuple):
    """What the support rows tell about the latent functions, one for each class.

    Parameters
    ----------
    coefficients : Tensor of shape (n_tasks, n_support, n_classes)
        The mode's logits at any row are its prior logits plus its kernel with the
        support times these; zero for padding.
    precision : Tensor of shape (n_tasks, n_support, n_support)
        Sum over classes of how much the support reduces the variance of a class's
        logit; zero for padding.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import LaplacePosterior
    >>> nothing_seen = LaplacePosterior(torch.zeros(1, 5, 3), torch.zeros(1, 5, 5))
    >>> nothing_seen.coefficients.shape
    torch.Size([1, 5, 3])
    """

    coefficients: Tensor
    precision: Tensor


def laplace_posterior(
    kernel: Tensor, offset: Tensor, Y: Tensor, mask: Tensor, n_iter: int = 2
) -> LaplacePosterior:
    r"""Approximate the posterior of one Gaussian process per class, by its mode.

    The logits of the support are :math:`f = o + K a` with prior logits :math:`o` and
    the same kernel for all classes. The mode solves

    .. math:: Y - \mathrm{softmax}(o + K a) - a = 0

    and is found by Newton's method without gradient, from where some cheap steps of
    `softmax_coefficients` end. One last step with gradient makes the coefficients'
    derivative that of the mode (implicit differentiation).

    Parameters
    ----------
    kernel : Tensor of shape (n_tasks, n_support, n_support)
        Positive semi-definite up to rounding.
    offset : Tensor of shape (n_tasks, n_support, n_classes)
        Prior logits. The dtype's minimum rules a class out.
    Y : Tensor of shape (n_tasks, n_support, n_classes)
        One-hot classes.
    mask : Tensor of shape (n_tasks, n_support), bool
        True for a real row.
    n_iter : int, default=2
        Newton steps before the last one. Each moves no logit by more than 3. Two are
        enough for kernels up to about 10.

    Returns
    -------
    LaplacePosterior
        In the dtype of the kernel; inside, float64 is used.

    Notes
    -----
    The cost is that of one matrix inverse per class and step, of the size of the
    support, as in algorithm 3.3 of [1]_.

    References
    ----------
    .. [1] C. E. Rasmussen and C. K. I. Williams, "Gaussian Processes for Machine
       Learning", 2006, section 3.5.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import laplace_posterior
    >>> eye, mask = torch.eye(2)[None], torch.ones(1, 2, dtype=torch.bool)
    >>> posterior = laplace_posterior(eye, torch.zeros(1, 2, 2), eye, mask)
    >>> posterior.coefficients[0, 0].tolist()
    [0.3374..., -0.3374...]
    """
    if not Y.shape[1]:
        return LaplacePosterior(Y, kernel)
    dtype = kernel.dtype
    kernel, offset, Y = kernel.double(), offset.double(), Y.double()
    real = mask.unsqueeze(-1)
    kernel = torch.where(real & real.mT, kernel, 0.0)
    kernel = kernel + _rounding(kernel, dtype)
    problem = _Problem(kernel, torch.where(real, offset, 0.0), Y, real)
    with torch.no_grad():
        a = softmax_coefficients(kernel, Y, mask, N_BOUND_STEPS, problem.offset)
        for _ in range(n_iter):
            a = a + problem.newton_step(a, MAX_STEP)
        solve = problem.linear_solver(a)
    # the solver is a constant: at the mode, its derivative is multiplied by zero
    a = a + solve(problem.gap(a))
    return LaplacePosterior(a.to(dtype), problem.precision(a).to(dtype))


def laplace_logits(
    posterior: LaplacePosterior,
    cross: Tensor,
    diagonal: Tensor,
    offset: Tensor,
    present: Tensor,
    kappa: Tensor,
) -> Tensor:
    r"""Logits of query rows, pulled towards each other where the posterior is wide.

    They are :math:`(o + K_{qs} a) / \sqrt{1 + \kappa v}` with the posterior variance
    :math:`v` of the difference of two classes' logits, averaged over pairs. With
    :math:`\kappa = \pi / 8` this is about the mean probability of two classes [1]_;
    with :math:`\kappa = 0` it is the mode's.

    Parameters
    ----------
    posterior : LaplacePosterior
        Of `laplace_posterior`.
    cross : Tensor of shape (n_tasks, n_query, n_support)
        Kernel between query and support rows; that with padding does not matter.
    diagonal : Tensor of shape (n_tasks, n_query)
        Kernel of each query row with itself.
    offset : Tensor of shape (n_tasks, n_query, n_classes)
        Prior logits.
    present : Tensor of shape (n_tasks, n_classes), bool
        True for a class that is not ruled out.
    kappa : Tensor of shape () or (n_tasks, 1)
        At least 0.

    Returns
    -------
    Tensor of shape (n_tasks, n_query, n_classes)
        Logits; the dtype's minimum for a class that is ruled out.

    References
    ----------
    .. [1] D. J. C. MacKay, "The evidence framework applied to classification
       networks", Neural Computation 4, 1992, equation 10.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import LaplacePosterior, laplace_logits
    >>> posterior = LaplacePosterior(torch.zeros(1, 1, 2), torch.zeros(1, 1, 1))
    >>> cross, diagonal = torch.zeros(1, 1, 1), torch.full((1, 1), 3.0)
    >>> offset, present = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[True, True]])
    >>> kappa = torch.tensor(0.5)
    >>> laplace_logits(posterior, cross, diagonal, offset, present, kappa)
    tensor([[[1., 0.]]])
    """
    mode = offset + cross @ posterior.coefficients
    n_pairs = (present.sum(1, keepdim=True) - 1).clamp_min(1)
    explained = ((cross @ posterior.precision) * cross).sum(-1) / n_pairs
    variance = 2 * (diagonal - explained).clamp_min(0)
    shrunk = mode / torch.sqrt(1 + kappa * variance).unsqueeze(-1)
    return mask_absent(shrunk, present)


def _rounding(kernel: Tensor, dtype: torch.dtype) -> Tensor:
    """Diagonals (n_tasks, n, n) that outweigh the rounding of a kernel in a dtype."""
    diagonal = kernel.detach().diagonal(dim1=1, dim2=2)
    unit = 10 * torch.finfo(dtype).eps
    return torch.diag_embed(unit * diagonal.sum(1, keepdim=True).expand_as(diagonal))


class _Problem(NamedTuple):
    """Softmax regression with a Gaussian process prior; see `laplace_posterior`."""

    kernel: Tensor
    offset: Tensor
    Y: Tensor
    real: Tensor  # (n_tasks, n_support, 1)

    def probabilities(self, a: Tensor) -> Tensor:
        """Probabilities (n_tasks, n_support, n_classes), zero for padding."""
        p = torch.softmax(self.offset + self.kernel @ a, -1)
        return torch.where(self.real, p, 0.0)

    def gap(self, a: Tensor) -> Tensor:
        """What is zero at the mode, (n_tasks, n_support, n_classes)."""
        return self.Y - self.probabilities(a) - a

    def newton_step(self, a: Tensor, max_step: float) -> Tensor:
        """The change of the coefficients (n_tasks, n_support, n_classes).

        It is cut where it moves a logit too far.
        """
        step = self.linear_solver(a)(self.gap(a))
        furthest = (self.kernel @ step).abs().amax((1, 2), keepdim=True)
        return step * (max_step / furthest.clamp_min(max_step))

    def linear_solver(self, a: Tensor):
        """Return the map of g to (I + W K)^-1 g, with W the likelihood's curvature.

        Both a and g are of shape (n_tasks, n_support, n_classes).
        """
        parts, total = self._curvature(self.probabilities(a))
        inverse = torch.cholesky_inverse(stable_cholesky(total))
        kernel = self.kernel.detach()

        def solve(g: Tensor) -> Tensor:
            # (I + W K)^-1 = I - (K + W^-1)^-1 K
            seen = torch.einsum("tcij,tjc->tic", parts, kernel @ g)
            common = inverse @ seen.sum(-1, keepdim=True)
            return g - seen + torch.einsum("tcij,tj->tic", parts, common.squeeze(-1))

        return solve

    def precision(self, a: Tensor) -> Tensor:
        """Trace over classes of (K + W^-1)^-1, (n_tasks, n_support, n_support)."""
        parts, total = self._curvature(self.probabilities(a))
        inverse = torch.cholesky_inverse(stable_cholesky(total))
        trace = (parts - parts @ inverse.unsqueeze(1) @ parts).sum(1)
        return torch.where(self.real & self.real.mT, trace, 0.0)

    def _curvature(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return (K + diag(1 / p_c))^-1 of each class, and their sum.

        They are of shapes (n_tasks, n_classes, n, n) and (n_tasks, n, n), n the support
        rows. With E_c these and S their sum, (K + W^-1)^-1 has the blocks
        delta_cc' E_c - E_c S^-1 E_c' ([1]_ of `laplace_posterior`, equation 3.47).
        Padding gets a one on the sum's diagonal, so that it can be inverted.
        """
        root = p.clamp_min(SMALLEST_PROBABILITY).sqrt().mT.unsqueeze(-1)
        root = torch.where(self.real.unsqueeze(1), root, 0.0)
        eye = torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
        scaled = eye + root * self.kernel.unsqueeze(1) * root.mT
        parts = root * torch.cholesky_inverse(stable_cholesky(scaled)) * root.mT
        return parts, parts.sum(1) + eye * ~self.real
