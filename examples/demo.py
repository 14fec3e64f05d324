"""Learn across real tables, adapt to unseen ones with 1, 5 and 10 rows.

Two collections: 338 days of hourly air pollution, where a new day arrives with a few
measured hours; and handwritten digits, where new digits arrive with a few images each.
Every model is scored on the same episodes of tasks that no model was fitted on. Prints
a table and draws ``demo.png``; ``SKLEARN_META_QUICK=1`` takes seconds, not minutes.
"""

import os
import time
from functools import partial

import matplotlib

matplotlib.use("Agg")  # draws without a screen

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_meta import (
    MetaStackingRegressor,
    ProtoNetClassifier,
    Task,
    TaskCollection,
)
from sklearn_meta.datasets import load_task_collection
from sklearn_meta.metrics import few_shot_score, paired_comparison

QUICK = bool(int(os.environ.get("SKLEARN_META_QUICK", "0")))
SHOTS = (1, 5, 10)
N_DAYS = 60 if QUICK else 236
PRESET = "fast" if QUICK else "default"
N_STEPS = {"max_iter": 30} if QUICK else {}  # else the default
N_CLASS_SPLITS = 2 if QUICK else 10
HOUR = 2  # column of the pollution table


def main():
    """Run both collections, print the table and draw the picture."""
    start = time.perf_counter()
    say(
        f"[1/3] 338 days of pollution: learning across {N_DAYS}, adapting to 102 others"
    )
    days = load_task_collection("nox")
    order = np.random.RandomState(0).permutation(len(days))
    known, unseen = days[order[:N_DAYS]], days[order[236:]]
    models = fit_on_days(known)
    scale = np.concatenate([task.y for task in known]).std()
    pollution = score_all(models, unseen, "neg_root_mean_squared_error", -1 / scale)
    say(f"[2/3] digits: {N_CLASS_SPLITS} times, 5 of 10 are held out as new classes")
    digits = score_digits(load_task_collection("digits")[0])
    say("[3/3] drawing demo.png")
    draw(models["meta-learned"], unseen[:4], "demo.png")
    print_table("Pollution: error / spread of target (less is better)", pollution)
    print_table("New digits, 5 classes: accuracy (more is better)", digits)
    print("Mean over unseen tasks and its 95 % interval, all on the same episodes;")
    print("* the meta-learned model differs from this one by more than chance.")
    print(f"Finished in {time.perf_counter() - start:.0f} s.")


def fit_on_days(known):
    """Return the models to compare, those of all days fitted on the known ones."""
    boosting = HistGradientBoostingRegressor(random_state=0)
    # several meta-learners, weighed by what they say of days that they have not seen
    meta = MetaStackingRegressor(preset=PRESET, n_jobs=2, random_state=0, verbose=1)
    X, y, _ = known.to_flat()
    return {
        "meta-learned": meta.fit(known),
        "pooled boosting": FrozenEstimator(boosting.fit(X, y)),  # whatever the day
        "ridge per task": make_pipeline(StandardScaler(), Ridge()),
    }


def score_digits(table):
    """Return accuracies on unseen digits, one for each way to hold out five of them."""
    rng = np.random.RandomState(0)
    collected = []
    for _ in range(N_CLASS_SPLITS):
        held_out = np.isin(table.y, rng.permutation(10)[:5])
        # the closed form: five classes are few for a network
        meta = ProtoNetClassifier(
            embedding="whitened", random_state=0, verbose=1, **N_STEPS
        )
        models = {
            "meta-learned": meta.fit(table.X[~held_out], table.y[~held_out]),
            "logistic per task": LogisticRegression(max_iter=1000),
        }
        new = TaskCollection([Task(table.X[held_out], table.y[held_out], "new digits")])
        collected.append(score_all(models, new, "accuracy", 1, n_episodes=20))
    together = {
        model: [np.concatenate([s[model][k] for s in collected]) for k in range(3)]
        for model in collected[0]
    }
    return together | {"pooled boosting": None}  # it cannot know the new classes


def score_all(models, tasks, scoring, factor, n_episodes=1):
    """Return the scores of the tasks by model and number of support rows."""
    score = partial(few_shot_score, X=tasks, scoring=scoring, return_tasks=True)
    settings = {"n_queries": 10, "n_episodes": n_episodes, "random_state": 0}
    return {
        name: [factor * score(model, n_shots=k, **settings).scores for k in SHOTS]
        for name, model in models.items()
    }


def print_table(title, scores):
    """Print mean and interval by model and number of support rows."""
    print(f"\n{title}")
    print(f"{'':20}" + "".join(f"{rows(k):>18}" for k in SHOTS))
    for name, columns in scores.items():
        cells = ["classes unknown"] * len(SHOTS) if columns is None else []
        for ours, column in zip(scores["meta-learned"], columns or [], strict=False):
            low, high = paired_comparison(ours, column).interval
            mark = "*" if name != "meta-learned" and (low > 0 or high < 0) else " "
            cells.append(f"{mean_and_interval(column)}{mark}")
        print(f"{name:20}" + "".join(f"{cell:>18}" for cell in cells))
    print()


def rows(n_shots):
    """Return a number of rows as text."""
    return "1 row" if n_shots == 1 else f"{n_shots} rows"


def mean_and_interval(scores):
    """Return the mean and half the width of its 95 % interval, as text."""
    half = stats.t.ppf(0.975, len(scores) - 1) * stats.sem(scores)
    return f"{scores.mean():.3f} ± {half:.3f}"


def draw(model, tasks, path):
    """Draw unseen days after 1, 5 and 10 measured hours, with 95 % bands."""
    figure, axes = plt.subplots(
        len(SHOTS), len(tasks), figsize=(12, 7), sharex=True, sharey=True
    )
    for column, task in zip(axes.T, tasks, strict=True):
        measured = np.random.RandomState(0).permutation(len(task))
        column[0].set_title(f"day {task.name}")
        for n_shots, axis in zip(SHOTS, column, strict=True):
            draw_day(axis, model, task, measured[:n_shots])
    for n_shots, axis in zip(SHOTS, axes[:, 0], strict=True):
        axis.set_ylabel(f"{rows(n_shots)}\nlog NOx")
    for axis in axes[-1]:
        axis.set_xlabel("hour")
    axes[0, 0].legend(loc="lower right", fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def draw_day(axis, model, task, support):
    """Draw one day: measured hours, the others, and what the model expects."""
    X, y = task
    by_hour = np.argsort(X[:, HOUR])
    hour = X[by_hour, HOUR]
    model.adapt(X[support], y[support])
    mean, std = model.predict(X[by_hour], return_std=True)
    axis.fill_between(hour, mean - 1.96 * std, mean + 1.96 * std, alpha=0.25, lw=0)
    axis.plot(hour, mean, label="expected")
    axis.plot(X[:, HOUR], y, "o", color="0.6", ms=3, label="unseen hours")
    axis.plot(X[support, HOUR], y[support], "o", color="black", label="known rows")


def say(message):
    """Print a step of the demo at once."""
    print(message, flush=True)


if __name__ == "__main__":
    main()
