"""
A day of pollution from five hours
==================================

Each task is one day of hourly measurements beside a road: the concentration of
nitrogen oxides, to be told from the traffic's emissions, the wind and the hour. A new
day begins, its first five hours are measured, and the rest of the day is to be
predicted, with an honest band around it.
"""

# %%
# The tasks
# ---------
# A task is a table of its own, here a day with 20 to 24 rows. Days are split into those
# to learn from and those that the model never sees.
import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.frozen import FrozenEstimator

from sklearn_meta import ModelBasedMetaRegressor, few_shot_split
from sklearn_meta.datasets import load_task_collection
from sklearn_meta.metrics import few_shot_score, paired_comparison

QUICK = bool(int(os.environ.get("SKLEARN_META_QUICK", "0")))
HOUR = 2  # column of the hour

days = load_task_collection("nox")
order = np.random.RandomState(0).permutation(len(days))
known, unseen = days[order[:236]], days[order[236:]]
print(f"{len(known)} days to learn from, {len(unseen)} that are not seen")

# %%
# Learning across days
# --------------------
# The model is a neural process: a transformer reads the measured rows of a day and
# returns a Gaussian for each of the others. Training draws days, and in each day a
# random number of hours as support, again and again. With ``pooled_estimator`` it
# starts from one gradient boosting for all days, which knows traffic and wind, and
# learns from what that leaves unexplained: the day itself.
boosting = HistGradientBoostingRegressor(random_state=0)
model = ModelBasedMetaRegressor(
    pooled_estimator=boosting,
    max_iter=60 if QUICK else 600,
    random_state=0,
    device="cpu",
)
model.fit(known)
plt.figure(figsize=(6, 3))
plt.plot(model.loss_curve_, lw=0.8)
plt.xlabel("outer step")
plt.ylabel("loss, nats a row")
plt.tight_layout()

# %%
# A new day
# ---------
# ``order="first"`` takes the first rows of a task as its support, as time does.
# ``adapt`` reads them; ``predict`` then gives the mean and the standard deviation of
# each hour.
figure, axes = plt.subplots(1, 3, figsize=(11, 3.5), sharey=True)
for day, axis in zip(unseen[:3], axes, strict=True):
    X_support, X_query, y_support, y_query = few_shot_split(
        *day, n_shots=5, order="first"
    )
    mean, std = model.adapt(X_support, y_support).predict(X_query, return_std=True)
    hours = X_query[:, HOUR]
    axis.fill_between(hours, mean - 1.96 * std, mean + 1.96 * std, alpha=0.25, lw=0)
    axis.plot(hours, mean, label="expected, with 95 % band")
    axis.plot(hours, y_query, "o", color="0.6", ms=4, label="measured later")
    axis.plot(X_support[:, HOUR], y_support, "ko", label="first five hours")
    axis.set(xlabel="hour", title=f"day {day.name}")
axes[0].set_ylabel("log concentration")
axes[0].legend(fontsize="small")
figure.tight_layout()

# %%
# How wide is honest?
# -------------------
# A band of 95 % should hold 95 % of the hours that come. Many days at once need no
# loop: ``adapt_tasks`` takes the support of all of them, and ``predict`` the task of
# each row.
splits = [few_shot_split(*day, n_shots=5, order="first") for day in unseen]
X_query = np.concatenate([split[1] for split in splits])
y_query = np.concatenate([split[3] for split in splits])
ids = np.repeat(np.arange(len(splits)), [len(split[1]) for split in splits])

model.adapt_tasks([(split[0], split[2]) for split in splits])
low, high = model.predict_quantiles(X_query, (0.025, 0.975), tasks=ids).T
coverage = np.mean((low < y_query) & (y_query < high))
print(f"{coverage:.1%} of the later hours of {len(splits)} days are in their band.")

# %%
# Against one model for all days
# ------------------------------
# Boosting alone knows nothing of what is special about today. Both are scored on the
# same days and hours, once from five hours drawn at random, and once from the first
# five. The difference is taken day by day.
#
# Five hours spread over the day tell much about it. The first five are night hours:
# they say little about the rush hour, and the model was trained on hours drawn at
# random. Score a model in the way in which it will be used.
frozen = FrozenEstimator(boosting.fit(*known.to_flat()[:2]))
settings = {"scoring": "neg_root_mean_squared_error", "return_tasks": True}
for hours in ("random", "first"):
    adapted, pooled = (
        few_shot_score(m, unseen, n_shots=5, order=hours, **settings)
        for m in (model, frozen)
    )
    low, high = paired_comparison(adapted, pooled).interval
    print(
        f"five hours ({hours}): error {-adapted.mean:.3f} adapted, "
        f"{-pooled.mean:.3f} pooled; less by {low:.3f} to {high:.3f}"
    )
