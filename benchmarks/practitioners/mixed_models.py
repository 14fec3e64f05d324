"""Mixed models: statsmodels' MixedLM, gpboost and merf, with BLUP for new tasks."""

import logging

import numpy as np
import pandas as pd
from method import Method
from scipy.special import expit
from sklearn.ensemble import RandomForestRegressor

from practitioners.pooled_stage import pooled_stage
from practitioners.random_effects import (
    best_linear_prediction,
    design,
    slope_columns,
)

# more rows take minutes
MAX_ROWS = {"statsmodels": 6000, "gpboost": 6000, "merf": 3500}


class LinearMixedModel(Method):
    """MixedLM with a random intercept and random slopes of some columns."""

    def __init__(self, n_slopes):
        self.n_slopes = n_slopes

    def fit(self, split):
        """Estimate by restricted maximum likelihood."""
        from statsmodels.api import MixedLM

        rows = split.some_rows(MAX_ROWS["statsmodels"])
        y, task, columns = split.y[rows], split.task[rows], split.linear[rows]
        self.slopes = slope_columns(columns, y, task, self.n_slopes)
        kept = independent_columns(columns)
        X = np.column_stack([np.ones(len(rows)), columns[:, kept]])
        model = MixedLM(y, X, groups=task, exog_re=design(columns, self.slopes))
        try:
            found = model.fit(reml=True, method=["lbfgs"], maxiter=200)
        except np.linalg.LinAlgError:  # tasks do not differ; Powell takes no gradient
            found = model.fit(reml=True, method=["powell"], maxiter=200)
        covariance = np.atleast_2d(np.asarray(found.cov_re))
        self.effects = self.slopes, _positive(covariance), float(found.scale)
        fixed = np.asarray(found.fe_params)
        self.fixed = fixed[0] + split.linear[:, kept] @ fixed[1:]

    def predict(self, split, k):
        """Predict the query rows of each episode."""
        return best_linear_prediction(split, k, self.fixed, *self.effects)


class BoostedMixedModel(Method):
    """gpboost: boosting as the fixed part, a random intercept and random slopes."""

    uses_pooled_stage = True

    def __init__(self, n_slopes):
        self.n_slopes = n_slopes

    def fit(self, split):
        """Estimate with the setting that was best for pooled boosting."""
        rows = split.some_rows(MAX_ROWS["gpboost"])
        columns = split.linear[rows]
        slopes = slope_columns(columns, split.y[rows], split.task[rows], self.n_slopes)
        effects = {"likelihood": "gaussian"}
        if len(slopes):
            effects["group_rand_coef_data"] = columns[:, slopes]
            effects["ind_effect_group_rand_coef"] = [1] * len(slopes)
        model, self.fixed = fit_gpboost(split, rows, slopes, effects)
        noise, *variances = np.asarray(model.get_cov_pars()).ravel()
        self.effects = slopes, np.diag(variances[: 1 + len(slopes)]), noise

    def predict(self, split, k):
        """Predict the query rows of each episode."""
        return best_linear_prediction(split, k, self.fixed, *self.effects)


class BoostedLogitModel(Method):
    """gpboost with a random intercept of log odds, for two classes.

    Given the support, the intercept of a new task is integrated out by quadrature.
    """

    uses_pooled_stage = True

    def suits(self, split, k):
        """Return whether there are two classes."""
        return split.n_classes == 2

    def fit(self, split):
        """Estimate with the setting that was best for pooled boosting."""
        rows = split.some_rows(MAX_ROWS["gpboost"])
        effects = {"likelihood": "bernoulli_logit"}
        model, self.fixed = fit_gpboost(split, rows, [], effects)
        variance = float(np.asarray(model.get_cov_pars()).ravel()[0])
        nodes, weights = np.polynomial.hermite_e.hermegauss(25)
        self.intercepts, self.log_weights = nodes * np.sqrt(variance), np.log(weights)

    def predict(self, split, k):
        """Predict the query rows of each episode."""
        return [self._one(split, *episode) for episode in split.episodes[k]]

    def _one(self, split, support, query):
        sign = np.where(split.y[support] == 1, 1, -1)[:, None]
        odds = self.fixed[support][:, None] + self.intercepts
        log_weights = self.log_weights - np.logaddexp(0, -sign * odds).sum(0)
        weights = np.exp(log_weights - log_weights.max())
        p = expit(self.fixed[query][:, None] + self.intercepts)
        p = p @ weights / weights.sum()
        return np.column_stack([1 - p, p])


class ForestMixedModel(Method):
    """merf: a random forest as the fixed part, a random intercept and one slope."""

    def fit(self, split):
        """Estimate by expectation maximisation."""
        from merf import MERF

        logging.getLogger("merf").setLevel(logging.WARNING)
        logging.getLogger("merf.merf").setLevel(logging.WARNING)
        rows = split.some_rows(MAX_ROWS["merf"])
        y, task, columns = split.y[rows], split.task[rows], split.linear[rows]
        slopes = slope_columns(columns, y, task, 1)
        forest = RandomForestRegressor(60, min_samples_leaf=5, random_state=0)
        model = MERF(fixed_effects_model=forest, max_iterations=8)
        model.fit(columns, design(columns, slopes), pd.Series(task), y)
        self.fixed = model.trained_fe_model.predict(split.linear)
        covariance = np.atleast_2d(model.D_hat_history[-1])
        self.effects = slopes, covariance, float(model.sigma2_hat_history[-1])

    def predict(self, split, k):
        """Predict the query rows of each episode."""
        return best_linear_prediction(split, k, self.fixed, *self.effects)


def fit_gpboost(split, rows, slopes, effects):
    """Return the fitted random effects, and the fixed part of all rows."""
    import gpboost

    booster = pooled_stage(split).booster
    groups = split.task[rows].astype(str)
    model = gpboost.GPModel(group_data=groups, **effects)
    parameters = {
        "learning_rate": booster.learning_rate,
        "num_leaves": booster.max_leaf_nodes,
        "min_data_in_leaf": 20,
        "lambda_l2": 1.0,
        "num_threads": 1,
        "verbose": -1,
    }
    data = gpboost.Dataset(split.tree[0][rows], split.y[rows].astype(float))
    fitted = gpboost.train(
        parameters, data, gp_model=model, num_boost_round=booster.max_iter
    )
    coefficients = split.linear[:, slopes] if len(slopes) else None
    said = fitted.predict(
        data=split.tree[0],
        group_data_pred=np.full(len(split.y), "new"),
        group_rand_coef_data_pred=coefficients,
        pred_latent=True,
        predict_var=False,
    )
    return model, np.asarray(said["fixed_effect"])


def independent_columns(columns):
    """Return the columns that are no combination of those before them."""
    kept, seen = [], np.ones((len(columns), 1))
    for j in range(columns.shape[1]):
        both = np.column_stack([seen, columns[:, j]])
        values = np.linalg.eigvalsh(both.T @ both / len(both))
        if values[0] > 1e-3:
            kept, seen = [*kept, j], both
    return kept


def _positive(covariance):
    """Return the nearest covariance without negative eigenvalues."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return (vectors * values.clip(0)) @ vectors.T
