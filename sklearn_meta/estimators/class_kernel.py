"""Gaussian process classification: adapting is the mode of a posterior."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from torch import nn

from sklearn_meta.base import BaseMetaEstimator, HeldOut
from sklearn_meta.estimators.classifier import CLASSIFIER_CONSTRAINTS
from sklearn_meta.estimators.networks import build_network
from sklearn_meta.estimators.whitened import WhitenedClassesMixin
from sklearn_meta.learners import (
    LocalClassKernelLearner,
    ProcessLearner,
    SharedClassKernelLearner,
)
from sklearn_meta.learners.architectures import READERS
from sklearn_meta.learners.contract import Learner
from sklearn_meta.targets import check_known_labels
from sklearn_meta.tasks import TaskRows

__all__ = ["DeepKernelClassifier"]

# the network that corrects the process is small: it adds to what is right already
CORRECTION_WIDTH = 48

# of a support: adapting to as many takes seconds with ten classes
MAX_ROWS = 1000


class DeepKernelClassifier(WhitenedClassesMixin, BaseMetaEstimator):
    """Classifier by a Gaussian process whose kernel is learned across tasks.

    A task's logits are those of a pooled model plus a function of the task's own, drawn
    from a Gaussian process. Adapting finds the most probable function given the support
    rows, and how sure it is (Laplace's approximation [1]_); no step size, nothing that
    can diverge. Without hidden layers a few numbers are learned: how far tasks differ
    in level, in each slope and in shape, and over which distances. So few tasks are
    enough. With them, the kernel is deep ([2]_, [3]_).

    Where labels are local to the task, the kernel sees each row standardised, whitened
    by the covariance within classes, and weighed by how far classes lie apart; its
    numbers are learned on classes that these statistics have not seen.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=()
        Widths of the hidden layers of a network whose output the kernel takes too; the
        last is that of its output. None by default.
    correction : {"transformer", "attentive", "cnp", "hypernetwork", "recurrent"}, \
default=None
        A network that reads the support and whose logits are added, as in
        :class:`ModelBasedMetaClassifier`. It starts at zero and is trained along.
    activation : {"relu", "tanh", "gelu", "silu"}, default="gelu"
        Activation of the hidden layers.
    module : class or callable, default=None
        Called as ``module(n_features=..., **module_params)``, or with fewer; returns an
        ``nn.Module`` that maps rows (n, n_features) to features of any width, in place
        of the hidden layers. An instance is copied, so that all fits start from its
        weights. Layers that mix rows (BatchNorm) are rejected.
    module_params : dict, default=None
        Keyword arguments of ``module``; ``set_params(module__x=...)`` sets one.
    pooled_estimator : estimator or "auto", default=None
        A scikit-learn classifier that is fitted on all rows and ignores tasks; labels
        must be shared. The logarithms of its probabilities are where the logits start,
        and features of the kernel; in meta-training they come out of fold, with folds
        split by task. "auto" takes a linear model, gradient boosting or their mean,
        whichever has the least log-loss out of fold. None starts from class
        frequencies.
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
        all support sizes. With shared labels the logarithm of the number is uniform.
    order : {"random", "first"}, default="random"
        Which rows of a task are the support of its episodes: any, or the first ones, in
        the order in which ``fit`` gets them. "first" is for tables that grow in time.
    n_queries : int, default=8
        Query rows in an episode, per class. At least 1.
    meta_batch_size : int, default=12
        Episodes in an outer step.
    max_iter : int, default=160
        Outer steps. A network or a correction takes about twice as many.
    lr : float, default=0.003
        Largest learning rate of the outer loop. The numbers of the kernel are scaled
        so that they move twenty times as far as the weights of a network.
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
        stop without gain. "auto" does so from 10 tasks on if there is a network or a
        correction; the few numbers of a kernel need no tasks held out. Never where
        labels are local to the task.
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
        "auto" is the GPU where there is one. Results are on the CPU.
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
    task_classes_ : dict
        After ``adapt``: the classes of each task, by its id.
    class_log_prior_ : ndarray of shape (n_classes,)
        Logarithms of the frequencies of shared labels.
    pooled_ : PooledModel or None
        The pooled model for new tasks: ``pooled_.model`` is the fitted estimator and
        ``pooled_.name`` what "auto" chose.
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
    ProtoNetClassifier : Compares rows with class means.
    ModelBasedMetaClassifier : A network reads the support.

    Notes
    -----
    Probabilities are those of the mode, drawn together where the posterior is wide by
    a factor that is learned too. That of a posterior taken at its word is much worse:
    pooled probabilities are averages over tasks already.

    The cost of adapting is cubic in the number of support rows, for each class. Of more
    than 1000 rows it takes 1000, with a
    :class:`~sklearn_meta.exceptions.LargeSupportWarning`.

    References
    ----------
    .. [1] C. E. Rasmussen and C. K. I. Williams, "Gaussian Processes for Machine
       Learning", MIT Press, 2006, section 3.5.
    .. [2] A. G. Wilson et al., "Deep kernel learning", AISTATS 2016.
    .. [3] M. Patacchiola et al., "Bayesian meta-learning for the few-shot setting via
       deep kernels", NeurIPS 2020.

    Examples
    --------
    >>> from sklearn_meta import DeepKernelClassifier
    >>> from sklearn_meta.datasets import make_blob_tasks
    >>> tasks = make_blob_tasks(12, 30, n_classes=2, random_state=0)
    >>> model = DeepKernelClassifier(max_iter=20, random_state=0).fit(tasks[:10])
    >>> X, y = tasks[11]
    >>> model.adapt(X[:10], y[:10]).predict(X[10:]).shape
    (20,)
    """

    _parameter_constraints: dict = {
        **BaseMetaEstimator._parameter_constraints,
        **CLASSIFIER_CONSTRAINTS,
        "correction": [StrOptions(set(READERS)), None],
    }
    _log_uniform_shots = True
    _forms: Sequence[str] = ("plain", "scaled", "white", "white/between")

    def __init__(
        self,
        hidden_layer_sizes=(),
        *,
        correction=None,
        activation="gelu",
        module=None,
        module_params=None,
        pooled_estimator=None,
        label_mode="auto",
        n_ways=5,
        n_shots=(1, 10),
        order="random",
        n_queries=8,
        meta_batch_size=12,
        max_iter=160,
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
        self.correction = correction
        self.activation = activation
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
        """Whiten the rows of labels that are local to the task."""
        return self.label_mode_ == "task"

    def _max_head_rows(self) -> int:
        """Bound the rows of any support: one matrix a class is inverted."""
        return MAX_ROWS

    def _learn_targets(self, rows: TaskRows) -> None:
        """Learn the frequencies of shared labels, or how local classes differ."""
        super()._learn_targets(rows)
        if self.label_mode_ == "shared":
            position = check_known_labels(rows.y, self.classes_, rows.place_of)
            # as if each class had been seen once more: one may be missing
            count = 1 + np.bincount(position, minlength=len(self.classes_))
            self.class_log_prior_ = np.log(count / count.sum())

    def _build_learner(self, n_features: int, n_outputs: int) -> Learner:
        """Build a Gaussian process for the kind of labels."""
        if self.label_mode_ == "task":
            n_columns = n_features * len(self._forms)
            return LocalClassKernelLearner(
                n_features,
                len(self._forms),
                network=self._build_network(n_features),
                correction=self._build_correction(n_columns, n_outputs),
            )
        return SharedClassKernelLearner(
            n_features,
            n_outputs,
            n_offsets=self._n_offsets(),
            log_prior=torch.as_tensor(self.class_log_prior_, dtype=torch.float32),
            network=self._build_network(n_features),
            correction=self._build_correction(n_features, n_outputs),
        )

    def _has_network(self) -> bool:
        """Return whether the kernel takes learned features."""
        return self.module is not None or len(self.hidden_layer_sizes) > 0

    def _build_network(self, n_columns: int) -> nn.Module | None:
        """Build the network of the features, if there are to be any."""
        return build_network(self, n_columns, None) if self._has_network() else None

    def _build_correction(
        self, n_columns: int, n_outputs: int
    ) -> ProcessLearner | None:
        """Build the network whose logits are added, if there is to be one."""
        if self.correction is None:
            return None
        return ProcessLearner(
            n_columns,
            n_outputs,
            likelihood="categorical",
            architecture=self.correction,
            class_equivariant=self.label_mode_ == "task",
            hidden_size=CORRECTION_WIDTH,
        )

    def _hold_out(
        self, rows: TaskRows, validation: TaskRows | None, random_state: Any
    ) -> HeldOut:
        """Hold nothing out for the few numbers of a kernel, unless asked to."""
        if self.label_mode_ == "task":
            if self.early_stopping is True:
                raise ValueError(
                    "early_stopping=True holds tasks out, but where labels are local "
                    "to the task all classes are needed: numbers are learned on those "
                    "held out of the statistics. Use 'auto' or False."
                )
            return HeldOut(rows, None)
        shallow = not self._has_network() and self.correction is None
        if shallow and self.early_stopping == "auto":
            return HeldOut(rows, None)
        return super()._hold_out(rows, validation, random_state)
