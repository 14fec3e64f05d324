"""Two families beside what they have to beat, on the same episodes.

Networks that read the support (``ModelBasedMeta``) beside pooled models; ensembles over
any estimator (``TaskEnsemble``) beside the same estimator pooled, and fitted to each
task by itself.
"""

import time
import warnings

import numpy as np
import report
from accuracy import score_episodes
from episode_scores import Normal
from held_out import KIND, REGRESSION, split_collection
from method import Method
from ours import MetaLearner
from practitioners import METHODS
from practitioners.own_models import OwnModel, SoftmaxSVC
from practitioners.pooled_stage import ask
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.svm import SVR
from verdict import PRIMARY

from sklearn_meta import (
    ModelBasedMetaRegressor,
    TaskEnsembleClassifier,
    TaskEnsembleRegressor,
)

# rows that a pooled support vector machine can bear
MAX_POOLED_ROWS = 6_000
ARCHITECTURES = ("hypernetwork", "recurrent", "cnp", "attentive", "transformer")
POOLED = ("pooled boosting", "pooled linear")
# name: the estimator by kind of collection, with scikit-learn's defaults
ENSEMBLED = {
    "forest": (
        RandomForestRegressor(random_state=0),
        RandomForestClassifier(random_state=0),
    ),
    "SVM": (SVR(), SoftmaxSVC(C=1.0)),
}


class PooledEstimator(Method):
    """One clone of an estimator, fitted to the rows of all training tasks."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, split):
        """Fit it."""
        rows = split.some_rows(MAX_POOLED_ROWS)
        model = clone(self.estimator)
        self.model = model.fit(split.linear[rows], split.y[rows])

    def predict(self, split, k):
        """Predict the query rows of each episode."""
        episodes = split.episodes[k]
        said = [ask(self.model, split.linear[e.query], split) for e in episodes]
        return [Normal(p[:, 0]) for p in said] if split.kind == REGRESSION else said


def model_based():
    """Return the networks that read a support, and the pooled models, by name."""
    ours = {
        name: MetaLearner(ModelBasedMetaRegressor, {"architecture": name})
        for name in ARCHITECTURES
    }
    rivals = {name: METHODS[REGRESSION][name] for name in POOLED}
    return {name: (method, rivals) for name, method in ours.items()}


def ensembles(kind):
    """Return ensembles, and the same estimators without one, by name."""
    regression = kind == REGRESSION
    ensemble = TaskEnsembleRegressor if regression else TaskEnsembleClassifier
    found = {}
    for name, of_kind in ENSEMBLED.items():
        estimator = of_kind[0 if regression else 1]
        rivals = {
            f"pooled {name}": PooledEstimator(estimator),
            f"own {name}": OwnModel(estimator),
        }
        ours = MetaLearner(ensemble, {"estimator": estimator})
        found[f"ensemble of {name}s"] = ours, rivals
    return found


def scores_of(method, split):
    """Return scores of each K, an array over episodes, and the seconds to fit."""
    start = time.process_time()
    method.fit(split)
    spent = time.process_time() - start
    scores = {}
    for k, episodes in split.episodes.items():
        table, _ = score_episodes(split, episodes, method.predict(split, k))
        scores[k] = table[PRIMARY[split.kind]].to_numpy()
    return scores, spent


def rows_of(collection, pairs, n_repeats):
    """Return a row of the table for each K, method and rival."""
    splits = [split_collection(collection, repeat) for repeat in range(n_repeats)]
    methods = {name: method for name, (method, _) in pairs.items()}
    for _, rivals in pairs.values():
        methods |= rivals
    scores, seconds = {}, {}
    for name, method in methods.items():
        found = [scores_of(method, split) for split in splits]
        seconds[name] = np.mean([spent for _, spent in found])
        for k in splits[0].episodes:
            scores[name, k] = np.concatenate([by_k[k] for by_k, _ in found])
        report.progress(f"{collection}: {name} done, {seconds[name]:.1f} s a fit")
    rows = []
    for k in splits[0].episodes:
        for name, (_, rivals) in pairs.items():
            for rival in rivals:
                ours, theirs = scores[name, k], scores[rival, k]
                cells = [f"{ours.mean():.3f}", rival, f"{theirs.mean():.3f}"]
                cells += [report.difference(ours - theirs), f"{seconds[name]:.0f}"]
                rows.append([collection, k, name, len(ours), *cells])
    return rows


def main():
    """Score both families and write a table for each."""
    parser = report.command_line(__doc__.split("\n")[0])
    parser.add_argument("--networks", nargs="*", default=["nox"], help="collections")
    parser.add_argument("--ensembles", nargs="*", default=["gapminder", "guprenat"])
    parser.add_argument("--repeats", type=int, default=2, help="splits")
    args = parser.parse_args()
    if args.quick:
        args.networks, args.ensembles, args.repeats = ["chickweight"], ["cigar"], 1
    warnings.simplefilter("ignore")
    header = ["collection", "K", "method", "n", "error", "beside", "its error"]
    header += ["difference", "seconds of a fit"]
    text = (
        "Errors are nRMSE of numbers and log-loss of classes, means over the held-out "
        f"tasks of {args.repeats} splits. Differences are paired, with their 95 % "
        "interval; in bold where it is off 0. All have their default settings."
    )
    networks = [
        r for c in args.networks for r in rows_of(c, model_based(), args.repeats)
    ]
    if networks:
        table = report.markdown_table(header, networks)
        title = "Networks that read the support"
        report.write("model_based", title, [text, table], quick=args.quick)
    kept = [
        r for c in args.ensembles for r in rows_of(c, ensembles(KIND[c]), args.repeats)
    ]
    if kept:
        table = report.markdown_table(header, kept)
        report.write(
            "ensembles", "Ensembles over tasks", [text, table], quick=args.quick
        )


if __name__ == "__main__":
    main()
