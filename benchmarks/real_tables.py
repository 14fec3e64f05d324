"""Real tables: meta-learners beside pooled boosting and one model per task.

Tasks are split into known (70 %) and unseen ones; every model is scored on the same
episodes of the unseen ones, from 1, 5 and 10 support rows a task. Mixed columns go
through a stock ``ColumnTransformer`` in a ``Pipeline``, fitted on the known tasks.
"""

import time

import numpy as np
import report
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_meta import (
    MAMLClassifier,
    MAMLRegressor,
    ModelBasedMetaClassifier,
    ModelBasedMetaRegressor,
    ProtoNetClassifier,
    TaskCollection,
)
from sklearn_meta.datasets import load_task_collection
from sklearn_meta.metrics import few_shot_score, paired_comparison

# collection: query rows, numbers of support rows (small tasks cannot spare 10)
REGRESSION = {
    "nox": (10, (1, 5, 10)),
    "gapminder": (20, (1, 5, 10)),
    "chickweight": (5, (1, 5)),
    "cigar": (10, (1, 5, 10)),
}
CLASSIFICATION = {"verbagg": (10, (1, 5, 10)), "cracker": (4, (1, 5, 10))}


class LogisticPerTask(ClassifierMixin, BaseEstimator):
    """Logistic regression, or the one class that the support has."""

    def fit(self, X, y):
        """Fit what the classes of the support allow."""
        several = len(np.unique(y)) > 1
        model = LogisticRegression(max_iter=2000) if several else DummyClassifier()
        self.model_ = model.fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        """Predict labels."""
        return self.model_.predict(X)


def preprocessing():
    """Return what makes numbers of mixed columns with missing values."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (texts, make_column_selector(dtype_exclude="number")),
    )


def meta_learners(classify, seed):
    """Return our estimators by name."""
    settings = {"random_state": seed, "device": "cpu"}
    if classify:
        return {
            "transformer": ModelBasedMetaClassifier(**settings),
            "MAML": MAMLClassifier(**settings),
            "ProtoNet": ProtoNetClassifier(**settings),
        }
    return {
        "transformer": ModelBasedMetaRegressor(**settings),
        "transformer on pooled": ModelBasedMetaRegressor(
            pooled_estimator=HistGradientBoostingRegressor(random_state=seed),
            **settings,
        ),
        "Meta-SGD": MAMLRegressor(variant="metasgd", **settings),
    }


def fit_models(known, classify, seed):
    """Return all models, fitted on the known tasks."""
    X, y, ids = known.to_flat()
    models = {}
    for name, estimator in meta_learners(classify, seed).items():
        model = make_pipeline(preprocessing(), estimator)
        models[name] = model.fit(X, y, **{f"{model.steps[-1][0]}__tasks": ids})
    boosting = (
        HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor
    )
    pooled = make_pipeline(preprocessing(), boosting(random_state=seed)).fit(X, y)
    own = LogisticPerTask() if classify else Ridge()
    return models | {
        "pooled boosting": FrozenEstimator(pooled),
        # its preprocessing stays, its last step is fitted to each support
        "own model": make_pipeline(preprocessing(), own).fit(X, y),
    }


def score_repeat(tasks, n_queries, shots, classify, seed):
    """Return {(metric, K, model): score of each unseen task} of one split."""
    order = np.random.RandomState(seed).permutation(len(tasks))
    n_known = round(0.7 * len(tasks))
    known, unseen = tasks[order[:n_known]], tasks[order[n_known:]]
    models = fit_models(known, classify, seed)
    metrics = {"nRMSE": ("neg_root_mean_squared_error", -1)}
    if classify:
        metrics = {"accuracy": ("accuracy", 1), "log-loss": ("neg_log_loss", -1)}
    else:
        metrics["nRMSE"] = (metrics["nRMSE"][0], -1 / known.to_flat()[1].std())
    settings = {"n_queries": n_queries, "stratify": False, "random_state": seed}
    return {
        (metric, k, name): factor
        * few_shot_score(
            model, unseen, scoring=scoring, n_shots=k, return_tasks=True, **settings
        ).scores
        for metric, (scoring, factor) in metrics.items()
        for k in shots
        for name, model in models.items()
        # of one class only, its probabilities are no such thing
        if not (metric == "log-loss" and name == "own model")
    }


def rows_of(collection, repeats):
    """Return table rows: scores, and the paired difference to pooled boosting."""
    names = dict.fromkeys(name for *_, name in repeats[0])
    rows = []
    for metric, k in dict.fromkeys(key[:2] for key in repeats[0]):
        scores = {
            name: np.concatenate([repeat[metric, k, name] for repeat in repeats])
            for name in names
            if (metric, k, name) in repeats[0]
        }
        cells = [report.interval(scores[n]) if n in scores else "" for n in names]
        ours = list(names)[1 if "transformer on pooled" in names else 0]
        against = paired_comparison(scores[ours], scores["pooled boosting"])
        gain = f"{report.difference(against.differences)} ({ours})"
        n_tasks = len(scores[ours])
        rows.append([collection, n_tasks, metric, k, *cells, gain])
    return rows


def run(collections, classify, args):
    """Return the table of some collections."""
    names = meta_learners(classify, 0)
    header = ["collection", "tasks", "metric", "K", *names, "pooled boosting"]
    own = "logistic per task" if classify else "ridge per task"
    rows = []
    for name, (n_queries, shots) in collections.items():
        start = time.perf_counter()
        X, y, ids = load_task_collection(name, return_X_y_tasks=True, as_frame=True)
        tasks = TaskCollection.from_arrays(X, y, ids)
        repeats = [
            score_repeat(tasks, n_queries, shots, classify, args.seed + r)
            for r in range(args.repeats)
        ]
        rows += rows_of(name, repeats)
        report.progress(f"{name}: done", start)
    return report.markdown_table([*header, own, "ours - pooled boosting"], rows)


def main():
    """Run all collections and write both tables."""
    parser = report.command_line(__doc__)
    parser.add_argument("--repeats", type=int, default=1, help="splits of the tasks")
    known = [*REGRESSION, *CLASSIFICATION]
    parser.add_argument("--collections", nargs="+", default=known, choices=known)
    args = parser.parse_args()
    if args.quick:
        args.repeats, args.collections = 1, ["cigar", "cracker"]
    regression, classification = (
        {name: kind[name] for name in args.collections if name in kind}
        for kind in (REGRESSION, CLASSIFICATION)
    )
    sections = [
        f"{args.repeats} split(s) of the tasks, 70 % known; mean over unseen tasks and "
        "its 95 % interval; bold where the paired difference is off 0. All estimators "
        'with their defaults; "transformer on pooled" has pooled boosting as its '
        "``pooled_estimator``.",
        "## Regression: error over the spread of the target, less is better",
        run(regression, False, args),
        "## Classes shared by the tasks",
        run(classification, True, args),
    ]
    report.write("real_tables", "Real tables", sections, quick=args.quick)


if __name__ == "__main__":
    main()
