"""
New digits from few examples
============================

A classifier that has seen the digits 0 to 5 meets 6, 7, 8 and 9, with a few examples of
each. The images come as rows of 64 pixels, as scikit-learn has them; the network that
embeds them is a small convolutional one of your own.
"""

# %%
# Known and new classes
# ---------------------
import os
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay
from torch import nn

from sklearn_meta import ProtoNetClassifier, Task, few_shot_split
from sklearn_meta.exceptions import FewTasksWarning
from sklearn_meta.metrics import few_shot_score

QUICK = bool(int(os.environ.get("SKLEARN_META_QUICK", "0")))

X, y = load_digits(return_X_y=True)
X = X / 16  # pixels in [0, 1]
known = y <= 5
figure, axes = plt.subplots(1, 10, figsize=(10, 1.4))
for digit, axis in enumerate(axes):
    axis.imshow(X[y == digit][0].reshape(8, 8), cmap="gray_r")
    axis.set_title(f"{digit}, {'known' if digit <= 5 else 'new'}", fontsize="small")
    axis.axis("off")


# %%
# Your own network
# ----------------
# ``module`` is a class or a function that returns an ``nn.Module`` from rows to an
# embedding. It is called with ``n_features`` if it takes that, and with what
# ``module__x`` says. Layers that mix the rows of a batch are refused.
def small_convnet(n_features, width=16):
    """Embed rows of pixels, seen as square images."""
    side = int(n_features**0.5)
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)),
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )


# %%
# One table is enough: with classes that are not shared by tasks, ``fit(X, y)`` draws
# episodes over the classes of the table, here three of the six known digits at a time.
settings = {"n_ways": 3, "standardize": False, "random_state": 0, "device": "cpu"}
n_steps = 15 if QUICK else 200
convnet = ProtoNetClassifier(module=small_convnet, max_iter=n_steps, **settings)
convnet.set_params(module__width=8)

# %%
# ``fit`` warns that six classes are few for a network. Here that is meant: the scores
# below show what it costs.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FewTasksWarning)
    convnet.fit(X[known], y[known])

# %%
# Meeting new digits
# ------------------
# Five images of each new digit are enough to be told apart; ``classes_`` are now the
# new ones.
X_support, X_query, y_support, y_query = few_shot_split(
    X[~known], y[~known], n_shots=5, random_state=0
)
convnet.adapt(X_support, y_support)
print(f"classes {convnet.classes_}, accuracy {convnet.score(X_query, y_query):.3f}")
ConfusionMatrixDisplay.from_estimator(convnet, X_query, y_query, colorbar=False)

# %%
# What did it cost, and what did it bring?
# ----------------------------------------
# The same episodes for all: the convolutional network, the closed form of the
# classifier for so few classes, and logistic regression, which has learned nothing
# before. On images as easy as these, with six classes to learn from,
# logistic regression is hard to beat; a network wants more classes.
whitened = ProtoNetClassifier(embedding="whitened", max_iter=n_steps, **settings)
whitened.fit(X[known], y[known])
models = {
    "convolutional": convnet,
    "whitened": whitened,
    "logistic": LogisticRegression(C=10, max_iter=1000),
}
new_digits = [Task(X[~known], y[~known], "new digits")]
shots = (1, 5, 10)
accuracy = {
    name: [
        few_shot_score(
            model, new_digits, n_shots=k, n_queries=15, n_episodes=3 if QUICK else 30
        )
        for k in shots
    ]
    for name, model in models.items()
}
figure, axis = plt.subplots(figsize=(6, 3.5))
for i, (name, values) in enumerate(accuracy.items()):
    axis.bar(np.arange(len(shots)) + 0.25 * (i - 1), values, 0.25, label=name)
    print(name, np.round(values, 3))
axis.set(ylim=(0.5, 1), ylabel="accuracy", xlabel="images of each new digit")
axis.set_xticks(range(len(shots)), shots)
axis.legend(loc="lower right")
figure.tight_layout()
