"""A network that reads the support and predicts Gaussians."""

from sklearn_meta.estimators.process import ProcessEstimator
from sklearn_meta.estimators.regressor import MetaRegressorMixin
from sklearn_meta.learners import ProcessLearner

__all__ = ["ModelBasedMetaRegressor"]


class ModelBasedMetaRegressor(MetaRegressorMixin, ProcessEstimator):
    """Regressor whose network reads the support and predicts (neural process).

    Adapting is one pass of the support rows and their targets through a network;
    predicting is one pass of the query rows. The prediction is a Gaussian whose mean
    and standard deviation both depend on the row.

    Parameters
    ----------
    architecture : {"cnp", "attentive", "transformer", "hypernetwork", "recurrent"}, \
default="transformer"
        How the support is read: "cnp" averages its rows [1]_, "attentive" lets each
        query attend to them [2]_, "transformer" lets them attend to each other first
        [3]_. "hypernetwork" writes the weights of the task's own network from them
        [4]_, "recurrent" reads them one after the other into a memory [5]_.
    hidden_size : int, default=64
        Width of the hidden layers, a multiple of ``n_heads`` where there is attention.
    n_layers : int, default=2
        Hidden layers, or blocks of attention.
    n_heads : int, default=4
        Heads of attention.
    latent_size : int, default=0
        Numbers of a latent variable, of which each sample gives another function; 0 for
        none. Training then maximises the likelihood of a task's query rows together,
        averaged over 16 samples; the mixture is reported by its mean and
        standard deviation.
    module : class or callable, default=None
        Called as ``module(n_features=..., n_outputs=..., **module_params)``, with those
        of the two that it takes; returns an ``nn.Module`` that maps rows
        (n, n_features) to an embedding, which the process reads in place of the rows.
        None reads the rows as they are. An instance is copied, so that all fits start
        from its weights. Layers that mix rows (BatchNorm) are rejected.
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
    compile : bool or "cudagraphs", default=False
        Whether ``torch.compile`` compiles the forward pass of the outer loop. It takes
        seconds, which a transformer earns back in some thousands of steps.
        "cudagraphs" has an NVIDIA GPU repeat outer steps as a CUDA graph instead, which
        takes the work of starting many small kernels from the CPU. Where either cannot
        be had the fit goes on without it, with a warning.
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
    ModelBasedMetaClassifier : The same for classes.
    MAMLRegressor : Adapts by gradient steps.

    Notes
    -----
    The processes are deterministic and trained by the likelihood of query rows alone,
    which are never among the support rows. All standard deviations have one floor, 0.01
    of the target's. The papers differ in it (0.1 in [1]_ and [2]_, none in [3]_).

    References
    ----------
    .. [1] M. Garnelo et al., "Conditional neural processes", ICML 2018.
    .. [2] H. Kim et al., "Attentive neural processes", ICLR 2019.
    .. [3] T. Nguyen and A. Grover, "Transformer neural processes: uncertainty-aware
       meta learning via sequence modeling", ICML 2022 (TNP-D).
    .. [4] D. Ha, A. Dai, Q. V. Le, "HyperNetworks", ICLR 2017.
    .. [5] A. Santoro et al., "Meta-learning with memory-augmented neural networks",
       ICML 2016.

    Examples
    --------
    >>> from sklearn_meta import ModelBasedMetaRegressor
    >>> from sklearn_meta.datasets import make_gp_tasks
    >>> tasks = make_gp_tasks(n_tasks=12, n_samples=20, random_state=0)
    >>> model = ModelBasedMetaRegressor(max_iter=20, random_state=0).fit(tasks[:10])
    >>> X, y = tasks[11]
    >>> model.adapt(X[:5], y[:5]).predict_quantiles(X[5:]).shape
    (15, 3)
    """

    _parameter_constraints: dict = {
        **ProcessEstimator._parameter_constraints,
        "normalize_y": ["boolean"],
    }

    def __init__(
        self,
        architecture="transformer",
        *,
        hidden_size=64,
        n_layers=2,
        n_heads=4,
        latent_size=0,
        module=None,
        module_params=None,
        pooled_estimator=None,
        n_shots=(1, 10),
        order="random",
        n_queries=16,
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
        normalize_y=True,
        callbacks=None,
        checkpoint=None,
        warm_start=False,
        compile=False,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.architecture = architecture
        self.hidden_size = hidden_size
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.latent_size = latent_size
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

    def _build_learner(self, n_features: int, n_outputs: int) -> ProcessLearner:
        """Build a process with a Gaussian output."""
        return self._process_learner(n_features, n_outputs, likelihood="gaussian")
