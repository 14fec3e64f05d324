"""What ensembles over tasks share: a model per old task, and episodes to weigh them."""

from abc import abstractmethod
from collections.abc import Callable
from itertools import pairwise
from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import _fit_context
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.parallel import Parallel, delayed

from sklearn_meta.averaging import MemberPrior
from sklearn_meta.base import BaseTaskEstimator
from sklearn_meta.base._state import unchanged_on_error
from sklearn_meta.estimators.episode_rows import Draws, draw_episodes
from sklearn_meta.members import fit_members
from sklearn_meta.pooling import fit_member, with_seed
from sklearn_meta.tasks import TaskRows

__all__ = ["AdaptedMembers", "KeptModelsEstimator"]

# numbers of what members say that are held at a time: many tasks, or rows of one,
# are weighed and predicted a block at a time
BLOCK_ENTRIES = 2**21
# trees read their features as float32
LARGEST_FEATURE = float(np.finfo(np.float32).max)


class AdaptedMembers(NamedTuple):
    """What is known of the members in each adapted task."""

    weights: np.ndarray  # (n_tasks, n_members)
    correction: tuple[np.ndarray, ...]  # arrays with tasks first

    @classmethod
    def join(cls, parts: list["AdaptedMembers"]) -> "AdaptedMembers":
        """Return what is known of several blocks of tasks."""
        if len(parts) == 1:
            return parts[0]
        corrections = zip(*(part.correction for part in parts), strict=True)
        return cls(
            np.concatenate([part.weights for part in parts]),
            tuple(map(np.concatenate, corrections)),
        )


