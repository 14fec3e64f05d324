"""
Choosing a model with scikit-learn's own tools
==============================================

A meta-learner is judged on tasks that it has not seen, after it has adapted to a few
rows of each. ``few_shot_scorer`` does that inside ``GridSearchCV``, ``TaskKFold`` keeps
the rows of a task together, and ``paired_comparison`` tells whether one model is better
than another or only luckier.
"""

# %%
# Flat rows, with the task of each
# --------------------------------
# The growth of young chickens: a task is a bird, its rows are weighings, and diets
# differ. The ids travel through scikit-learn's tools by metadata routing, which is
# switched on here for this page alone.
import os

import matplotlib.pyplot as plt
import numpy as np
import sklearn
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from sklearn_meta import MAMLRegressor, TaskCollection, adapt
from sklearn_meta.datasets import load_task_collection
from sklearn_meta.metrics import few_shot_score, few_shot_scorer, paired_comparison
from sklearn_meta.model_selection import TaskKFold

QUICK = bool(int(os.environ.get("SKLEARN_META_QUICK", "0")))

X, y, birds = load_task_collection("chickweight", return_X_y_tasks=True)
tasks = TaskCollection.from_arrays(X, y, birds)
held_out = np.isin(birds, np.random.RandomState(0).permutation(tasks.names)[:14])
print(f"{len(tasks)} birds, {held_out.sum()} of {len(y)} rows are kept for the end")

# %%
# Searching over meta-parameters
# ------------------------------
# What is searched is how the model learns to learn: how long and how fast a step on the
# five weighings of a new bird may be, and which variant of MAML is trained.
pipeline = make_pipeline(
    StandardScaler(),
    MAMLRegressor(max_iter=20 if QUICK else 150, random_state=0, device="cpu"),
)
search = GridSearchCV(
    pipeline,
    {
        "mamlregressor__inner_lr": [0.01, 0.05],
        "mamlregressor__variant": ["maml"] if QUICK else ["maml", "anil", "metasgd"],
    },
    cv=TaskKFold(2 if QUICK else 3),
    scoring=few_shot_scorer("neg_root_mean_squared_error", n_shots=5),
)
with sklearn.config_context(enable_metadata_routing=True):
    search.fit(X[~held_out], y[~held_out], tasks=birds[~held_out])
print("chosen:", search.best_params_)

# %%
# Every candidate was scored on the same episodes of the same held-out birds.
results = search.cv_results_
labels = [", ".join(map(str, p.values())) for p in results["params"]]
figure, axis = plt.subplots(figsize=(7, 3))
axis.barh(labels, -results["mean_test_score"], xerr=results["std_test_score"])
axis.set_xlabel("error on unseen birds, grams (bar: spread over folds)")
figure.tight_layout()

# %%
# Is it better than a model per bird?
# -----------------------------------
# The fitted search is scored on the birds that were kept, and beside it a quadratic
# ridge regression that is fitted to the five weighings alone. ``few_shot_score`` takes
# both, and draws the same episodes; ``return_tasks=True`` keeps the score of each bird.
unseen = TaskCollection.from_arrays(X[held_out], y[held_out], birds[held_out])
settings = {
    "scoring": "neg_root_mean_squared_error",
    "n_shots": 5,
    "n_episodes": 5,
    "return_tasks": True,
}
chosen = few_shot_score(search, unseen, **settings)
ridge = make_pipeline(StandardScaler(), PolynomialFeatures(2), Ridge(0.1))
alone = few_shot_score(ridge, unseen, **settings)
difference = paired_comparison(chosen, alone)
low, high = difference.interval
print(f"error: chosen {-chosen.mean:.1f} g, alone {-alone.mean:.1f} g")
print(f"chosen is better by {difference.mean:.1f} g, interval {low:.1f} to {high:.1f}")

figure, axis = plt.subplots(figsize=(4, 4))
axis.plot(-alone.scores, -chosen.scores, "o")
axis.axline((0, 0), slope=1, color="0.7")
axis.set(xlabel="error of a model per bird", ylabel="error of the chosen model")
figure.tight_layout()

# %%
# Using what was found
# --------------------
# ``adapt`` takes the fitted search as it is: five weighings go through the pipeline's
# scaler, and the model is adapted to the bird. The search itself stays unadapted.
X_bird, y_bird = unseen[0]
model = adapt(search, X_bird[:5], y_bird[:5])
print("expected:", model.predict(X_bird[5:]).round())
print("weighed: ", y_bird[5:])
