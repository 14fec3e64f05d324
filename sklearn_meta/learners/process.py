"""Neural processes: a network reads the support set and answers queries."""

from torch import Tensor, nn

from sklearn_meta.functional import (
    STD_FLOOR,
    Gaussian,
    add_offset,
    apply_rows,
    bounded_std,
    check_row_independent,
    class_counts,
    last_columns,
    mask_absent,
    output_size,
    unbounded_std,
    zero_padding,
)
from sklearn_meta.learners.architectures import READERS, WITH_HEADS
from sklearn_meta.learners.contract import Learner
from sklearn_meta.learners.parts import State
from sklearn_meta.learners.reader import Reader

_LIKELIHOODS = ("gaussian", "categorical")


class ProcessLearner(Learner):
    """Model-based learner: adapting is one forward pass over the support rows.

    Parameters
    ----------
    n_features : int
        Number of columns of a row.
    n_outputs : int
        Number of classes, or 1 for regression. Ignored if `class_equivariant`.
    likelihood : {"gaussian", "categorical"}
        What the prediction is: a Gaussian for regression, logits for classes.
    architecture : {"cnp", "attentive", "transformer", "hypernetwork", "recurrent"}, \
default="cnp"
        How the support is read: averaged; averaged and attended to by the queries; by a
        transformer; by a network that writes the weights of the task's network; or one
        row after the other.
    encoder : nn.Module, default=None
        Maps rows (n, n_features) to (n, n_embedding) before all else, with an nn.Linear
        last; None uses the rows as they are.
    hidden_size : int, default=64
        Width of the hidden layers, a multiple of `n_heads` where there is attention.
    n_layers : int, default=2
        Number of hidden layers, or of attention blocks, >= 1.
    n_heads : int, default=4
        Number of attention heads.
    class_equivariant : bool, default=False
        Whether classes are local to the task. The network then runs once per class on
        "is it this class", so that any number of classes works, in any order. If not,
        class k means the same in every task.
    std_floor : float, default=STD_FLOOR
        Smallest predicted standard deviation, in units of the target.
    n_offsets : int, default=0
        So many of the last columns of a row are added to the logits, one per class;
        the reader sees them too. Needs classes that are not local to the task.

    Raises
    ------
    ValueError
        If an option is unknown, the encoder mixes rows or has no nn.Linear layer, or
        `hidden_size` is no multiple of `n_heads`.

    Notes
    -----
    The last layer starts at zero: mean 0 and standard deviation 1, or equal
    probabilities, so targets should be standardised. The papers bound the standard
    deviation by 0.1 (CNP) or not at all (TNP-D); here all Gaussian heads share one
    floor.

    References
    ----------
    M. Garnelo et al., "Conditional Neural Processes", ICML 2018.
    H. Kim et al., "Attentive Neural Processes", ICLR 2019.
    T. Nguyen, A. Grover, "Transformer Neural Processes", ICML 2022.
    D. Ha, A. Dai, Q. V. Le, "HyperNetworks", ICLR 2017.
    A. Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks", ICML 2016.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.learners import ProcessLearner
    >>> learner = ProcessLearner(3, 1, likelihood="gaussian", architecture="attentive")
    >>> X, Y = torch.zeros(2, 5, 3), torch.zeros(2, 5, 1)
    >>> mask = torch.ones(2, 5, dtype=torch.bool)
    >>> learner(X, Y, mask, torch.zeros(2, 7, 3)).std.shape
    torch.Size([2, 7])
    """

    mixed_precision = True

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        *,
        likelihood: str,
        architecture: str = "cnp",
        encoder: nn.Module | None = None,
        hidden_size: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        class_equivariant: bool = False,
        std_floor: float = STD_FLOOR,
        n_offsets: int = 0,
    ):
        _check_options(likelihood, architecture, class_equivariant)
        if n_offsets and (class_equivariant or likelihood == "gaussian"):
            raise ValueError(
                f"n_offsets={n_offsets} needs likelihood='categorical' and "
                f"class_equivariant=False; got {likelihood=} and {class_equivariant=}."
            )
        if architecture in WITH_HEADS and hidden_size % n_heads:
            raise ValueError(
                f"hidden_size must be a multiple of n_heads for attention; got "
                f"{hidden_size=} and {n_heads=}."
            )
        super().__init__()
        self.likelihood = likelihood
        self.architecture = architecture
        self.class_equivariant = class_equivariant
        self.std_floor = std_floor
        self.n_offsets = n_offsets
        self.encoder = encoder
        n_inputs = n_features if encoder is None else _encoder_size(encoder)
        n_values = 1 if class_equivariant else n_outputs
        n_answers = 2 if likelihood == "gaussian" else n_values
        self.reader = self._build_reader(
            n_inputs, n_values, n_answers, hidden_size, n_layers, n_heads
        )

    def adapt(
        self, X_support: Tensor, Y_support: Tensor, support_mask: Tensor
    ) -> State:
        """Read the support sets.

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
            The reader's state of shape (n_tasks, n_copies, ...), with one copy per
            class if `class_equivariant`, else one; and "present" (n_tasks, n_classes).
        """
        Y = zero_padding(Y_support, support_mask)
        rows = self._encode(zero_padding(X_support, support_mask))
        n_copies = Y.shape[-1] if self.class_equivariant else 1
        # One set per class, whose values are the indicator of that class.
        values = Y.mT.flatten(0, 1).unsqueeze(-1) if self.class_equivariant else Y
        mask = _repeat(support_mask, n_copies)
        read = self.reader.read(_repeat(rows, n_copies), values, mask)
        state = {key: v.unflatten(0, (-1, n_copies)) for key, v in read.items()}
        # Classes that mean the same in every task keep a logit without support rows.
        present = (class_counts(Y) > 0) | (not self.class_equivariant)
        return {**state, "present": present}

    def query(self, state: State, X_query: Tensor) -> Tensor | Gaussian:
        """Answer query rows.

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
        if self.likelihood == "categorical":
            return self.logits(state, X_query)
        mean, raw = self._answer(state, X_query).unbind(-1)
        start = unbounded_std(1.0, self.std_floor)
        return Gaussian(mean, bounded_std(raw + start, self.std_floor))

    def logits(self, state: State, X_query: Tensor) -> Tensor:
        """Answer query rows as `query` does, where the likelihood is categorical.

        Parameters
        ----------
        state : dict of str to Tensor
            As of `adapt`.
        X_query : Tensor of shape (n_tasks, n_query, n_features)
            Query rows.

        Returns
        -------
        Tensor of shape (n_tasks, n_query, n_classes)
            Logits.
        """
        answers = self._answer(state, X_query)
        if self.class_equivariant:
            n_copies = state["present"].shape[1]
            answers = answers.squeeze(-1).unflatten(0, (-1, n_copies)).mT
        answers = add_offset(answers, last_columns(X_query, self.n_offsets))
        return mask_absent(answers, state["present"])

    def _answer(self, state: State, X_query: Tensor) -> Tensor:
        """What the reader says of query rows, (n_tasks * n_copies, n_query, n)."""
        n_copies = state["present"].shape[1] if self.class_equivariant else 1
        sets = {key: v.flatten(0, 1) for key, v in state.items() if key != "present"}
        return self.reader.answer(sets, _repeat(self._encode(X_query), n_copies))

    def _build_reader(
        self, n_inputs: int, n_values: int, n_answers: int, *sizes: int
    ) -> Reader:
        """The architecture's reader."""
        return READERS[self.architecture](n_inputs, n_values, n_answers, *sizes)

    def _encode(self, X: Tensor) -> Tensor:
        """Rows (n_tasks, n_rows, n_inputs) as the reader sees them."""
        return X if self.encoder is None else apply_rows(self.encoder, X)


def _repeat(rows: Tensor, n_copies: int) -> Tensor:
    """Each set of rows (n_sets, n, width) so many times, one after another.

    As it is for one, since a copy would cost a layer.
    """
    return rows if n_copies == 1 else rows.repeat_interleave(n_copies, 0)


def _check_options(likelihood: str, architecture: str, class_equivariant: bool) -> None:
    """Reject unknown options, and classes in a regression."""
    if likelihood not in _LIKELIHOODS:
        raise ValueError(
            f"likelihood must be one of {_LIKELIHOODS}; got {likelihood!r}."
        )
    if architecture not in READERS:
        raise ValueError(
            f"architecture must be one of {tuple(READERS)}; got {architecture!r}."
        )
    if class_equivariant and likelihood == "gaussian":
        raise ValueError(
            "class_equivariant=True needs likelihood='categorical'; got 'gaussian'."
        )


def _encoder_size(encoder: nn.Module) -> int:
    """Width of the encoder's output, after checking that it keeps rows apart."""
    check_row_independent(encoder)
    size = output_size(encoder)
    if size is None:
        raise ValueError(
            "expected an encoder that ends in an nn.Linear layer, from which its width "
            f"is read; got {type(encoder).__name__}. Append an nn.Linear to it."
        )
    return size
