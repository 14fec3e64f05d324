"""MAML and its relatives for labels."""

from sklearn_meta.estimators.classifier import (
    CLASSIFIER_CONSTRAINTS,
    MetaClassifierMixin,
)
from sklearn_meta.estimators.gradient import GradientEstimator
from sklearn_meta.learners import GradientLearner

__all__ = ["MAMLClassifier"]


class MAMLClassifier(MetaClassifierMixin, GradientEstimator):
    """Classifier that adapts to a task by a few gradient steps (MAML).

    The outer loop learns weights from which a few steps of gradient descent on the
    support rows of a task lead to a low loss on its query rows [1]_.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(64, 64)
        Widths of the hidden layers.
    activation : {"relu", "tanh", "gelu", "silu"}, default="relu"
        Their activation.
    variant : {"maml", "fomaml", "anil", "metasgd", "maml++", "reptile", "imaml"}, \
default="maml"
        "maml": the outer gradient goes through the inner steps (second order) [1]_.
        "fomaml": it does not. "anil": only the last layer adapts [2]_. "metasgd": each
        parameter learns its inner rate [3]_. "maml++": each step and layer learns one,
        and early in training every step has a query loss [4]_. "reptile": the start
        moves towards where the steps end, without a query set [5]_. "imaml": each task
        is pulled to the start, and the outer gradient is taken at its minimum [6]_.
    inner_lr : float, default=0.1
        Rate of the inner steps, > 0; for "metasgd" and "maml++" where the rates start.
        "imaml" takes an SGD step back that leads up, and halves the rate of that task.
    inner_steps : int, default=5
        Inner steps in training, at least 0; at least 1 for "maml++" and "reptile".
        "imaml" wants enough to come near a minimum.
    inner_optimizer : {"sgd", "momentum", "adam"}, default="sgd"
        How inner gradients become steps. Outer gradients go through it.
    inner_batch_size : int, default=10
        Rows of an inner step in training, for "reptile" only.
    proximity : float, default=0.5
        Strength of the pull to the start, > 0, for "imaml" only. Far below
        ``1 / (inner_lr * inner_steps)`` the steps end before they feel it.
    cg_steps : int, default=5
        Steps of conjugate gradients in an outer gradient, for "imaml" only; 0 is first
        order.
    adapt_steps : int, default=None
        Inner steps of ``adapt``; None is ``inner_steps``. A task on which they diverge
        keeps its best step, with a DivergenceWarning.
    module : class or callable, default=None
        Called as ``module(n_features=..., n_outputs=..., **module_params)``, with those
        of the two that it takes; returns an ``nn.Module`` that maps rows
        (n, n_features) to logits, or to an embedding where labels are local to the
        task. None is a multi-layer perceptron. An instance is copied, so that all fits
        start from its weights. Layers that mix rows (BatchNorm) are rejected.
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
    max_iter : int, default=600
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
    MAMLRegressor : The same for a numeric target.
    ProtoNetClassifier : Adapts in closed form.

    Notes
    -----
    With shared labels the network ends in a linear head, one output per class. With
    labels local to the task it is an embedding, and a linear head starts at the
    prototypes of the support (ProtoMAML [7]_), so that any number of classes works and
    no label has a meaning of its own. Unlike in [7]_, its logits have a learned scale.

    "reptile" learns the scale of logits, which its inner loop does not move, from query
    rows. ``learner_.engine`` tells how inner steps are computed; the classes in
    :mod:`sklearn_meta.learners` say more about each variant.

    References
    ----------
    .. [1] C. Finn, P. Abbeel and S. Levine, "Model-agnostic meta-learning for fast
       adaptation of deep networks", ICML 2017, algorithms 1 and 2.
    .. [2] A. Raghu, M. Raghu, S. Bengio and O. Vinyals, "Rapid learning or feature
       reuse? Towards understanding the effectiveness of MAML", ICLR 2020.
    .. [3] Z. Li, F. Zhou, F. Chen and H. Li, "Meta-SGD: learning to learn quickly for
       few-shot learning", arXiv:1707.09835, 2017, algorithm 1.
    .. [4] A. Antoniou, H. Edwards and A. Storkey, "How to train your MAML", ICLR 2019,
       section 4.
    .. [5] A. Nichol, J. Achiam and J. Schulman, "On first-order meta-learning
       algorithms", arXiv:1803.02999, 2018, algorithm 2.
    .. [6] A. Rajeswaran, C. Finn, S. Kakade and S. Levine, "Meta-learning with implicit
       gradients", NeurIPS 2019, equations 3 and 6.
    .. [7] E. Triantafillou et al., "Meta-Dataset: a dataset of datasets for learning
       to learn from few examples", ICLR 2020, section 3.

    Examples
    --------
    >>> from sklearn_meta import MAMLClassifier
    >>> from sklearn_meta.datasets import make_blob_tasks
    >>> tasks = make_blob_tasks(12, 30, n_classes=2, random_state=0)
    >>> model = MAMLClassifier(max_iter=20, random_state=0).fit(tasks[:10])
    >>> X, y = tasks[11]
    >>> model.adapt(X[:10], y[:10]).predict_proba(X[10:]).shape
    (20, 2)
    """

    _parameter_constraints: dict = {
        **GradientEstimator._parameter_constraints,
        **CLASSIFIER_CONSTRAINTS,
    }

    def __init__(
        self,
        hidden_layer_sizes=(64, 64),
        *,
        activation="relu",
        variant="maml",
        inner_lr=0.1,
        inner_steps=5,
        inner_optimizer="sgd",
        inner_batch_size=10,
        proximity=0.5,
        cg_steps=5,
        adapt_steps=None,
        module=None,
        module_params=None,
        pooled_estimator=None,
        label_mode="auto",
        n_ways=5,
        n_shots=(1, 10),
        order="random",
        n_queries=8,
        meta_batch_size=24,
        max_iter=600,
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
        self.variant = variant
        self.inner_lr = inner_lr
        self.inner_steps = inner_steps
        self.inner_optimizer = inner_optimizer
        self.inner_batch_size = inner_batch_size
        self.proximity = proximity
        self.cg_steps = cg_steps
        self.adapt_steps = adapt_steps
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

    def _build_learner(self, n_features: int, n_outputs: int) -> GradientLearner:
        """Build a linear head for shared labels, prototypes for local ones."""
        if self.label_mode_ == "shared":
            return self._gradient_learner(
                n_features,
                n_outputs,
                head="linear",
                likelihood="categorical",
                n_offsets=self._n_offsets(),
            )
        return self._gradient_learner(
            n_features, None, head="prototypes", likelihood="categorical"
        )
