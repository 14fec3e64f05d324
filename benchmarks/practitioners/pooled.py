"""Pooled models, and what a task's mean adds to them.

One model is fitted to the rows of all training tasks: boosting, ridge or logistic
regression, a random forest. A new task's support then moves its predictions
(`Shifted`), or the mean of a task is a feature (`WithTaskMean`).
"""

import numpy as np
from episode_scores import Normal
from held_out import REGRESSION
from method import Method
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from practitioners.pooled_stage import ask, encoded, linear_model, pooled_stage
from practitioners.random_effects import posterior_shift, variance_components
from practitioners.shifts import choose_precision, shift_log_odds

FOREST_ROWS = 6_000


class Pooled(Method):
    """A pooled model, whatever the support is."""

    uses_pooled_stage = True

    def __init__(self, name):
        self.name = name

    def fit(self, split):
        """Learn the spread of its errors."""
        stage = pooled_stage(split)
        self.model = stage.models[self.name]
        if split.kind == REGRESSION:
            errors = split.y[stage.rows] - self.model.out_of_fold[:, 0]
            self.std = np.sqrt(np.mean(errors**2))

    def predict(self, split, k):
        """Predict the query rows of each episode."""
        predicted = [self.model.predicted[e.query] for e in split.episodes[k]]
        if split.kind != REGRESSION:
            return predicted
        return [Normal(p[:, 0], np.full(len(p), self.std)) for p in predicted]


class PooledForest(Method):
    """A random forest of the rows of all tasks."""

    def fit(self, split):
        """Fit the forest."""
        rows = split.some_rows(FOREST_ROWS)
        regression = split.kind == REGRESSION
        forest = RandomForestRegressor if regression else RandomForestClassifier
        model = forest(100, min_samples_leaf=5, max_features=0.5, random_state=0)
        self.model = model.fit(split.linear[rows], split.y[rows])

    def predict(self, split, k):
        """Predict the query rows of each episode."""
        episodes = split.episodes[k]
        said = [ask(self.model, split.linear[e.query], split) for e in episodes]
        return [Normal(p[:, 0]) for p in said] if split.kind == REGRESSION else said


class Shifted(Method):
    """A pooled model that the support moves up or down (empirical Bayes).

    Targets: errors are those of a random intercept, whose posterior mean is added.
    Classes: log odds move to the maximum of the posterior under a Gaussian prior, whose
    precision is the best one on out-of-fold episodes.
    """

    uses_pooled_stage = True

    def __init__(self, name):
        self.name = name

    def fit(self, split):
        """Learn how far tasks are apart."""
        stage = pooled_stage(split)
        self.model, rows = stage.models[self.name], stage.rows
        task = split.task[rows]
        if split.kind == REGRESSION:
            errors = split.y[rows] - self.model.out_of_fold[:, 0]
            self.components = variance_components(errors, task)
        else:
            self.precision = {
                k: choose_precision(
                    np.log(self.model.out_of_fold), split.y[rows], task, k, split.repeat
                )
                for k in split.episodes
            }

    def predict(self, split, k):
        """Predict the query rows of each episode."""
        of_episode = self._targets if split.kind == REGRESSION else self._classes
        return [of_episode(split, *episode, k) for episode in split.episodes[k]]

    def _targets(self, split, support, query, k):
        errors = split.y[support] - self.model.predicted[support, 0]
        shift, std = posterior_shift(errors, *self.components)
        return Normal(self.model.predicted[query, 0] + shift, np.full(len(query), std))

    def _classes(self, split, support, query, k):
        log_p = np.log(self.model.predicted)
        return shift_log_odds(
            log_p[support], split.y[support], log_p[query], self.precision[k]
        )


class WithTaskMean(Method):
    """A model with the mean of K other rows of the task, and of their errors.

    Both the targets and the out-of-fold errors of the best pooled model are averaged;
    one model is fitted per number of support rows.
    """

    uses_pooled_stage = True
    n_draws = 2

    def __init__(self, name):
        self.name = name

    def fit(self, split):
        """Fit a model for each number of support rows."""
        stage = pooled_stage(split)
        rng = np.random.default_rng(split.repeat)
        self.pooled = stage.models["best"].predicted
        target = encoded(split, stage.rows)
        pooled = stage.models["best"].out_of_fold
        both = np.hstack([target, target - pooled])
        self.models = {}
        for k in split.episodes:
            means = [
                mean_of_others(both, split.task[stage.rows], k, rng)
                for _ in range(self.n_draws)
            ]
            columns = np.vstack(
                [np.hstack([self._own(split)[stage.rows], pooled, m]) for m in means]
            )
            model = self._model(split, stage)
            y = np.tile(split.y[stage.rows], self.n_draws)
            self.models[k] = model.fit(columns, y)

    def predict(self, split, k):
        """Predict the query rows of each episode."""
        said = []
        for support, query in split.episodes[k]:
            target = encoded(split, support)
            both = np.hstack([target, target - self.pooled[support]]).mean(0)
            columns = np.hstack(
                [
                    self._own(split)[query],
                    self.pooled[query],
                    np.tile(both, (len(query), 1)),
                ]
            )
            said.append(ask(self.models[k], columns, split))
        return [Normal(p[:, 0]) for p in said] if split.kind == REGRESSION else said

    def _own(self, split):
        return split.tree[0] if self.name == "boosting" else split.linear

    def _model(self, split, stage):
        """Return an unfitted model; the columns added to it are numbers."""
        if self.name == "linear":
            return linear_model(split)
        model = clone(stage.booster)
        if model.categorical_features is None:
            return model
        categorical = np.flatnonzero(model.categorical_features)
        return model.set_params(categorical_features=categorical)


def mean_of_others(values, task, k, rng):
    """Return the mean of `k` other rows of each row's task (all, if there are less)."""
    means = np.zeros_like(values)
    for t in np.unique(task):
        rows = np.flatnonzero(task == t)
        if len(rows) < 2:
            continue
        # sorted keys draw without replacement; a row's own key is last
        keys = rng.random((len(rows), len(rows)))
        np.fill_diagonal(keys, np.inf)
        others = keys.argsort(1)[:, : min(k, len(rows) - 1)]
        means[rows] = values[rows[others]].mean(1)
    return means
