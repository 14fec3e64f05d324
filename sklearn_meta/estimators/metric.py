"""Prototypical networks: adapting is a mean per class in a learned space."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils._param_validation import StrOptions

from sklearn_meta.base import BaseMetaEstimator, HeldOut
from sklearn_meta.estimators.classifier import CLASSIFIER_CONSTRAINTS
from sklearn_meta.estimators.networks import build_network, embed_rows
from sklearn_meta.estimators.whitened import (
    MIN_CLASSES_TO_CROSS_FIT,
    WhitenedClassesMixin,
)
from sklearn_meta.exceptions import FewTasksWarning, warn_user
from sklearn_meta.learners import (
    DiscriminantLearner,
    LogisticPrototypeLearner,
    PrototypeLearner,
)
from sklearn_meta.learners.contract import Learner
from sklearn_meta.targets import LocalClasses
from sklearn_meta.tasks import TaskRows, TaskWindows
from sklearn_meta.whitening import FORMS, VIEWS

__all__ = ["ProtoNetClassifier"]

# up to here (counting each class of each task) a network was worse in every trial
MAX_CLASSES_TO_WHITEN = 64
# below, what is learned says little of new classes
MIN_CLASSES_TO_TRUST = 10
FEW_FOR_A_NETWORK = (
    "the network will fit these closely and know little of others. Bring more classes, "
    "or use the closed form: embedding='whitened', with module=None and "
    "distance='euclidean'."
)
WHITENED_INSTEAD = (
    "rows are whitened in closed form, where a network would fit these closely. Bring "
    "more classes, or say embedding='whitened' if there are no more."
)


class ProtoNetClassifier(WhitenedClassesMixin, BaseMetaEstimator):
    """Classifier by the nearest class mean in a learned space (prototypical network).

    The outer loop learns an embedding of the rows in which a class is well described
    by the mean of its support rows [1]_. Adapting takes no gradient step of the
    embedding.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=None
        Widths of the hidden layers of the embedding; the last is that of its output.
        None is (64, 64).
    activation : {"relu", "tanh", "gelu", "silu"}, default="relu"
        Their activation.
    embedding : {"auto", "network", "whitened"}, default="auto"
        "network": a network, with the nearest prototype as in [1]_. "whitened": the
        rows beside their whitening by the covariances within and between the
        meta-training classes, in closed form, with a logistic head that starts at the
        prototypes; only eleven numbers are learned, so that few classes are enough
        (``head`` has another).
        "auto": "whitened" for labels local to the task with at most 64 classes (of all
        tasks), if no network is asked for by ``hidden_layer_sizes``, ``module`` or
        another ``distance``. ``embedding_`` tells. Below 10 such classes ``fit`` warns,
        unless the closed form is asked for.
    head : {"logistic", "discriminant"}, default="logistic"
        What reads whitened rows. "discriminant" is probabilistic linear discriminant
        analysis [4]_ in closed form: class means shrunk by how far classes spread along
        each axis, with twenty learned numbers. It is the cheapest, and good with one
        row of a class; "logistic" is better with more.
    distance : {"euclidean", "cosine", "mahalanobis"}, default="euclidean"
        Squared Euclidean distance, cosine similarity, or the squared Mahalanobis
        distance under a regularised covariance per class [2]_.
    module : class or callable, default=None
        Called as ``module(n_features=..., n_outputs=..., **module_params)``, with those
        of the two that it takes; returns an ``nn.Module`` that maps rows
        (n, n_features) to an embedding. None is a multi-layer perceptron. An
        instance is copied, so that all fits start from its weights. Layers that mix
        rows (BatchNorm) are rejected.
    module_params : dict, default=None
        Keyword arguments of ``module``; ``set_params(module__x=...)`` sets one.
    pooled_estimator : estimator or "auto", default=None
        A scikit-learn classifier that is fitted on all rows and ignores tasks; labels
        must be shared. The logarithms of its probabilities become features and the
        point from which the learner's logits are counted; in meta-training they come
        out of fold, with folds split by task. "auto" takes a linear model, gradient
        boosting or their mean, whichever has the least log-loss out of fold.
    label_mode : {"auto", "shared", "task"}, default="auto"
        "shared": a label means the same in every task. "task": labels are local to
        their task, so that new tasks may bring new classes. "auto": one table (or a
        single task) is learned from class by class ("task"); the labels of several
        tasks are shared if some task has all of them. ``label_mode_`` tells.
    n_ways : int, default=5
        Most classes in an episode, at least 2, where labels are local to the task.
    n_shots : int or (int, int), default=(1, 10)
        Support rows in an episode, per class. With
        shared labels rows are drawn without regard to class: up to that many per class
        on average, and for a range as few rows as its lower end. A pair is a
        range, both ends included, drawn anew for each episode: one model then serves
        all support sizes.
    order : {"random", "first"}, default="random"
        Which rows of a task are the support of its episodes: any, or the first ones, in
        the order in which ``fit`` gets them. "first" is for tables that grow in time.
    n_queries : int, default=8
        Query rows in an episode, per class. At least 1.
    meta_batch_size : int, default=24
        Episodes in an outer step.
    max_iter : int, default=300
        Outer steps.
    lr : float, default=0.003
        Largest learning rate of the outer loop.
    lr_schedule : {"one_cycle", "constant"}, default="one_cycle"
        "one_cycle" rises over the first tenth of the steps and falls to zero along a
        cosine.
    optimizer : class, default=None
        A ``torch.optim.Optimizer``; None is AdamW with weight decay 1e-3.
    optimizer_params : dict, default=None
        Its keyword arguments; ``set_params(optimizer__x=...)`` sets one.
    max_grad_norm : float, default=2.0
        Norm to which the outer gradient is clipped; None does not clip.
    early_stopping : bool or "auto", default="auto"
        Whether tasks are held out, to keep the weights that are best on them and to
        stop without gain. "auto" does so from 10 tasks on,
        or classes where one table is learned from class by class.
    validation_fraction : float, default=0.2
        Fraction of the TASKS held out, in (0, 1).
    n_iter_no_change : int, default=5
        Evaluations without gain before stopping; there is one every 50 outer steps
        (more often in runs below 600), and no stop in the first 40 % of them.
    standardize : bool, default=True
        Whether features are scaled to mean 0 and standard deviation 1 over the
        meta-training rows and cut at 6 standard deviations.
    callbacks : list, default=None
        skorch callbacks of the outer loop; an epoch is the stretch between two
        evaluations.
    checkpoint : str, path-like or Checkpoint, default=None
        A directory for checkpoints, one every 60 seconds (:class:`Checkpoint` sets
        that). A killed fit that is called again with the same parameters and data
        goes on from there, to the same weights; a fit that ends removes its file.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the weights and scales of the last one.
    compile : False or "cudagraphs", default=False
        Whether an NVIDIA GPU repeats outer steps as a CUDA graph, which takes the work
        of starting thousands of small kernels from the CPU. The first few steps are
        taken one by one; so are all, with a warning, where a step cannot be repeated.
    device : str or torch.device, default="auto"
        "auto" is the GPU where there is one. "accelerate" shares each meta-batch among
        the processes of ``accelerate launch``. Results are on the CPU.
    random_state : int, RandomState instance or None, default=None
        Draws weights, episodes and held-out tasks.
    verbose : int, default=0
        Whether a progress bar is shown.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels: those of ``fit`` if they are shared, else those of the support.
    label_mode_ : {"shared", "task"}
        What labels mean.
    pooled_ : PooledModel or None
        The pooled model for new tasks: ``pooled_.model`` is the fitted estimator and
        ``pooled_.name`` what "auto" chose.
    task_classes_ : dict
        After ``adapt``: the classes of each task, by its id.
    embedding_ : {"network", "whitened"}
        The embedding in use.
    learner_ : nn.Module
        The trained learner, in float64.
    n_tasks_ : int
        Tasks seen by ``fit``; 1 for one table.
    n_iter_ : int
        Outer steps taken.
    loss_curve_ : list of float
        Loss of each outer step, in nats per query row.
    validation_scores_ : list of float or None
        Minus the loss on the held-out tasks, at each evaluation.
    history_ : skorch.history.History
        Losses and times of each evaluation.
    device_ : torch.device
        Where the learner lives.
    n_features_in_ : int
        Number of features seen by ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if they are all strings.

    Raises
    ------
    ValueError
        In ``fit``, if a parameter or the data is not what was expected.

    See Also
    --------
    MAMLClassifier : Goes on from the prototypes with gradient steps.
    sklearn.neighbors.NearestCentroid : The same without a learned space.

    Notes
    -----
    Unlike in [1]_, distances have a learned scale that may depend on the number of
    shots, and prototypes are shrunk by a learned weight: towards the centre of the
    support, or, where labels are shared, towards a learned prototype of each class, so
    that a class missing from the support keeps a probability.

    The logistic head of the whitened embedding solves the softmax regression of the
    support with the bound of [3]_ from the class means on. Its eleven numbers are
    learned on classes held out of the covariances, in four folds, since classes that
    the covariances have seen look better separated than new ones will. The head's cost
    is cubic in the support rows: of a larger support it uses 2000 rows, evenly over the
    classes, and ``adapt`` says so.

    References
    ----------
    .. [1] J. Snell, K. Swersky and R. Zemel, "Prototypical networks for few-shot
       learning", NeurIPS 2017, algorithm 1.
    .. [2] P. Bateni, R. Goyal, V. Masrani, F. Wood and L. Sigal, "Improved few-shot
       visual classification", CVPR 2020, equation 2.
    .. [3] D. Böhning, "Multinomial logistic regression algorithm", Annals of the
       Institute of Statistical Mathematics 44, 1992.
    .. [4] S. Ioffe, "Probabilistic linear discriminant analysis", ECCV 2006.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_meta import ProtoNetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = ProtoNetClassifier(embedding="whitened", max_iter=20, random_state=0)
    >>> model = model.fit(X[y < 6], y[y < 6])
    >>> X_new, y_new = X[y >= 6], y[y >= 6]  # digits it has not seen
    >>> model.adapt(X_new[:20], y_new[:20]).classes_
    array([6, 7, 8, 9])
    """

    _parameter_constraints: dict = {
        **BaseMetaEstimator._parameter_constraints,
        **CLASSIFIER_CONSTRAINTS,
        "hidden_layer_sizes": [tuple, list, None],
        "embedding": [StrOptions({"auto", "network", "whitened"})],
        "head": [StrOptions({"logistic", "discriminant"})],
        "distance": [StrOptions({"euclidean", "cosine", "mahalanobis"})],
    }

    def __init__(
        self,
        hidden_layer_sizes=None,
        *,
        activation="relu",
        embedding="auto",
        head="logistic",
        distance="euclidean",
        module=None,
        module_params=None,
        pooled_estimator=None,
        label_mode="auto",
        n_ways=5,
        n_shots=(1, 10),
        order="random",
        n_queries=8,
        meta_batch_size=24,
        max_iter=300,
        lr=0.003,
        lr_schedule="one_cycle",
        optimizer=None,
        optimizer_params=None,
        max_grad_norm=2.0,
        early_stopping="auto",
        validation_fraction=0.2,
        n_iter_no_change=5,
        standardize=True,
        callbacks=None,
        checkpoint=None,
        warm_start=False,
        compile=False,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.embedding = embedding
        self.head = head
        self.distance = distance
        self.module = module
        self.module_params = module_params
        self.pooled_estimator = pooled_estimator
        self.label_mode = label_mode
        self.n_ways = n_ways
        self.n_shots = n_shots
        self.order = order
        self.n_queries = n_queries
        self.meta_batch_size = meta_batch_size
        self.max_iter = max_iter
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.optimizer = optimizer
        self.optimizer_params = optimizer_params
        self.max_grad_norm = max_grad_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.standardize = standardize
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.warm_start = warm_start
        self.compile = compile
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _whitens(self) -> bool:
        """Whiten rows where no network embeds them."""
        return self.embedding_ == "whitened"

    @property
    def _forms(self) -> Sequence[str]:
        """The forms of a row that the head reads."""
        if self.head == "logistic":
            return FORMS
        return tuple(form for view in VIEWS for form in (view, f"{view}/spread"))

    def _meta_train(
        self, rows: TaskRows, resume: bool, classes: Any, windows: TaskWindows | None
    ) -> None:
        """Say so where classes are few, and learn from all tasks.

        A member of a mixture, which is judged on held-out classes, learns without this.
        """
        if not resume and windows is None:
            self._warn_of_few_classes(rows)
        super()._meta_train(rows, resume, classes, windows)

    def _warn_of_few_classes(self, rows: TaskRows) -> None:
        """Warn of new classes to be told apart after few, and say what is done."""
        label_mode = self._choose_label_mode(rows)
        n_classes = len(LocalClasses.of(rows.y, rows.codes).cell_task)
        if label_mode == "shared" or n_classes >= MIN_CLASSES_TO_TRUST:
            return
        network = self._choose_embedding(label_mode, n_classes) == "network"
        asked_for = self.embedding == "whitened" or self.head == "discriminant"
        # of fewer than can be cross-fitted there is a graver warning
        if network or not (asked_for or n_classes < MIN_CLASSES_TO_CROSS_FIT):
            warn_user(
                f"Expected at least {MIN_CLASSES_TO_TRUST} classes from which to learn "
                f"to tell new ones apart, got {n_classes}: "
                f"{FEW_FOR_A_NETWORK if network else WHITENED_INSTEAD}",
                FewTasksWarning,
            )

    def _learn_targets(self, rows: TaskRows) -> None:
        """Choose the embedding and, in closed form, learn how classes differ."""
        cells = LocalClasses.of(rows.y, rows.codes)
        n_classes = len(cells.cell_task)
        self.embedding_ = self._choose_embedding(self.label_mode_, n_classes)
        super()._learn_targets(rows)

    def _choose_embedding(self, label_mode: str, n_classes: int) -> str:
        """Return the embedding to use; "auto" whitens where classes are few."""
        default_network = self.module is None and self.distance == "euclidean"
        can_whiten = label_mode == "task" and default_network
        if self.embedding == "network" and self.head == "logistic":
            return "network"
        if self.embedding == "auto" and self.head == "logistic":
            few = n_classes <= MAX_CLASSES_TO_WHITEN
            whitens = can_whiten and few and self.hidden_layer_sizes is None
            return "whitened" if whitens else "network"
        if self.embedding == "network" or not can_whiten:
            raise ValueError(
                "embedding='whitened' and head='discriminant' need labels local to the "
                "task, module=None, distance='euclidean' and no embedding='network'; "
                f"got label_mode_={label_mode!r}, {self.module!r}, "
                f"{self.distance!r} and {self.embedding!r}. Use embedding='network' "
                "with head='logistic', which a network ignores."
            )
        return "whitened"

    def _build_learner(self, n_features: int, n_outputs: int) -> Learner:
        """Build the head of the whitened rows, or a network with prototypes."""
        if self._whitens():
            if self.head == "discriminant":
                return DiscriminantLearner(len(VIEWS))
            return LogisticPrototypeLearner()
        shared = self.label_mode_ == "shared"
        return PrototypeLearner(
            build_network(self, n_features, None),
            distance=self.distance,
            n_shared_classes=n_outputs if shared else None,
            n_offsets=self._n_offsets(),
        )

    def _learned_blocks(self, X: np.ndarray) -> list[np.ndarray]:
        """Return rows (n_rows, width), then what was learned: whitened or embedded."""
        if isinstance(self.learner_, PrototypeLearner):
            X = self._scale(X)
            return [X, embed_rows(self.learner_.network, X, self.device_)]
        blocks = self._in_forms(X, ("scaled", "plain", "white/between"))
        return np.split(blocks, [2 * X.shape[1]], axis=1)

    def _hold_out(
        self, rows: TaskRows, validation: TaskRows | None, random_state: Any
    ) -> HeldOut:
        """Hold nothing out for a few numbers that are cross-fitted."""
        if self.embedding_ == "network":
            return super()._hold_out(rows, validation, random_state)
        if self.early_stopping is True:
            raise ValueError(
                "early_stopping=True has nothing to stop for embedding='whitened', "
                "which learns a few numbers on held-out classes. Use 'auto' or False."
            )
        return HeldOut(rows, None)
