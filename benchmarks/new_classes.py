"""New classes from 1, 5 and 10 rows each: digits, letters and textures, 5-way.

Each split holds classes out at random, trains on the rows of the others, and scores all
models on the same episodes of the held-out ones. Baselines are fitted on the support
alone: logistic regression, on the raw features and on features scaled by the training
classes, and nearest centroid on scaled features.
"""

import time

import numpy as np
import report
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_meta import (
    MAMLClassifier,
    ModelBasedMetaClassifier,
    ProtoNetClassifier,
    Task,
    TaskCollection,
)
from sklearn_meta.datasets import load_task_collection
from sklearn_meta.metrics import few_shot_score

SHOTS = (1, 5, 10)
N_WAYS, N_QUERIES = 5, 15
# classes to learn from; the rest are new
N_KNOWN = {"digits": 5, "letter": 18, "texture": 6}
METRICS = {"accuracy": ("accuracy", 1), "log-loss": ("neg_log_loss", -1)}
OURS = {
    "ProtoNet": ProtoNetClassifier(),
    "ProtoNet, unscaled": ProtoNetClassifier(standardize=False),
    "MAML": MAMLClassifier(),
    "transformer": ModelBasedMetaClassifier(),
}
DEFAULT_MODELS = ["ProtoNet"]


def fit_models(X, y, ours, seed):
    """Return the models to compare, those with a past fitted on the known classes."""
    scaled = StandardScaler()
    models = {
        "logistic": LogisticRegression(max_iter=2000),
        "logistic, scaled": make_pipeline(scaled, LogisticRegression(max_iter=2000)),
        "centroid, scaled": make_pipeline(scaled, NearestCentroid()),
    }
    for name in ("logistic, scaled", "centroid, scaled"):
        models[name].fit(X, y)  # its scaler stays, its last step is fitted to supports
    # as a collection: only learned from, while one table would be adapted to as well
    known = TaskCollection([Task(X, y)])
    learned = {name: OURS[name].set_params(random_state=seed) for name in ours}
    return {name: model.fit(known) for name, model in learned.items()} | models


def new_tasks(table, classes, rng, n_subsets):
    """Return tasks of five of the new classes each."""
    subsets = [rng.permutation(classes)[:N_WAYS] for _ in range(n_subsets)]
    keep = [np.isin(table.y, subset) for subset in subsets]
    return TaskCollection([Task(table.X[rows], table.y[rows]) for rows in keep])


def score_split(table, name, seed, args):
    """Return {(model, metric, K): score} of one way to hold classes out."""
    rng = np.random.RandomState(seed)
    classes = rng.permutation(np.unique(table.y))
    known, new = np.split(classes, [N_KNOWN[name]])
    rows = np.isin(table.y, known)
    models = fit_models(table.X[rows], table.y[rows], args.models, seed)
    n_subsets = 1 if len(new) == N_WAYS else 4
    tasks = new_tasks(table, new, rng, n_subsets)
    settings = {"n_queries": N_QUERIES, "random_state": seed}
    settings["n_episodes"] = args.episodes // n_subsets
    return {
        (model, metric, k): sign
        * few_shot_score(models[model], tasks, scoring=scoring, n_shots=k, **settings)
        for model in models
        for metric, (scoring, sign) in METRICS.items()
        for k in SHOTS
        # its probabilities need a spread within classes, which one row does not have
        if not (metric == "log-loss" and model.startswith("centroid"))
    }


def table_of(splits):
    """Return the table of a collection: scores and paired differences."""
    models = dict.fromkeys(model for model, _, _ in splits[0])
    ours = [m for m in models if m in OURS]
    header = ["metric", "K", *models, *(f"{m} - best baseline" for m in ours)]
    rows = []
    for metric, (_, sign) in METRICS.items():
        for k in SHOTS:
            scores = {
                m: np.array([s[m, metric, k] for s in splits])
                for m in models
                if (m, metric, k) in splits[0]
            }
            baselines = [m for m in scores if m not in OURS]
            best = max(baselines, key=lambda m, s=scores, g=sign: g * s[m].mean())
            gains = [
                f"{report.difference(scores[m] - scores[best])} ({best})" for m in ours
            ]
            cells = [report.interval(scores[m]) if m in scores else "" for m in models]
            rows.append([metric, k, *cells, *gains])
    return report.markdown_table(header, rows)


def main():
    """Run all splits of all collections and write the tables."""
    parser = report.command_line(__doc__)
    parser.add_argument("--collections", nargs="+", default=list(N_KNOWN))
    parser.add_argument(
        "--models", nargs="+", default=DEFAULT_MODELS, choices=list(OURS)
    )
    parser.add_argument("--splits", type=int, default=10, help="ways to hold out")
    parser.add_argument("--episodes", type=int, default=20, help="episodes a split")
    args = parser.parse_args()
    if args.quick:
        args.splits, args.episodes = 2, 4
    sections = [
        f"{N_WAYS}-way, {N_QUERIES} query rows a class, {args.splits} splits of the "
        f"classes, {args.episodes} episodes a split. Mean over splits and its 95 % "
        "interval; differences are paired over splits and bold where their interval is "
        "off 0. The best baseline is picked on the test scores, so it is flattered."
    ]
    for name in args.collections:
        start = time.perf_counter()
        [table] = load_task_collection(name)
        seeds = range(args.seed, args.seed + args.splits)
        splits = [score_split(table, name, seed, args) for seed in seeds]
        report.progress(f"{name}: done", start)
        n_new = len(np.unique(table.y)) - N_KNOWN[name]
        sections.append(f"## {name}: {N_KNOWN[name]} classes known, {n_new} new")
        sections.append(table_of(splits))
    name = "new_classes" if args.models == DEFAULT_MODELS else "new_classes_models"
    report.write(name, "New classes", sections, quick=args.quick)


if __name__ == "__main__":
    main()
