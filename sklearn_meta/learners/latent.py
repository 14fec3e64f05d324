"""Neural processes with a latent variable, so that functions vary as a whole."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_meta.functional import (
    Gaussian,
    gaussian_moments,
    mask_absent,
    masked_mean_pool,
    mean_probabilities,
    mixture_nll,
)
from sklearn_meta.learners.parts import State, log_counts, unit_scale_mlp
from sklearn_meta.learners.process import ProcessLearner
from sklearn_meta.learners.reader import Reader
from sklearn_meta.learners.steady import steady_from

# Range of a latent standard deviation, as in the attentive neural process.
LEAST_STD, STD_RANGE = 0.1, 0.9
# Rows times samples that a query runs at once; bounds the memory of activations.
ROWS_AT_ONCE = 65536


class LatentProcessLearner(ProcessLearner):
    r"""A neural process whose prediction is a mixture over a latent variable.

    The support gives a Gaussian over a vector z, beside what the architecture reads
    from it. Given z the query rows are independent, so a sample of z is a sample of the
    whole function. Training maximises the likelihood of a task's query rows together,
    :math:`\log \frac{1}{L} \sum_l \prod_j p(y_j \mid x_j, z_l, S)`.

    Parameters
    ----------
    n_features, n_outputs : int
        As of :class:`ProcessLearner`.
    latent_size : int
        Numbers in z, >= 1.
    n_samples : int, default=16
        Samples L of z, an even number >= 2.
    **options : Any
        As of :class:`ProcessLearner`.

    Notes
    -----
    Predictions use the same samples of a standard Gaussian in every task, drawn once
    and kept, so they are deterministic, and no row depends on another. They are
    reported by their moments, or by mean probabilities. Unlike in the latent neural
    process there is no variational bound and no second posterior: the likelihood is
    estimated from samples of the one that prediction has.

    References
    ----------
    M. Garnelo et al., "Neural Processes", ICML workshop 2018, section 2.
    H. Kim et al., "Attentive Neural Processes", ICLR 2019, section 3.
    A. Foong et al., "Meta-Learning Stationary Stochastic Process Prediction with
    Convolutional Neural Processes", NeurIPS 2020, equation 7 (likelihood by samples).

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.learners import LatentProcessLearner
    >>> learner = LatentProcessLearner(3, 1, latent_size=4, likelihood="gaussian")
    >>> X, Y = torch.zeros(2, 5, 3), torch.zeros(2, 5, 1)
    >>> mask = torch.ones(2, 5, dtype=torch.bool)
    >>> learner(X, Y, mask, torch.zeros(2, 7, 3)).std.shape
    torch.Size([2, 7])
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        *,
        latent_size: int,
        n_samples: int = 16,
        **options: Any,
    ):
        if latent_size < 1 or n_samples < 2 or n_samples % 2:
            raise ValueError(
                "expected latent_size of at least 1 and an even n_samples of at least "
                f"2; got {latent_size=} and {n_samples=}."
            )
        # Plain numbers: the constructor above asks for them as it builds the reader.
        self.latent_size, self.n_samples = latent_size, n_samples
        super().__init__(n_features, n_outputs, **options)

    def query(self, state: dict[str, Tensor], X_query: Tensor) -> Tensor | Gaussian:
        """Answer query rows by the moments of the mixture.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `adapt`.
        X_query : Tensor of shape (n_tasks, n_query, n_features)
            Query rows; each is answered on its own.

        Returns
        -------
        Gaussian of (n_tasks, n_query) or Tensor of shape (n_tasks, n_query, n_classes)
            The prediction: a mean and a standard deviation, or logits.
        """
        # Every row runs once per sample: many rows go through in turn.
        n_rows = max(1, ROWS_AT_ONCE // (len(X_query) * self.n_samples))
        parts = [self._mixture(state, rows) for rows in X_query.split(n_rows, 1)]
        if len(parts) == 1:
            return parts[0]
        logits = [part for part in parts if isinstance(part, Tensor)]
        if logits:
            return torch.cat(logits, 1)
        mean, std = zip(*parts, strict=True)
        return Gaussian(torch.cat(mean, 1), torch.cat(std, 1))

    @steady_from(0.0)
    def training_loss(
        self,
        X_support: Tensor,
        Y_support: Tensor,
        support_mask: Tensor,
        X_query: Tensor,
        Y_query: Tensor,
        query_mask: Tensor,
        *,
        criterion: Callable[[Any, Tensor], Tensor],
        progress: float = 0.0,
    ) -> Tensor:
        """Negative log-likelihood of each task's query rows together.

        Parameters
        ----------
        X_support, Y_support, support_mask : Tensor
            As in `adapt`.
        X_query, Y_query, query_mask : Tensor
            Query rows, shaped like support rows.
        criterion : callable
            Negative log-likelihood of every query row, given the prediction and
            `Y_query`.
        progress : float, default=0.0
            Ignored here.

        Returns
        -------
        Tensor of shape ()
            In nats per query row, as a mean over tasks; with fresh samples of z.
        """
        state = self.adapt(X_support, Y_support, support_mask)
        mean, std = (
            state["latent_mean"].unsqueeze(-2),
            state["latent_std"].unsqueeze(-2),
        )
        state["latent"] = mean + std * torch.randn_like(state["latent"])
        samples = self._query_samples(state, X_query)
        Y = Y_query.repeat_interleave(self.n_samples, 0)
        flat = _each(samples, lambda part: part.flatten(0, 1))
        row_loss = criterion(flat, Y).unflatten(0, (-1, self.n_samples))
        return mixture_nll(row_loss, query_mask)

    def _mixture(self, state: dict[str, Tensor], X_query: Tensor) -> Tensor | Gaussian:
        """The prediction of rows (n_tasks, n_query, n_features)."""
        samples = self._query_samples(state, X_query)
        if isinstance(samples, Gaussian):
            return gaussian_moments(samples)
        return mask_absent(mean_probabilities(samples), state["present"])

    def _build_reader(
        self, n_inputs: int, n_values: int, n_answers: int, *sizes: int
    ) -> Reader:
        """The architecture's reader, whose rows have z beside them."""
        inner = super()._build_reader(
            n_inputs + self.latent_size, n_values, n_answers, *sizes
        )
        hidden_size, n_layers, _ = sizes
        return LatentReader(
            inner,
            n_inputs + n_values,
            self.latent_size,
            self.n_samples,
            (hidden_size,) * n_layers,
        )

    def _query_samples(
        self, state: dict[str, Tensor], X_query: Tensor
    ) -> Tensor | Gaussian:
        """The prediction given each sample, (n_tasks, n_samples, n_query, ...)."""
        # To the reader each sample's rows are rows like others, and as independent.
        rows = X_query.repeat(1, self.n_samples, 1)
        return _each(
            super().query(state, rows),
            lambda part: part.unflatten(1, (self.n_samples, -1)),
        )


class LatentReader(Reader):
    """A reader whose query rows come once for every sample of a latent vector.

    Parameters
    ----------
    inner : Reader
        Of rows that end in the latent vector; it is zero in support rows.
    n_inputs : int
        Width of a support row and what is known of it.
    latent_size : int
        Width of the latent vector.
    n_samples : int
        Number of samples, even.
    hidden_layer_sizes : tuple of int
        Of the network that embeds support rows for the latent path.
    """

    def __init__(
        self,
        inner: Reader,
        n_inputs: int,
        latent_size: int,
        n_samples: int,
        hidden_layer_sizes: tuple[int, ...],
    ):
        super().__init__()
        self.inner = inner
        width = hidden_layer_sizes[-1]
        self.encoder = unit_scale_mlp(n_inputs, hidden_layer_sizes, width)
        self.to_latent = nn.Linear(width + 1, 2 * latent_size)
        # In pairs of opposite sign, so that their mean is that of the Gaussian.
        half = torch.randn(n_samples // 2, latent_size)
        self.register_buffer("nodes", torch.cat([half, -half]))

    def read(self, rows: Tensor, values: Tensor, mask: Tensor) -> State:
        """Read the support, and place the samples of the latent vector.

        "latent" is of shape (n_sets, n_samples, latent_size).
        """
        embedded = self.encoder(torch.cat([rows, values], -1))
        pooled = masked_mean_pool(embedded, mask)
        context = torch.cat([pooled, log_counts(mask, pooled)], -1)
        mean, raw = self.to_latent(context).chunk(2, -1)
        std = LEAST_STD + STD_RANGE * raw.sigmoid()
        latent = mean.unsqueeze(1) + std.unsqueeze(1) * self.nodes
        blank = rows.new_zeros(*rows.shape[:2], mean.shape[-1])
        state = self.inner.read(torch.cat([rows, blank], -1), values, mask)
        return {**state, "latent": latent, "latent_mean": mean, "latent_std": std}

    def answer(self, state: State, rows: Tensor) -> Tensor:
        """Outputs (n_sets, n_samples * n, n_outputs), sample by sample."""
        latent = state["latent"]  # (n_sets, n_samples, latent_size)
        n_query = rows.shape[1] // latent.shape[1]
        latent = latent.repeat_interleave(n_query, 1)
        return self.inner.answer(state, torch.cat([rows, latent], -1))


def _each(
    prediction: Tensor | Gaussian, change: Callable[[Tensor], Tensor]
) -> Tensor | Gaussian:
    """A prediction with its tensors, of any shape, changed."""
    if isinstance(prediction, Gaussian):
        return Gaussian(change(prediction.mean), change(prediction.std))
    return change(prediction)
