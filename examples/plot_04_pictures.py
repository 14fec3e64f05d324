"""
Three pictures of a model that adapts
=====================================

How a new task changes the prediction, how many rows that takes, and on which tasks it
works: each is one call of a display, as scikit-learn's own. The tasks are young
chickens that are weighed every other day.
"""

# %%
# A model that has seen other birds
# ---------------------------------
# Rows are weighings: the age in days, the diet, and the weight in grams. Thirteen birds
# are kept for the pictures.
import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from sklearn_meta import ModelBasedMetaRegressor
from sklearn_meta.datasets import load_task_collection
from sklearn_meta.inspection import (
    AdaptationDisplay,
    ShotCurveDisplay,
    TaskScoreDisplay,
)

QUICK = bool(int(os.environ.get("SKLEARN_META_QUICK", "0")))

birds = load_task_collection("chickweight")
order = np.random.RandomState(0).permutation(len(birds))
known, unseen = birds[order[13:]], birds[order[:13]]
model = ModelBasedMetaRegressor(
    max_iter=250 if QUICK else 1000, random_state=0, device="cpu"
).fit(known)

# %%
# What adapting does
# ------------------
# Before a bird is weighed, the model predicts what birds have in common. Five weighings
# move the curve and narrow its band; the open circles are weighings that the model has
# not seen. It has learned with one weighing at least, so take the dashed curve for a
# rough guess.
X, y = unseen[0]
AdaptationDisplay.from_estimator(model, X[:5], y[:5], X_query=X[5:], y_query=y[5:])
plt.xlabel("age in days")
plt.ylabel("weight in grams")
plt.tight_layout()

# %%
# How many rows it takes
# ----------------------
# Two baselines on the same weighings: a quadratic curve through those of the bird
# alone, and one model of all known birds that does not look at the new one.
X_known, y_known, _ = known.to_flat()
boosting = HistGradientBoostingRegressor(random_state=0).fit(X_known, y_known)
alone = make_pipeline(StandardScaler(), PolynomialFeatures(2), Ridge(0.1))
models = {
    "neural process": model,
    "one curve per bird": alone,
    "one model for all": FrozenEstimator(boosting),
}
ShotCurveDisplay.from_estimator(
    models,
    unseen,
    n_shots=[1, 2, 4, 8],
    n_queries=3,
    scoring="neg_mean_absolute_error",
    n_episodes=2 if QUICK else 10,
)
plt.ylabel("mean absolute error in grams")
plt.tight_layout()

# %%
# On which tasks it works
# -----------------------
# The mean hides single birds. Here is the error on each, beside that of the model for
# all; a line joins the two errors of a bird, and the title gives their mean difference
# with its 95 % interval.
del models["one curve per bird"]
TaskScoreDisplay.from_estimator(
    models,
    unseen,
    n_shots=5,
    scoring="neg_mean_absolute_error",
    n_episodes=2 if QUICK else 10,
)
plt.xlabel("mean absolute error in grams")
plt.ylabel("bird")
plt.tight_layout()
