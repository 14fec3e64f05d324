"""The estimator whose tasks are Gaussian processes with a learned kernel."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_meta.base import BaseMetaEstimator, HeldOut, SupportLimit
from sklearn_meta.estimators.from_shallow import FromShallow
from sklearn_meta.estimators.hyperparameters import KernelHyperparameters
from sklearn_meta.estimators.networks import build_network, check_widths
from sklearn_meta.estimators.regressor import MetaRegressorMixin
from sklearn_meta.learners import FunctionDraws, KernelLearner
from sklearn_meta.learners.kernel_prior import MOST_LEVELS
from sklearn_meta.tasks import TaskRows
from sklearn_meta.training import MarginalLikelihood

__all__ = ["DeepKernelRegressor"]

# the marginal likelihood has settled by then
MAX_MARGINAL_STEPS = 150
# rows of a support whose covariance is factorised: 0.2 seconds, 100 MB
MAX_SUPPORT_ROWS = 2000
# offered to a module of the user's as the width of its embedding
EMBEDDING_SIZE = 64


class DeepKernelRegressor(MetaRegressorMixin, BaseMetaEstimator):
    """Regressor whose tasks are draws of one Gaussian process with a learned kernel.

    Adapting is exact Bayesian inference from the support rows: one small linear system,
    no gradient. The prediction is a Gaussian that is sure where the task is known and
    falls back to what all tasks have in common where it is not. The kernel has a
    constant (the level of the task), a linear part (its slopes) and a squared
    exponential part, on the columns and on features that networks learn from them.

    Without hidden layers it is the shallow process, whose few hyper-parameters follow
    from the marginal likelihood of whole tasks: a strong and fast choice where tasks
    are few or differ in level and slopes only.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(64, 64)
        Hidden layers of the networks that learn features, coordinates, and mean and
        noise. ``()`` is the shallow process.
    activation : {"relu", "tanh", "gelu", "silu"}, default="gelu"
        Activation of the hidden layers.
    init : {"marginal", "random"} or KernelHyperparameters, default="marginal"
        Where training starts: at the shallow process that fits the same tasks
        (which is what helps where effects are weak), at torch's own start, or at the
        ``kernel_`` of another estimator with the same scales. A shallow process starts
        its fit at given hyper-parameters.
    mean : {"zero", "learned"}, default="learned"
        The mean of the process, beyond that of the meta-training targets or the pooled
        prediction. A learned one is a network that starts at zero, or a constant of
        the shallow process.
    noise : {"constant", "heteroscedastic"}, default="heteroscedastic"
        Whether the noise depends on the row, within a factor of 4.5 of the common
        variance. It is constant in the shallow process.
    noise_levels : int, default=3
        Levels that the noise of a task may have, from 1 to 8: numbers, learned across
        tasks, by which its variances are multiplied. The support tells how likely each
        is, so that predictions follow the rows of a quiet task closely and are careful
        where they scatter. The shallow process has one.
    feature_dropout : float, default=0.0
        Probability in [0, 1) that a column is missing (zero) in a training episode, for
        support and queries alike. The pooled prediction never is. 0.2 with
        ``mean="zero"`` is a cautious choice for weak effects.
    module : class or callable, default=None
        Called as ``module(n_features=..., n_outputs=..., **module_params)``, with those
        of the two that it takes; returns an ``nn.Module`` that maps rows
        (n, n_features) to an embedding of any width, from which features, coordinates,
        mean and noise are read, in place of hidden layers. An instance is copied, so
        that all fits start from its weights. Layers that mix rows (BatchNorm) are
        rejected.
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
        Outer steps. The marginal likelihood takes at most 150 steps of its own.
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
    compile : False or "cudagraphs", default=False
        Whether an NVIDIA GPU repeats outer steps as a CUDA graph, which takes the work
        of starting thousands of small kernels from the CPU. The first few steps are
        taken one by one; so are all, with a warning, where a step cannot be repeated.
        The shallow process has no outer steps.
    device : str or torch.device, default="auto"
        "auto" is the GPU where there is one. Results are on the CPU.
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
    kernel_ : KernelHyperparameters
        Variances and lengths of the part of the kernel on columns.
    learner_ : nn.Module
        The trained learner, in float64.
    n_tasks_ : int
        Tasks seen by ``fit``; 1 for one table.
    n_iter_ : int
        Outer steps taken.
    loss_curve_ : list of float
        Loss of each outer step, in nats per query row, of the scaled target. Of the
        shallow process: minus the log marginal likelihood, in nats per row.
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
    ModelBasedMetaRegressor : A network reads the support.
    sklearn.gaussian_process.GaussianProcessRegressor : One task by itself.

    Notes
    -----
    Training minimises the negative log-likelihood of query rows given the support; [1]_
    and [2]_ maximise the marginal likelihood of whole tasks, as only the shallow
    process does here. The linear features and the heteroscedastic noise are not in the
    papers. All standard deviations have one floor, 0.01 of the target's.

    References
    ----------
    .. [1] M. Patacchiola et al., "Bayesian Meta-Learning for the Few-Shot Setting via
       Deep Kernels", NeurIPS 2020.
    .. [2] A. G. Wilson, Z. Hu, R. Salakhutdinov, E. P. Xing, "Deep Kernel Learning",
       AISTATS 2016.
    .. [3] C. E. Rasmussen, C. K. I. Williams, "Gaussian Processes for Machine
       Learning", MIT Press, 2006, algorithm 2.1 and equation 5.8.

    Examples
    --------
    >>> from sklearn_meta import DeepKernelRegressor
    >>> from sklearn_meta.datasets import make_gp_tasks
    >>> tasks = make_gp_tasks(n_tasks=12, n_samples=20, random_state=0)
    >>> model = DeepKernelRegressor(max_iter=20, random_state=0).fit(tasks[:10])
    >>> X, y = tasks[11]
    >>> mean, std = model.adapt(X[:5], y[:5]).predict(X[5:], return_std=True)
    >>> model.sample_y(X[5:], n_samples=3).shape
    (15, 3)
    """

    learner_: KernelLearner

    _parameter_constraints: dict = {
        **BaseMetaEstimator._parameter_constraints,
        "init": [StrOptions({"marginal", "random"}), KernelHyperparameters],
        "mean": [StrOptions({"zero", "learned"})],
        "noise": [StrOptions({"constant", "heteroscedastic"})],
        "noise_levels": [Interval(Integral, 1, MOST_LEVELS, closed="both")],
        "feature_dropout": [Interval(Real, 0, 1, closed="left")],
        "normalize_y": ["boolean"],
    }

    def __init__(
        self,
        hidden_layer_sizes=(64, 64),
        *,
        activation="gelu",
        init="marginal",
        mean="learned",
        noise="heteroscedastic",
        noise_levels=3,
        feature_dropout=0.0,
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
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.init = init
        self.mean = mean
        self.noise = noise
        self.noise_levels = noise_levels
        self.feature_dropout = feature_dropout
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

    @property
    def kernel_(self) -> KernelHyperparameters:
        """Variances and lengths of the part of the kernel on columns."""
        return KernelHyperparameters.of(self.learner_)

    def sample_y(
        self, X: Any, n_samples: int = 1, random_state: Any = 0, tasks: Any = None
    ) -> np.ndarray:
        """Draw functions of the adapted task, at the given rows.

        As in :class:`~sklearn.gaussian_process.GaussianProcessRegressor`, these are
        joint draws from the posterior of the task's function: rows vary together, and
        the noise of single targets is not in them.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows of the adapted task, or of several with ``tasks``.
        n_samples : int, default=1
            Number of draws.
        random_state : int, RandomState instance or None, default=0
            Source of randomness.
        tasks : array-like of shape (n_rows,), default=None
            Task id of each row, after ``adapt_tasks``. Draws are independent between
            tasks.

        Returns
        -------
        y_samples : ndarray of shape (n_rows, n_samples)
            The drawn values, in the unit of the target.

        Raises
        ------
        NotAdaptedError
            If the model was fitted on tasks and is not adapted to one.
        """
        X, codes = self._check_query(X, tasks)
        seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
        sampler = FunctionDraws(self.learner_, n_samples, seed)
        (draws,) = self.adapted_.query(sampler, self._scale(X), codes, self.device_)
        offset = np.broadcast_to(self._offset(X), len(X))
        return self.target_scale_.decode(draws) + offset[:, None]

    @property
    def _is_shallow(self) -> bool:
        """Whether there are no networks, so that the marginal likelihood is enough."""
        return self.module is None and not len(self.hidden_layer_sizes)

    def _build_learner(self, n_features: int, n_outputs: int) -> KernelLearner:
        """Build a learner; the pooled prediction, if any, is its last column."""
        n_pooled = int(self.pooled_ is not None)
        if self._is_shallow:
            return self._shallow_learner(n_features - n_pooled)
        check_widths(self.hidden_layer_sizes)
        network = None
        if self.module is not None:
            network = build_network(self, n_features, EMBEDDING_SIZE, any_width=True)
        return KernelLearner(
            n_features,
            hidden_layer_sizes=self.hidden_layer_sizes,
            activation=self.activation,
            network=network,
            mean=self.mean,
            noise=self.noise,
            noise_levels=self.noise_levels,
            feature_dropout=self.feature_dropout,
            n_kept_columns=n_pooled,
        )

    def _shallow_learner(self, n_columns: int) -> KernelLearner:
        """Build the shallow process of the first columns."""
        return KernelLearner(n_columns, hidden_layer_sizes=(), mean=self.mean)

    def _start(self, rows: TaskRows, classes: Any) -> None:
        """Put the untrained learner where it was told to start."""
        super()._start(rows, classes)
        if isinstance(self.init, KernelHyperparameters):
            self.init.put_into(self.learner_)
        elif self._is_shallow:
            n_columns = self.learner_.n_features
            guess = KernelHyperparameters.guess(n_columns, self._encode(rows))
            guess.put_into(self.learner_)

    def _hold_out(
        self, rows: TaskRows, validation: TaskRows | None, random_state: Any
    ) -> HeldOut:
        """Hold nothing out for a handful of hyper-parameters."""
        if self._is_shallow:
            return HeldOut(rows, None)
        return super()._hold_out(rows, validation, random_state)

    def _support_limits(self) -> list[SupportLimit]:
        """Return how many rows a factorisation can bear."""
        advice = "Use ModelBasedMetaRegressor for large supports."
        return [SupportLimit(MAX_SUPPORT_ROWS, "exact inference", advice)]

    def _outer_loop(self) -> Any:
        """Return what trains the learner, from its start or from the shallow one."""
        first = MarginalLikelihood(min(MAX_MARGINAL_STEPS, self.max_iter))
        if self._is_shallow:
            return first
        then = super()._outer_loop()
        if self.init != "marginal":
            return then
        return FromShallow(first, then, self._shallow_learner(self.n_features_in_))
