"""Classifiers of old tasks, weighed by how right they are about a new one."""

from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils._param_validation import HasMethods

from sklearn_meta.averaging import (
    choose_prior,
    choose_tilt,
    drop_negligible,
    fit_class_noise,
    posterior_weights,
    sum_by_group,
    tilt_classes,
)
from sklearn_meta.estimators.classifier import TaskClassifierMixin
from sklearn_meta.estimators.episode_rows import Draws
from sklearn_meta.estimators.kept_models import AdaptedMembers, KeptModelsEstimator
from sklearn_meta.pooling import class_probabilities, out_of_fold
from sklearn_meta.targets import one_hot
from sklearn_meta.tasks import TaskRows

__all__ = ["TaskEnsembleClassifier"]


class TaskEnsembleClassifier(TaskClassifierMixin, KeptModelsEstimator):
    r"""Classifier that keeps a model per old task and weighs them on a new one.

    Any scikit-learn classifier with probabilities learns to learn: a clone is fitted
    on each old task and kept, and a pooled one on all rows. The support of a new task
    says which of them are right about it, by Bayesian model averaging [1]_ with a
    prior and with noise that were learned across tasks. No gradient is needed.

    Parameters
    ----------
    estimator : estimator, default=None
        The scikit-learn classifier, or Pipeline, that is cloned for each task; it needs
        ``predict_proba`` (``CalibratedClassifierCV`` adds it). None is
        ``RandomForestClassifier()``.
    correction : {"none", "shift"}, default="none"
        "shift" moves the class probabilities of the blend towards the frequencies in
        the support, by as much as helped on old tasks. It needs supports that are drawn
        without regard to class; "none" does not.
    max_models : int, default=50
        Most models kept beside the pooled one, at least 1; None keeps all. Those are
        kept whose predictions differ most, by a greedy cover.
    n_shots : int or (int, int), default=(1, 10)
        Support rows of the episodes in which the weighing is learned: up to that many
        per class on average, and for a range as few rows as its lower end.
    order : {"random", "first"}, default="random"
        Which rows of a task are the support of its episodes: any, or the first ones, in
        the order in which ``fit`` gets them. "first" is for tables that grow in time.
    n_jobs : int, default=None
        Processes for fitting and threads for predicting; None is one, -1 all.
    random_state : int, RandomState instance or None, default=None
        Draws episodes, and seeds each ``random_state`` of ``estimator`` that is None.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, which mean the same in every task.
    label_mode_ : {"shared"}
        What labels mean; kept models know no others.
    models_ : list of estimator
        The kept models.
    model_tasks_ : list
        The name of the task that each of them learned from.
    pooled_ : estimator
        The model of all rows.
    prior_ : ndarray of shape (n_models + 1,)
        Probability that a member is the right one before the support is seen, the
        pooled one first.
    exponent_ : float
        Power of the support's likelihood, in [0, 1].
    noise_ : ClassNoise
        Share of each member's rows whose class is drawn from its frequency.
    shift_strength_ : float
        Weight of a support row where the correction is "shift", at least 0.
    weights_ : ndarray of shape (n_tasks, n_models + 1)
        After ``adapt``: the weight of each member, the pooled one first.
    n_tasks_ : int
        Tasks seen by ``fit``; 1 for one table.
    n_features_in_ : int
        Number of features seen by ``fit``.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, if they are all strings.

    Raises
    ------
    ValueError
        In ``fit``, if a parameter or the data is not what was expected, or if no two
        tasks have a label in common.

    See Also
    --------
    TaskEnsembleRegressor : The same for a numeric target.
    ProtoNetClassifier : For tasks whose labels are their own.

    Notes
    -----
    With members :math:`p_m`, the support :math:`S` of a task has the likelihood

    .. math::

        p(S \mid m) = \prod_{i \in S} \left[ (1 - \epsilon_m) p_m(y_i \mid x_i)
        + \epsilon_m f_{y_i} \right],

    with the frequency :math:`f_c` of each class, and the weights are
    :math:`w_m \propto \pi_m \, p(S \mid m)^\eta`. Prior and noise are learned on
    old tasks with the member of the task itself left out: :math:`\pi_m` and
    :math:`\epsilon_m` by expectation maximisation, the exponent :math:`\eta` and the
    pooled member's share by the likelihood of query rows. The exponent is below 1 where
    the rows of a task err together [2]_.

    With ``correction="shift"`` the blend :math:`p(c \mid x)` is multiplied by
    :math:`(f_c + \kappa n_c) / (f_c + \kappa e_c)` and scaled to sum 1, where
    :math:`n_c` support rows are of class :math:`c`, :math:`e_c` are expected by the
    blend, and :math:`\kappa` is chosen on old tasks.

    A task with rows of one class gets a model that always answers this class.

    References
    ----------
    .. [1] J. A. Hoeting, D. Madigan, A. E. Raftery, C. T. Volinsky, "Bayesian model
       averaging: a tutorial", Statistical Science, 1999, equations 1 to 3.
    .. [2] P. Grünwald, T. van Ommen, "Inconsistency of Bayesian inference for
       misspecified linear models, and a proposal for repairing it", Bayesian Analysis,
       2017.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_meta import TaskEnsembleClassifier
    >>> from sklearn_meta.datasets import make_blob_tasks
    >>> tasks = make_blob_tasks(12, 30, n_classes=2, random_state=0)
    >>> model = TaskEnsembleClassifier(LogisticRegression(), random_state=0)
    >>> X, y = tasks[11]
    >>> model.fit(tasks[:11]).adapt(X[:10], y[:10]).predict(X[10:]).shape
    (20,)
    """

    _parameter_constraints: dict = {
        **KeptModelsEstimator._parameter_constraints,
        "estimator": [HasMethods(["fit", "predict_proba"]), None],
    }

    def __init__(
        self,
        estimator=None,
        *,
        correction="none",
        max_models=50,
        n_shots=(1, 10),
        order="random",
        n_jobs=None,
        random_state=None,
    ):
        self.estimator = estimator
        self.correction = correction
        self.max_models = max_models
        self.n_shots = n_shots
        self.order = order
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _base_estimator(self) -> Any:
        return RandomForestClassifier() if self.estimator is None else self.estimator

    def _learn_targets(self, rows: TaskRows, classes: Any) -> None:
        self._learn_shared_labels(rows, classes)

    def _ask(self, model: Any, X: np.ndarray) -> np.ndarray:
        return class_probabilities(model, X, self.classes_)

    def _ask_out_of_fold(self, estimator: Any, rows: TaskRows) -> np.ndarray:
        return out_of_fold(estimator, rows, self.classes_)

    def _learn_to_weigh(
        self, rows: TaskRows, said: np.ndarray, usable: np.ndarray, draws: Draws
    ) -> None:
        """Learn the noise, then prior and exponent, then the strength of the shift."""
        y = self._positions(rows)
        labels = one_hot(y, len(self.classes_))
        own_class = y[:, None, None]
        likelihood = np.take_along_axis(said, own_class, axis=2)[:, :, 0]
        self.noise_, share = fit_class_noise(
            likelihood, labels.mean(0), y, rows.sizes, usable
        )
        said = self.noise_.smooth(said)
        log_density = np.log(np.take_along_axis(said, own_class, axis=2)[:, :, 0])
        evidence = draws.sum_support(log_density)
        usable = usable[draws.task]
        prior = choose_prior(
            share, evidence, usable, log_density[draws.query], draws.episode
        )
        self._set_prior(prior)
        self.shift_strength_ = 0.0
        if self.correction == "shift":
            weights = posterior_weights(prior, evidence, usable)
            support = np.einsum("esmc,em->esc", said[draws.support], weights)
            expected = (support * draws.is_support[:, :, None]).sum(1)
            query = np.einsum("qmc,qm->qc", said[draws.query], weights[draws.episode])
            self.shift_strength_ = choose_tilt(
                self.noise_.frequency,
                draws.sum_support(labels),
                expected,
                query,
                y[draws.query],
                draws.episode,
            )

    def _n_numbers(self) -> int:
        return len(self.classes_)

    def _weigh_block(self, rows: TaskRows) -> AdaptedMembers:
        """Weigh the members by the likelihood of the supports; tilt the blend."""
        labels = one_hot(self._positions(rows), len(self.classes_))

        def likelihood_and_counts(X: np.ndarray, labels: np.ndarray) -> tuple:
            said = self.noise_.smooth(self._ask_members(X))
            return np.log((said * labels[:, None]).sum(2)), said

        evidence, said = self._sum_by_task(
            rows._replace(y=labels), likelihood_and_counts
        )
        weights = drop_negligible(posterior_weights(self._prior(), evidence))
        tilt = tilt_classes(
            self.noise_.frequency,
            sum_by_group(labels, rows.sizes),
            np.einsum("tmc,tm->tc", said, weights),
            self.shift_strength_,
        )
        return AdaptedMembers(weights, (tilt,))

    def _class_proba(self, X: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the mixture of members, tilted to its task, (n_rows, n_classes)."""
        return self._answer(self._mixture, X, codes)

    def _mixture(self, X: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the mixture of a block of rows, (n_rows, n_classes)."""
        weights = self.adapted_.weights[codes]
        said = self.noise_.smooth(self._ask_members(X, weights))
        blend = np.einsum("rmc,rm->rc", said, weights)
        tilted = blend * self.adapted_.correction[0][codes]
        return tilted / tilted.sum(1, keepdims=True)
