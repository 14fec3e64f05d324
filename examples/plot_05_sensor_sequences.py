"""
A new wearer of a motion sensor
===============================

A sensor on the body tells whether its wearer walks, runs, climbs or cycles. Everybody
wears it in another way: turned, loose, at another pace. A model for all wearers cannot
know how it sits on the next one, but five labelled windows of each activity tell it.
Each row is a sequence, read by a convolutional network of your own.
"""

# %%
# Wearers and windows
# -------------------
# A task is a wearer. A row is a window of 32 measurements along three axes, 96 numbers.
# The signals are made up: an activity is a direction in which the body swings and one
# in which it leans, and each wearer turns both.
import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from torch import nn

from sklearn_meta import MAMLClassifier, ProtoNetClassifier, Task, TaskCollection
from sklearn_meta.metrics import few_shot_score

QUICK = bool(int(os.environ.get("SKLEARN_META_QUICK", "0")))
ACTIVITIES = np.array(["climb", "cycle", "run", "walk"])
N_MEASUREMENTS = 32

rng = np.random.default_rng(0)
SWING, LEAN = rng.normal(size=(2, len(ACTIVITIES), 3))


def make_wearer(name, n_windows=48):
    """Return the windows of one wearer, with their activities."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    pace, looseness = rng.uniform(0.7, 1.4), rng.uniform(0.5, 1.0)
    activity = np.arange(n_windows) % len(ACTIVITIES)
    time = 2 * np.pi * np.arange(N_MEASUREMENTS) / 12
    start = rng.uniform(0, 2 * np.pi, n_windows)
    wave = np.sin(pace * time + start[:, None])  # (n_windows, n_measurements)
    body = SWING[activity][:, :, None] * wave[:, None] + LEAN[activity][:, :, None]
    noise = rng.normal(size=body.shape)
    return Task(
        (looseness * (turn @ body) + noise).reshape(n_windows, -1),
        ACTIVITIES[activity],
        name,
    )


wearers = TaskCollection([make_wearer(f"wearer {i}") for i in range(120)])
known, new = wearers[:90], wearers[90:]

figure, axes = plt.subplots(2, 4, figsize=(11, 4), sharex=True, sharey=True)
for wearer, row in zip(new[:2], axes, strict=True):
    for activity, axis in zip(ACTIVITIES, row, strict=True):
        window = wearer.X[wearer.y == activity][0].reshape(3, -1)
        axis.plot(window.T, lw=1)
        axis.set_title(f"{wearer.name}: {activity}", fontsize="small")
figure.tight_layout()


# %%
# A network that reads sequences
# ------------------------------
# ``module`` may be any function that returns an ``nn.Module`` from rows to outputs. The
# rows come flat, so the first layer folds them into three channels. Without
# ``n_outputs`` an embedding is asked for. Layers that mix the rows of a batch would be
# refused; an average over time stays within its row.
def sequence_net(n_features, n_outputs=None, width=24):
    """Read windows of three axes by convolutions along time."""
    return nn.Sequential(
        nn.Unflatten(1, (3, n_features // 3)),
        nn.Conv1d(3, width, 5, padding=2),
        nn.ReLU(),
        nn.Conv1d(width, width, 5, padding=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(width, width if n_outputs is None else n_outputs),
    )


# %%
# Three ways to use it
# --------------------
# Prototypes adapt in closed form: the means of the support windows, in a space that was
# learned across wearers. ANIL takes gradient steps on the last layer alone. First-order
# MAML takes them on all layers. The network is the same.
settings = {
    "module": sequence_net,
    "n_shots": 5,
    "max_iter": 10 if QUICK else 250,
    "random_state": 0,
    "device": "cpu",
}
models = {
    "prototypes": ProtoNetClassifier(**settings),
    "ANIL": MAMLClassifier(variant="anil", inner_lr=0.5, **settings),
    "first-order MAML": MAMLClassifier(variant="fomaml", inner_lr=0.1, **settings),
}
if QUICK:
    del models["first-order MAML"]
for name, model in models.items():
    model.fit(known)
    print(f"{name}: loss of the last steps {np.mean(model.loss_curve_[-10:]):.3f}")

# %%
# Five windows of each activity
# -----------------------------
# Beside them stand a forest for all wearers, which cannot adapt, and a forest for each
# new wearer, which knows nothing of the others. All see the same windows.
X, y, _ = known.to_flat()
forest = RandomForestClassifier(n_estimators=20 if QUICK else 200, random_state=0)
models["forest, all wearers"] = FrozenEstimator(forest.fit(X, y))
models["forest, new wearer"] = RandomForestClassifier(random_state=0, n_estimators=50)

shots = (1, 5)
accuracy = {
    name: [
        few_shot_score(model, new[:4] if QUICK else new, n_shots=k, n_queries=6)
        for k in shots
    ]
    for name, model in models.items()
}
figure, axis = plt.subplots(figsize=(7, 3.5))
width = 0.8 / len(accuracy)
for i, (name, values) in enumerate(accuracy.items()):
    axis.bar(np.arange(len(shots)) + width * i, values, width, label=name)
    print(f"{name}: {np.round(values, 3)}")
axis.axhline(1 / len(ACTIVITIES), color="k", lw=0.8, ls=":")
axis.set_xticks(np.arange(len(shots)) + 0.4 - width / 2, shots)
axis.set(xlabel="labelled windows of each activity", ylabel="accuracy")
axis.legend(fontsize="small")
figure.tight_layout()
