"""Learners whose last layer is a ridge regression on the support rows."""

import math

import torch
from torch import Tensor, nn

from sklearn_meta.functional import (
    STD_FLOOR,
    Gaussian,
    RidgeFit,
    add_offset,
    apply_rows,
    bounded_std,
    check_row_independent,
    class_counts,
    fit_ridge,
    last_columns,
    mask_absent,
    ridge_leverage,
    unbounded_std,
    zero_padding,
)
from sklearn_meta.learners.contract import Learner
from sklearn_meta.learners.parts import embedding_width

_LIKELIHOODS = ("gaussian", "categorical")
# a penalty of nothing would let a single row own the weights
_PENALTY_FLOOR = 1e-3
# penalty, scale and noise must go further than weights do in as many steps of one size
_SPEED = 10.0
# ridge outputs of one-hot classes are below 1, logits are not
_INITIAL_SCALE = 5.0
# features above lose all meaning beside the penalty, and their squares overflow
_LARGEST_FEATURE = 1e6


class RidgeLearner(Learner):
    """R2-D2: ridge regression on a learned embedding, in closed form.

    What is regressed is what a learned head of all tasks lacks: residuals, or labels
    minus its probabilities. The outer gradient goes through the solution.

    Parameters
    ----------
    network : nn.Module
        The embedding: maps rows (n, n_features) to (n, embedding_size).
    likelihood : {"gaussian", "categorical"}, default="gaussian"
        What the prediction is: a Gaussian for regression, logits for classes.
    n_shared_classes : int, default=None
        Number of classes if they mean the same in every task. None for classes local
        to the task, which have no head of all tasks; one missing is ruled out.
    embedding_size : int, default=None
        Width of the embedding; None reads it from the network's last linear layer.
    std_floor : float, default=STD_FLOOR
        Smallest predicted standard deviation, in units of the target.
    n_offsets : int, default=0
        So many of the last columns of a row are added to the logits, one per class;
        the network sees them too. Needs ``n_shared_classes``.

    Raises
    ------
    ValueError
        If an option is unknown or does not fit the others, the network mixes rows, or
        its width cannot be read.

    Notes
    -----
    The embedding is divided by the root of its width and gets a learned constant. The
    logits have a learned scale, as in the paper, and instead of its bias the head of
    all tasks; that head starts at zero. The logarithm of the penalty has an intercept
    and a slope in the logarithm of the number of support rows. The standard deviation
    is that of the noise, which is learned, and of the weights given the support, which
    the paper does not use.

    References
    ----------
    L. Bertinetto, J. F. Henriques, P. H. S. Torr, A. Vedaldi, "Meta-learning with
    differentiable closed-form solvers", ICLR 2019, equations 4 to 6.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import build_mlp
    >>> from sklearn_meta.learners import RidgeLearner
    >>> learner = RidgeLearner(build_mlp(3, (8,), 8))
    >>> X, Y = torch.zeros(2, 5, 3), torch.zeros(2, 5, 1)
    >>> mask = torch.ones(2, 5, dtype=torch.bool)
    >>> learner(X, Y, mask, torch.zeros(2, 7, 3)).std.shape
    torch.Size([2, 7])
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        likelihood: str = "gaussian",
        n_shared_classes: int | None = None,
        embedding_size: int | None = None,
        std_floor: float = STD_FLOOR,
        n_offsets: int = 0,
    ):
        _check_options(likelihood, n_shared_classes, n_offsets)
        check_row_independent(network)
        super().__init__()
        self.network = network
        self.likelihood = likelihood
        self.n_shared_classes = n_shared_classes
        self.std_floor = std_floor
        self.n_offsets = n_offsets
        self.log_penalty = nn.Parameter(torch.tensor(0.0))
        self.log_penalty_slope = nn.Parameter(torch.tensor(0.0))
        self.log_constant = nn.Parameter(torch.tensor(0.0))
        if likelihood == "gaussian":
            raw = unbounded_std(1.0, std_floor) / _SPEED
            self.raw_noise = nn.Parameter(torch.tensor(raw))
        else:
            self.log_scale = nn.Parameter(torch.tensor(0.0))
        n_outputs = 1 if likelihood == "gaussian" else n_shared_classes
        self.embedding_size = embedding_size
        if n_outputs is not None:
            self.embedding_size = embedding_size or embedding_width(network, "The head")
            self.head = nn.Linear(self.embedding_size, n_outputs)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def adapt(
        self, X_support: Tensor, Y_support: Tensor, support_mask: Tensor
    ) -> dict[str, Tensor]:
        """Solve the ridge regression of every task.

        Parameters
        ----------
        X_support : Tensor of shape (n_tasks, n_support, n_features)
            Support rows.
        Y_support : Tensor of shape (n_tasks, n_support, n_outputs)
            One-hot classes, or targets with n_outputs = 1.
        support_mask : Tensor of shape (n_tasks, n_support), bool
            True for a real row.

        Returns
        -------
        dict of str to Tensor, tasks first
            The fields of `functional.RidgeFit`, and "present" of shape (n_tasks,
            n_classes) of classes.
        """
        Y = zero_padding(Y_support, support_mask)
        X = zero_padding(X_support, support_mask)
        present = (class_counts(Y) > 0) | (self.n_shared_classes is not None)
        features = self._embed(X)
        targets = Y - self._expected(X, features, Y, present)
        rows = zero_padding(self._with_constant(features), support_mask)
        penalty = self._penalty(support_mask.sum(1).to(Y))
        fit = fit_ridge(rows, zero_padding(targets, support_mask), penalty)
        state = {name: v for name, v in fit._asdict().items() if v is not None}
        return state if self.likelihood == "gaussian" else {**state, "present": present}

    def query(self, state: dict[str, Tensor], X_query: Tensor) -> Tensor | Gaussian:
        """Predict query rows with the weights of their task.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `adapt`.
        X_query : Tensor of shape (n_tasks, n_query, n_features)
            Query rows; each is predicted on its own.

        Returns
        -------
        Gaussian of (n_tasks, n_query) or Tensor of shape (n_tasks, n_query, n_classes)
            The prediction: a mean and a standard deviation, or logits.
        """
        features = self._embed(X_query)
        rows = self._with_constant(features)
        found = rows @ state["weights"]
        if self.likelihood == "categorical":
            scale = _INITIAL_SCALE * (_SPEED * self.log_scale).exp()
            logits = scale * found + self._base(X_query, features, found)
            return mask_absent(logits, state["present"])
        mean = (found + self._base(X_query, features, found)).squeeze(-1)
        fit = RidgeFit(
            state["weights"], state["penalty"], state["factor"], state.get("rows")
        )
        noise = bounded_std(_SPEED * self.raw_noise, self.std_floor)
        return Gaussian(mean, noise * (1 + ridge_leverage(fit, rows)).sqrt())

    def describe_rows(self, X: Tensor) -> Tensor:
        """Return the features of rows, and what the head of all tasks makes of them.

        Parameters
        ----------
        X : Tensor of shape (n_rows, n_features)
            Rows of any task.

        Returns
        -------
        Tensor of shape (n_rows, embedding_size + n_outputs)
            What the ridge regression sees, without its constant, and the prediction for
            a task without a support; ``n_outputs`` is 0 for classes local to the task.
        """
        features = self._embed(X.unsqueeze(0)).squeeze(0)
        if not hasattr(self, "head"):
            return features
        base = add_offset(self.head(features), last_columns(X, self.n_offsets))
        return torch.cat([features, base], -1)

    def _embed(self, X: Tensor) -> Tensor:
        """Features (n_tasks, n_rows, embedding_size) of about length 1."""
        features = apply_rows(self.network, X)
        features = features.clamp(-_LARGEST_FEATURE, _LARGEST_FEATURE)
        return features / math.sqrt(features.shape[-1])

    def _with_constant(self, features: Tensor) -> Tensor:
        """Features (n_tasks, n_rows, n) with a learned constant, for the level."""
        constant = self.log_constant.exp().expand(*features.shape[:-1], 1)
        return torch.cat([features, constant], -1)

    def _penalty(self, counts: Tensor) -> Tensor:
        """Penalty (n_tasks,) by the number of support rows."""
        log_count = counts.clamp_min(1).log()
        log_penalty = self.log_penalty + self.log_penalty_slope * log_count
        return _PENALTY_FLOOR + (_SPEED * log_penalty).exp()

    def _base(self, X: Tensor, features: Tensor, like: Tensor) -> Tensor:
        """Return outputs (n_tasks, n_rows, n_outputs) of the head of all tasks.

        They are counted from the offset, the last columns of X; zero without a head.
        """
        if not hasattr(self, "head"):
            return torch.zeros_like(like)
        return add_offset(self.head(features), last_columns(X, self.n_offsets))

    def _expected(
        self, X: Tensor, features: Tensor, Y: Tensor, present: Tensor
    ) -> Tensor:
        """Return targets that the head of all tasks expects, in the shape of Y.

        Without a head all classes in ``present`` (n_tasks, n_classes) are alike.
        """
        base = self._base(X, features, Y)
        if self.likelihood == "gaussian":
            return base
        return mask_absent(base, present).softmax(-1)


def _check_options(
    likelihood: str, n_shared_classes: int | None, n_offsets: int
) -> None:
    """Reject unknown options, classes in a regression, and offsets without classes."""
    if likelihood not in _LIKELIHOODS:
        raise ValueError(
            f"likelihood must be one of {_LIKELIHOODS}; got {likelihood!r}."
        )
    if n_shared_classes is not None and likelihood == "gaussian":
        raise ValueError(
            f"n_shared_classes={n_shared_classes} needs likelihood='categorical'; got "
            "'gaussian'."
        )
    if n_offsets and n_shared_classes != n_offsets:
        raise ValueError(
            f"n_offsets must be 0 or n_shared_classes; got {n_offsets=} and "
            f"{n_shared_classes=}."
        )
