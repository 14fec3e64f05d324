"""What practitioners use today: the methods that meta-learners are compared with.

``METHODS`` maps each kind of collection to its methods by name. A method has
``fit(split)``, which learns from training tasks, and ``predict(split, k)``, which
returns a prediction for each episode with ``k`` support rows.
"""

from importlib.util import find_spec

from held_out import NEW, REGRESSION, SHARED
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import SVR

from practitioners import mixed_models as mixed
from practitioners.new_classes import (
    OnFeatures,
    TunedLogistic,
    scaled,
    unscaled,
    whitened,
)
from practitioners.own_models import (
    Centroid,
    OwnGaussianProcess,
    OwnModel,
    SoftmaxSVC,
)
from practitioners.pooled import Pooled, PooledForest, Shifted, WithTaskMean
from practitioners.task_id import WithTaskId

OPTIONAL = ("lightgbm", "gpboost", "merf", "statsmodels")
MISSING = [package for package in OPTIONAL if find_spec(package) is None]

_POOLED = {
    "pooled boosting": Pooled("boosting"),
    "pooled linear": Pooled("linear"),
    "pooled forest": PooledForest(),
    "boosting, shifted": Shifted("boosting"),
    "linear, shifted": Shifted("linear"),
    "best of both, shifted": Shifted("best"),
    "boosting, task mean": WithTaskMean("boosting"),
    "linear, task mean": WithTaskMean("linear"),
}
if "lightgbm" not in MISSING:
    _POOLED["lightgbm, task id"] = WithTaskId()

_LDA = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
_FOREST = RandomForestClassifier(100, random_state=0)

METHODS = {
    REGRESSION: _POOLED
    | {
        "own mean": OwnModel(DummyRegressor()),
        "own ridge": OwnModel(Ridge(alpha=3.0)),
        "own kNN": OwnModel(KNeighborsRegressor(1)),
        "own SVR": OwnModel(SVR(C=3.0)),
        "own GP": OwnGaussianProcess(),
    },
    SHARED: _POOLED
    | {
        "own logistic": OwnModel(LogisticRegression(C=0.1, max_iter=1000)),
        "own SVC": OwnModel(SoftmaxSVC()),
        "own LDA": OwnModel(_LDA),
        "own kNN": OwnModel(KNeighborsClassifier(1)),
        "own forest": OwnModel(RandomForestClassifier(50, random_state=0)),
        "own centroid": OwnModel(Centroid()),
    },
    NEW: {
        "logistic, unscaled": TunedLogistic(unscaled),
        "logistic, raw": TunedLogistic(scaled),
        "logistic, whitened": TunedLogistic(whitened),
        "SVC": OnFeatures(SoftmaxSVC(), scaled),
        "LDA": OnFeatures(_LDA, scaled, least_shots=2),
        "forest": OnFeatures(_FOREST, scaled, least_shots=2),
        "kNN": OnFeatures(KNeighborsClassifier(1), scaled),
        "centroid, whitened": OnFeatures(Centroid(), whitened),
    },
}
if "statsmodels" not in MISSING:
    METHODS[REGRESSION]["MixedLM, intercept"] = mixed.LinearMixedModel(0)
    METHODS[REGRESSION]["MixedLM, slopes"] = mixed.LinearMixedModel(3)
if "gpboost" not in MISSING:
    METHODS[REGRESSION]["gpboost, intercept"] = mixed.BoostedMixedModel(0)
    METHODS[REGRESSION]["gpboost, slopes"] = mixed.BoostedMixedModel(2)
    METHODS[SHARED]["gpboost, intercept"] = mixed.BoostedLogitModel()
if "merf" not in MISSING:
    METHODS[REGRESSION]["merf"] = mixed.ForestMixedModel()
