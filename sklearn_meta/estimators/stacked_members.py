"""Fitting the members of a mixture on folds, and judging them on what was held out."""

import copy
import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed
from tqdm.auto import tqdm

from sklearn_meta.base import BaseMetaEstimator
from sklearn_meta.base._run import open_run
from sklearn_meta.estimators.kernel import DeepKernelRegressor
from sklearn_meta.estimators.pooled_classifier import PooledClassifier
from sklearn_meta.estimators.pooled_regressor import PooledRegressor
from sklearn_meta.held_out import Episodes, Fold
from sklearn_meta.pooling import PooledModel, fit_pooled
from sklearn_meta.tasks import TaskRows

__all__ = ["AdaptedMixture", "SharedColumns", "adapt_member", "fit_members", "judge"]

Jobs = list[tuple[int, int]]  # places of members and folds


class SharedColumns(NamedTuple):
    """Pooled models that several members start from, each fitted once.

    The columns of all of them are laid beside the features; a member reads its own.

    Parameters
    ----------
    pooled : list of PooledModel
        The distinct pooled models.
    source : list of int
        The pooled model of each member, -1 for none.
    ends : list of int
        The number of columns up to the end of the features, and of each model's.
    """

    pooled: list
    source: list
    ends: list

    @classmethod
    def fit(
        cls, members: list, rows: TaskRows, classes: Any, random_state: Any
    ) -> tuple["SharedColumns", TaskRows]:
        """Fit the pooled models; return their out-of-fold columns beside the rows.

        Members are given before seeds are, which would tell equal models apart.
        """
        wanted = [_pooled_estimator(member) for member in members]
        distinct: list = []
        source = [_place(estimator, distinct) for estimator in wanted]
        columns, pooled = [rows.X], []
        for estimator in distinct:
            model, out_of_fold = fit_pooled(estimator, rows, classes, random_state)
            pooled.append(model)
            columns.append(out_of_fold)
        ends = np.cumsum([part.shape[1] for part in columns]).tolist()
        return cls(pooled, source, ends), rows._replace(X=np.hstack(columns))

    def widen(self, X: np.ndarray) -> np.ndarray:
        """Lay what all pooled models predict beside rows of shape (n, n_features)."""
        return np.hstack([X, *(model.columns(X) for model in self.pooled)])

    def view(self, X: np.ndarray, member: int) -> np.ndarray:
        """Return what a member reads of rows widened to the shape (n, ends[-1])."""
        place = self.source[member]
        if place < 1:  # no model, or the first one: a view
            return X[:, : self.ends[place + 1]]
        own = np.r_[: self.ends[0], self.ends[place] : self.ends[place + 1]]
        return X[:, own]

    def keep(self, members: list[int]) -> "SharedColumns":
        """Return the columns for some of the members, in their new places."""
        return self._replace(source=[self.source[member] for member in members])

    def model_of(self, member: int) -> PooledModel | None:
        """Return the pooled model of a member."""
        place = self.source[member]
        return None if place < 0 else self.pooled[place]


def _pooled_estimator(member: Any) -> Any:
    """Return the estimator of all rows from which a member starts, or None."""
    whole = isinstance(member, (PooledClassifier, PooledRegressor))
    return member.estimator if whole else getattr(member, "pooled_estimator", None)


def _place(estimator: Any, distinct: list) -> int:
    """Return where an estimator stands in a list, to which it is added once."""
    if estimator is None:
        return -1
    for place, known in enumerate(distinct):
        if known is estimator or _are_alike(known, estimator):
            return place
    distinct.append(estimator)
    return len(distinct) - 1


def _are_alike(first: Any, second: Any) -> bool:
    """Return whether two estimators have one class and equal parameters."""
    try:
        return joblib.hash(first) == joblib.hash(second)
    except (pickle.PicklingError, AttributeError, TypeError):
        # what has no bytes, a lambda for one, is like itself alone
        return False


class AdaptedMixture(NamedTuple):
    """Adapted copies of the models that matter, and their weights."""

    models: list
    member: np.ndarray  # (n_models,), the member that each is a fit of
    weights: np.ndarray  # (n_tasks, n_models), sum 1 per task