class KeptModelsEstimator(BaseTaskEstimator):
    """Keep a model per old task and a pooled one; learn how a support weighs them."""

    models_: list

    _parameter_constraints: dict = {
        "correction": [StrOptions({"none", "shift"})],
        "max_models": [Interval(Integral, 1, None, closed="left"), None],
        "n_shots": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "order": [StrOptions({"random", "first"})],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    @abstractmethod
    def _base_estimator(self) -> Any:
        """Return the estimator that is cloned for every task."""

    @abstractmethod
    def _ask(self, model: Any, X: np.ndarray) -> np.ndarray:
        """Return what a member says of rows, (n_rows, ...)."""

    @abstractmethod
    def _ask_out_of_fold(self, estimator: Any, rows: TaskRows) -> np.ndarray:
        """Return what pooled models say of tasks that they did not see."""

    @abstractmethod
    def _learn_to_weigh(
        self, rows: TaskRows, said: np.ndarray, usable: np.ndarray, draws: Draws
    ) -> None:
        """Learn noise, prior and exponent from what members say of old tasks.

        They say (n_rows, n_members, ...); ``usable`` (n_tasks, n_members) is True
        where a member did not learn from the task.
        """

    @abstractmethod
    def _weigh_block(self, rows: TaskRows) -> AdaptedMembers:
        """Return what the supports of some tasks say of the members."""

    @abstractmethod
    def _n_numbers(self) -> int:
        """Return how many numbers a member says of a row."""

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, tasks: Any = None) -> Self:
        """Fit a model per task, and learn how a support weighs them.

        Parameters
        ----------
        X : TaskCollection, sequence of (X, y), or array-like of shape \
(n_samples, n_features)
            Tasks, or flat rows.
        y : array-like of shape (n_samples,), default=None
            Targets of flat rows; None where X is a sequence of tasks.
        tasks : array-like of shape (n_samples,), default=None
            The id of each flat row's task, any hashable. Without it, X is one table:
            one model is fitted on it, and the ensemble is that model.

        Returns
        -------
        self : object
            Fitted on tasks it predicts after ``adapt``; fitted on one table, at once.

        Raises
        ------
        ValueError
            If the input is not what was expected; the message names the task. The
            estimator is then as it was before.
        """
        with unchanged_on_error(self):
            rows = self._check_rows(X, y, tasks, reset=True, min_rows=2)
            self._warn_of_few_tasks(rows)
            self._learn_prepared(rows)
        return self

    def _learn_prepared(
        self,
        rows: TaskRows,
        validation: TaskRows | None = None,
        *,
        pooled: None = None,
        classes: Any = None,
    ) -> None:
        """Learn from checked rows; nothing is stopped, so no tasks decide about it."""
        rows = rows._replace(X=_cut(rows.X))
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(np.iinfo(np.int32).max))
        self._learn_targets(rows, classes)
        estimator = with_seed(self._base_estimator(), seed)
        model_task = self._keep_models(estimator, rows)
        said = self._ask_members(rows.X)
        said[:, 0] = self._ask_out_of_fold(estimator, rows)
        # no member is asked about the task it learned from: it knows the answers
        usable = np.arange(len(rows.sizes))[:, None] != np.r_[-1, model_task]
        draws = draw_episodes(rows, self._support_range(), seed, self.order)
        self._learn_to_weigh(rows, said, usable, draws)
        self.n_tasks_ = len(rows.sizes)
        self._forget_adaptation()
        if rows.names is None:
            self._adapt_to(rows)

    def _learn_targets(self, rows: TaskRows, classes: Any) -> None:
        """Learn what all targets have in common."""

    def _keep_models(self, estimator: Any, rows: TaskRows) -> np.ndarray:
        """Fit the pooled model and those of the tasks; return the task of each."""
        self.pooled_ = fit_member(estimator, rows.X, rows.y)
        self.models_, model_task = [], np.empty(0, int)
        if len(rows.sizes) > 1:  # the pooled model is that of a single task
            self.models_, model_task = fit_members(
                estimator,
                rows,
                self._ask,
                max_models=self.max_models,
                n_jobs=self.n_jobs,
            )
        names = rows.names or []
        self.model_tasks_ = [names[task] for task in model_task]
        return model_task

    def _support_range(self) -> tuple[int, int]:
        """Return the fewest and the most support rows of an episode."""
        return self._shot_range()

    def _adapt_to(self, rows: TaskRows) -> None:
        """Weigh the members by the supports."""
        blocks = _task_blocks(rows, self._block_rows())
        self.adapted_ = AdaptedMembers.join([self._weigh_block(b) for b in blocks])
        self.task_names_ = rows.names

    def _block_rows(self) -> int:
        """Return how many rows members are asked about at a time."""
        return max(1, BLOCK_ENTRIES // (len(self.prior_) * self._n_numbers()))

    def _sum_by_task(
        self, rows: TaskRows, describe: Callable[..., tuple[np.ndarray, ...]]
    ) -> list[np.ndarray]:
        """Return sums (n_tasks, ...) of what ``describe(X, y)`` says of rows."""
        codes = rows.codes
        sums: list[np.ndarray] = []
        for block in gen_batches(len(codes), self._block_rows()):
            tasks, first = np.unique(codes[block], return_index=True)
            said = describe(rows.X[block], rows.y[block])
            parts = [np.add.reduceat(values, first, axis=0) for values in said]
            sums = sums or [np.zeros((len(rows.sizes), *p.shape[1:])) for p in parts]
            for total, part in zip(sums, parts, strict=True):
                total[tasks] += part
        return sums

    def _answer(
        self, answer: Callable[..., np.ndarray], X: np.ndarray, codes: np.ndarray
    ) -> np.ndarray:
        """Return ``answer(X, codes)``, (n_rows, ...), a block of rows at a time."""
        blocks = gen_batches(len(X), self._block_rows())
        parts = [answer(X[block], codes[block]) for block in blocks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _ask_models(self, X: np.ndarray, models: list) -> list[np.ndarray]:
        """Return what each of some models says of rows, (n_rows, ...)."""
        X = _cut(X)
        if effective_n_jobs(self.n_jobs) == 1:
            # by hand: scikit-learn's `Parallel` replaces the warning filters of the
            # whole process meanwhile, which breaks them where users overlap
            return [self._ask(model, X) for model in models]
        # threads share the models; most of them predict without holding the lock
        return Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(self._ask)(model, X) for model in models
        )

    def _ask_members(
        self, X: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Return what members say, (n_rows, n_members, ...), 0 for those not asked.

        Only members with a weight in some row are asked, if there are weights.
        """
        members = [self.pooled_, *self.models_]
        asked = np.arange(len(members))
        if weights is not None:
            asked = np.flatnonzero(weights.any(0))
        answers = self._ask_models(X, [members[i] for i in asked])
        said = np.zeros((len(X), len(members), *answers[0].shape[1:]))
        for member, answer in zip(asked, answers, strict=True):
            said[:, member] = answer
        return said

    def _prior(self) -> MemberPrior:
        """Return the learned prior."""
        return MemberPrior(np.log(self.prior_), self.exponent_)

    def _set_prior(self, prior: MemberPrior) -> None:
        """Keep the learned prior as attributes."""
        self.prior_, self.exponent_ = np.exp(prior.log_share), prior.exponent

    @property
    def weights_(self) -> np.ndarray:
        """Weight of each member in each adapted task, the pooled model first."""
        return self.adapted_.weights

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there are models."""
        return hasattr(self, "prior_")


def _task_blocks(rows: TaskRows, n_rows: int) -> list[TaskRows]:
    """Return blocks of whole tasks, of about so many rows; a large task is one."""
    ends = np.cumsum(rows.sizes)
    cuts = np.flatnonzero(np.diff((ends - 1) // n_rows)) + 1
    if not len(cuts):
        return [rows]
    bounds = [0, *cuts, len(ends)]
    return [
        TaskRows(
            rows.X[ends[low] - rows.sizes[low] : ends[high - 1]],
            rows.y[ends[low] - rows.sizes[low] : ends[high - 1]],
            rows.sizes[low:high],
            rows.names and rows.names[low:high],
        )
        for low, high in pairwise(bounds)
    ]


def _cut(X: np.ndarray) -> np.ndarray:
    """Cut numbers of rows (n_rows, n_features) that trees cannot read."""
    return X.clip(-LARGEST_FEATURE, LARGEST_FEATURE)
