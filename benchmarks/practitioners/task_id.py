"""LightGBM with the task as a category, fitted again with the support of new tasks."""

import numpy as np
from episode_scores import Normal
from held_out import REGRESSION
from method import Method

from practitioners.pooled_stage import ask, pooled_stage


class WithTaskId(Method):
    """Boosting that is fitted again, with the support of all new tasks at once."""

    uses_pooled_stage = True

    def fit(self, split):
        """Take the setting that was best for pooled boosting, and its rows."""
        stage = pooled_stage(split)
        self.rows, self.booster = stage.rows, stage.booster

    def predict(self, split, k):
        """Fit with the supports, and predict the query rows of each episode."""
        supports = np.concatenate([e.support for e in split.episodes[k]])
        rows = np.concatenate([self.rows, supports])
        columns = np.column_stack([split.tree[0], split.task])
        categorical = np.flatnonzero(np.append(split.tree[1], True)).tolist()
        model = self._model(split).fit(
            columns[rows], split.y[rows], categorical_feature=categorical
        )
        said = [ask(model, columns[e.query], split) for e in split.episodes[k]]
        return [Normal(p[:, 0]) for p in said] if split.kind == REGRESSION else said

    def _model(self, split):
        import lightgbm

        regression = split.kind == REGRESSION
        kind = lightgbm.LGBMRegressor if regression else lightgbm.LGBMClassifier
        return kind(
            n_estimators=self.booster.max_iter,
            learning_rate=self.booster.learning_rate,
            num_leaves=self.booster.max_leaf_nodes,
            min_child_samples=20,
            reg_lambda=1.0,
            # a new task has few rows: they must count
            min_data_per_group=1,
            cat_smooth=2.0,
            cat_l2=2.0,
            n_jobs=1,
            verbose=-1,
        )