def fit_members(
    members: list,
    shared: SharedColumns,
    folds: list[Fold],
    *,
    names: list[str],
    classes: Any,
    n_jobs: int | None,
    verbose: int = 0,
) -> dict[str, list]:
    """Fit each member on each fold.

    Parameters
    ----------
    members : list of estimator
        They are cloned.
    shared : SharedColumns
        What each member reads.
    folds : list of Fold
        Held-out tasks decide when a member with early stopping stops.
    names : list of str
        Their names.
    classes : ndarray or None
        Labels that are shared by all tasks.
    n_jobs : int or None
        Processes.
    verbose : int, default=0
        Whether a bar shows what is fitted, and how much is left.

    Returns
    -------
    fitted : dict of list of estimator
        The models of all folds, by the name of the member; of an interrupted run,
        those of the members that were done.

    Raises
    ------
    KeyboardInterrupt
        If no member was done.
    """
    donors = _kernel_donors(members, shared)
    jobs = [(m, f) for m in range(len(members)) for f in range(len(folds))]
    # donors first: what they learned is where others start
    turns = [
        [job for job in jobs if donors[job[0]] is None],
        [job for job in jobs if donors[job[0]] is not None],
    ]
    fitted: dict = {}

    def fit_jobs(jobs: Jobs) -> Iterator:
        return Parallel(n_jobs=n_jobs, return_as="generator")(
            delayed(_fit_member)(
                _started_at(members[m], fitted.get((donors[m], f))),
                shared,
                m,
                folds[f],
                classes,
            )
            for m, f in jobs
        )

    with tqdm(total=len(jobs), unit="fit", disable=not verbose) as bar:
        try:
            for turn in turns:
                announced = _announce(bar, turn, names, len(folds))
                for job, model in zip(announced, fit_jobs(turn), strict=True):
                    fitted[job] = model
                    bar.set_postfix(_describe_score(model))
                    bar.update()
        except KeyboardInterrupt:
            if not _by_member(fitted, names, len(folds)):
                raise
    return _by_member(fitted, names, len(folds))


def _by_member(fitted: dict, names: list[str], n_folds: int) -> dict[str, list]:
    """Return the models of the members that are fitted on all folds."""
    rows = [[fitted.get((m, f)) for f in range(n_folds)] for m in range(len(names))]
    return {
        name: models
        for name, models in zip(names, rows, strict=True)
        if all(model is not None for model in models)
    }


def _announce(
    bar: Any, jobs: Jobs, names: list[str], n_folds: int
) -> Iterator[tuple[int, int]]:
    """Yield jobs, and show each on the bar before its model is waited for."""
    for m, f in jobs:
        bar.set_description(f"{names[m]}, fold {f + 1} of {n_folds}")
        yield m, f


def _describe_score(model: Any) -> dict[str, str]:
    """Return the best score of a model on the tasks that were held out, for a bar."""
    scores = getattr(model, "validation_scores_", None)
    return {"validation score": f"{max(scores):.4f}"} if scores else {}


def _kernel_donors(members: list, shared: SharedColumns) -> list[int | None]:
    """Return for each member the one whose fitted kernel it would fit again."""
    donors: list[int | None] = []
    for m, member in enumerate(members):
        fits = isinstance(member, DeepKernelRegressor) and member.init == "marginal"
        shallow = [
            other
            for other, donor in enumerate(members)
            if isinstance(donor, DeepKernelRegressor)
            and donor._is_shallow
            and shared.source[other] == shared.source[m]
            and donor.standardize == getattr(member, "standardize", None)
        ]
        own = fits and shallow and not member._is_shallow
        donors.append(shallow[0] if own else None)
    return donors


def _started_at(member: Any, donor: Any) -> Any:
    """Return a member that starts at the kernel of another one."""
    return member if donor is None else clone(member).set_params(init=donor.kernel_)


def _fit_member(
    member: Any, shared: SharedColumns, place: int, fold: Fold, classes: Any
) -> Any:
    """Fit a clone of a member on what a fold leaves to learn from."""
    train, held_out = fold.train, fold.held_out
    train = train._replace(X=shared.view(train.X, place))
    if held_out is not None:
        held_out = held_out._replace(X=shared.view(held_out.X, place))
    fitted = clone(member)
    fitted.n_features_in_ = shared.ends[0]
    more = {}
    if isinstance(fitted, BaseMetaEstimator):
        # interrupted, it is not to be kept half trained
        run = open_run(fitted, train, held_out, False, classes)
        more["run"] = run._replace(is_part=True)
    fitted._learn_prepared(
        train, held_out, pooled=shared.model_of(place), classes=classes, **more
    )
    return fitted


def adapt_member(model: Any, rows: TaskRows) -> Any:
    """Return a copy of a fitted member that is adapted to tasks."""
    model = copy.copy(model)
    model._adapt_to(rows)
    return model


def judge(
    model: Any, shared: SharedColumns, place: int, rows: TaskRows, episodes: Episodes
) -> np.ndarray:
    """Return the log-likelihood of the query rows of episodes, (n_query,).

    Parameters
    ----------
    model : estimator
        A member that saw none of what is scored.
    shared : SharedColumns
        What it reads.
    place : int
        Its place among the members.
    rows : TaskRows
        All rows, with the columns of all pooled models.
    episodes : Episodes
        Row numbers of supports and queries.
    """
    X = shared.view(rows.X, place)
    support = TaskRows(
        X[episodes.support],
        rows.y[episodes.support],
        episodes.sizes,
        list(range(len(episodes.sizes))),
    )
    adapted = adapt_member(model, support)
    return adapted._log_likelihood(
        X[episodes.query], rows.y[episodes.query], episodes.episode
    )
