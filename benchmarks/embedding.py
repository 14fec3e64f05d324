"""What any estimator gains by columns that were learned across tasks.

An estimator is fitted on the support of each episode with scikit-learn's defaults, on
standardised columns, on principal components of variance 1, and on those of
``MetaEmbedding``. New classes: K rows of each of five; numbers: K rows of a new task.
"""

import warnings

import numpy as np
import report
from accuracy import score_episodes
from embedded import ESTIMATORS, FEATURES, OnColumns, errors_in, first_episodes
from held_out import KIND, NEW, split_collection

COLLECTIONS = ("digits", "letter", "texture", "nox")
SHOTS_OF_NUMBERS = (10,)


def scores_of(collection, repeat, n_episodes):
    """Return scores per episode by K, estimator and columns, of one split."""
    split = split_collection(collection, repeat)
    if split.kind == NEW:
        split = first_episodes(split, n_episodes)
    else:
        split.episodes = {k: split.episodes[k] for k in SHOTS_OF_NUMBERS}
    found = {}
    for columns, features in FEATURES.items():
        for name, estimator in ESTIMATORS[split.kind].items():
            method = OnColumns(estimator, features)
            method.fit(split)
            for k, episodes in split.episodes.items():
                table, _ = score_episodes(split, episodes, method.predict(split, k))
                found[k, name, columns] = errors_in(table, split.kind)
    return found


def rows_of(collection, n_repeats, n_episodes):
    """Return the rows of the table for one collection."""
    found = []
    for repeat in range(n_repeats):
        found.append(scores_of(collection, repeat, n_episodes))
        report.progress(f"{collection}: split {repeat} done")
    # episodes of a split share their new classes; those of tasks are tasks
    new = KIND[collection] == NEW
    joined = {
        key: np.array([split[key].mean() for split in found])
        if new
        else np.concatenate([split[key] for split in found])
        for key in found[0]
    }
    names = dict.fromkeys((k, name) for k, name, _ in joined)
    return [_row(collection, k, name, joined) for k, name in sorted(names)]


def _row(collection, k, name, scores):
    """Return means on the three kinds of columns, and two differences."""
    plain, pca, ours = (scores[k, name, columns] for columns in FEATURES)
    means = [f"{values.mean():.3f}" for values in (plain, pca, ours)]
    gains = [report.difference(ours - plain), report.difference(ours - pca)]
    return [collection, k, name, len(plain), *means, *gains]


def main():
    """Score all collections and write the table."""
    parser = report.command_line(__doc__.split("\n")[0])
    parser.add_argument("--collections", nargs="+", default=list(COLLECTIONS))
    parser.add_argument("--repeats", type=int, default=5, help="splits of classes")
    parser.add_argument("--task-repeats", type=int, default=2, help="splits of tasks")
    parser.add_argument("--episodes", type=int, default=20, help="of new classes")
    args = parser.parse_args()
    if args.quick:
        args.collections, args.repeats, args.episodes = ["digits"], 2, 3
    warnings.simplefilter("ignore")
    tables = {}
    for collection in args.collections:
        new = KIND[collection] == NEW
        repeats = args.repeats if new else args.task_repeats
        rows = rows_of(collection, repeats, args.episodes)
        tables.setdefault(new, []).extend(rows)
    header = ["collection", "K", "estimator", "n", *FEATURES]
    header += ["MetaEmbedding - standardised", "MetaEmbedding - PCA"]
    titles = {True: "## Accuracy on new classes", False: "## nRMSE on new tasks"}
    sections = [
        "Each estimator has scikit-learn's defaults and is fitted on the support of an "
        "episode. `MetaEmbedding` has its defaults too and saw training classes (or "
        f"tasks) only. {args.episodes} episodes of new classes a split and K. "
        "Differences are paired, with their 95 % interval over n splits of classes, or "
        "n tasks; in bold where it is off 0."
    ]
    for new, rows in sorted(tables.items(), reverse=True):
        sections += [titles[new], report.markdown_table(header, rows)]
    report.write("embedding", "Learned columns", sections, quick=args.quick)


if __name__ == "__main__":
    main()
