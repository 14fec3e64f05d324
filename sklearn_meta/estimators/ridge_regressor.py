"""A ridge regression of numbers on learned features (R2-D2)."""

from sklearn_meta.estimators.regressor import MetaRegressorMixin
from sklearn_meta.estimators.ridge import RidgeEstimator
from sklearn_meta.learners import RidgeLearner

__all__ = ["RidgeHeadRegressor"]


class RidgeHeadRegressor(MetaRegressorMixin, RidgeEstimator):
    """Regressor with a ridge regression on learned features (R2-D2).

    The outer loop learns an embedding of the rows, and a penalty, with which ridge
    regression on the support of a task predicts its queries best [1]_. Adapting is one
    linear system of the size of the support or of the embedding, the smaller one; it
    takes no gradient step.

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
        A scikit-learn regressor that is fitted on all rows and ignores tasks. Its
        prediction becomes a feature and the point from which the learner's target is
        counted; in meta-training it comes out of fold, with folds split by task.
        "auto" takes a linear model, gradient boosting or their mean, whichever has the
        least squared error out of fold.
    n_shots : int or (int, int), default=(1, 10)
        Support rows in an episode, per task. A pair is a
        range, both ends included, drawn anew for each episode: one model then serves
        all support sizes.
    order : {"random", "first"}, default="random"
        Which rows of a task are the support of its episodes: any, or the first ones, in
        the order in which ``fit`` gets them. "first" is for tables that grow in time.
    n_queries : int, default=16
        Query rows in an episode, per task. At least 1.
    meta_batch_size : int, default=24
        Episodes in an outer step.
    max_iter : int, default=600
        Outer steps.
    lr : float, default=0.01
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
        stop without gain. "auto" does so from 10 tasks on.
    validation_fraction : float, default=0.2
        Fraction of the TASKS held out, in (0, 1).
    n_iter_no_change : int, default=5
        Evaluations without gain before stopping; there is one every 50 outer steps
        (more often in runs below 600), and no stop in the first 40 % of them.
    standardize : bool, default=True
        Whether features are scaled to mean 0 and standard deviation 1 over the
        meta-training rows and cut at 6 standard deviations.
    normalize_y : bool, default=True
        Whether the target is scaled by its mean and standard deviation over the
        meta-training rows.
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
    target_scale_ : NumericScale
        Shift and scale of the target, from the meta-training rows.
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
        Loss of each outer step, in nats per query row, of the scaled target.
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
    RidgeHeadClassifier : The same for classes.
    DeepKernelRegressor : A Gaussian process on learned features.

    Notes
    -----
    Ridge regression learns what a linear head of all tasks lacks, which is learned in
    the outer loop and starts at zero. The penalty depends on the number of support
    rows. Unlike in [1]_, the prediction is a Gaussian: its variance is that of the
    noise, which is learned, and of the weights given the support.

    References
    ----------
    .. [1] L. Bertinetto, J. F. Henriques, P. H. S. Torr and A. Vedaldi, "Meta-learning
       with differentiable closed-form solvers", ICLR 2019, equations 4 to 6.

    Examples
    --------
    >>> from sklearn_meta import RidgeHeadRegressor
    >>> from sklearn_meta.datasets import make_sinusoid_tasks
    >>> tasks = make_sinusoid_tasks(n_tasks=12, n_samples=20, random_state=0)
    >>> model = RidgeHeadRegressor(max_iter=20, random_state=0).fit(tasks[:10])
    >>> X, y = tasks[11]
    >>> mean, std = model.adapt(X[:5], y[:5]).predict(X[5:], return_std=True)
    >>> mean.shape, std.shape
    ((15,), (15,))
    """

    _parameter_constraints: dict = {
        **RidgeEstimator._parameter_constraints,
        "normalize_y": ["boolean"],
    }

    def __init__(
        self,
        hidden_layer_sizes=(64, 64),
        *,
        activation="relu",
        module=None,
        module_params=None,
        pooled_estimator=None,
        n_shots=(1, 10),
        order="random",
        n_queries=16,
        meta_batch_size=24,
        max_iter=600,
        lr=0.01,
        lr_schedule="one_cycle",
        optimizer=None,
        optimizer_params=None,
        max_grad_norm=2.0,
        early_stopping="auto",
        validation_fraction=0.2,
        n_iter_no_change=5,
        standardize=True,
        normalize_y=True,
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
        self.normalize_y = normalize_y
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.warm_start = warm_start
        self.compile = compile
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _build_learner(self, n_features: int, n_outputs: int) -> RidgeLearner:
        """Build the embedding and a head with a Gaussian output."""
        return self._ridge_learner(n_features, likelihood="gaussian")
