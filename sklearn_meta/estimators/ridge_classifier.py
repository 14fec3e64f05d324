"""A ridge regression of labels on learned features (R2-D2)."""

from sklearn_meta.estimators.classifier import (
    CLASSIFIER_CONSTRAINTS,
    MetaClassifierMixin,
)
from sklearn_meta.estimators.ridge import RidgeEstimator
from sklearn_meta.learners import RidgeLearner

__all__ = ["RidgeHeadClassifier"]


class RidgeHeadClassifier(MetaClassifierMixin, RidgeEstimator):
    """Classifier with a ridge regression on learned features (R2-D2).

    The outer loop learns an embedding of the rows, and a penalty, with which ridge
    regression of the labels of a task's support tells the classes of its queries best
    [1]_. Adapting is one linear system of the size of the support or of the embedding,
    the smaller one; it takes no gradient step.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(64, 64)
        Widths of the hidden layers of the embedding; the last is that of its output.
        () is ridge regression on the rows themselves.
    activation : {"relu", "tanh", "gelu", "silu"}, default="relu"
        Their activation.
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
    RidgeHeadRegressor : The same for a numeric target.
    ProtoNetClassifier : Compares rows with the means of classes.

    Notes
    -----
    Ridge regression learns one-hot labels minus what is expected of all tasks: equal
    probabilities of a task's own classes or, where labels are shared, those of a linear
    head that is learned in the outer loop. Its outputs times a learned scale are added
    to the logits. The penalty depends on the number of support rows.

    References
    ----------
    .. [1] L. Bertinetto, J. F. Henriques, P. H. S. Torr and A. Vedaldi, "Meta-learning
       with differentiable closed-form solvers", ICLR 2019, equations 4 to 6.

    Examples
    --------
    >>> from sklearn_meta import RidgeHeadClassifier
    >>> from sklearn_meta.datasets import make_blob_tasks
    >>> tasks = make_blob_tasks(12, 30, n_classes=2, random_state=0)
    >>> model = RidgeHeadClassifier(max_iter=20, random_state=0).fit(tasks[:10])
    >>> X, y = tasks[11]
    >>> model.adapt(X[:10], y[:10]).predict_proba(X[10:]).shape
    (20, 2)
    """

    _parameter_constraints: dict = {
        **RidgeEstimator._parameter_constraints,
        **CLASSIFIER_CONSTRAINTS,
    }

    def __init__(
        self,
        hidden_layer_sizes=(64, 64),
        *,
        activation="relu",
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

    def _build_learner(self, n_features: int, n_outputs: int) -> RidgeLearner:
        """Build the embedding, and a head of all tasks if labels are shared."""
        shared = self.label_mode_ == "shared"
        return self._ridge_learner(
            n_features,
            likelihood="categorical",
            n_shared_classes=n_outputs if shared else None,
            n_offsets=self._n_offsets(),
        )
