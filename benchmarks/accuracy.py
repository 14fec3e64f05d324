"""Accuracy on real collections, beside what practitioners use today.

Tasks (or classes) are held out; all methods are scored on the same episodes of them,
from 1, 5 and 10 support rows. Scores are kept per episode, so that a method can be
added later; the tables are made from what is stored:

    python benchmarks/accuracy.py --collections nox --methods practitioners
    python benchmarks/accuracy.py --report
"""

import copy
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import ours
import pandas as pd
import practitioners
import report
from accuracy_report import DEFAULT, comparison, write_report
from episode_scores import (
    CLASS_SCORES,
    REGRESSION_SCORES,
    calibration_error,
    score_classes,
    score_targets,
)
from held_out import FIRST, GROWING, KIND, NEW, REGRESSION, SHARED, split_collection
from practitioners.pooled_stage import pooled_stage
from score_store import ScoreStore

# an interval over one split of five classes says little
REPEATS = {REGRESSION: 3, SHARED: 3, NEW: 10}
KINDS = tuple(dict.fromkeys(KIND.values()))
GROUPS = ("practitioners", "ours")
# those of the field that are not run unless asked for
MORE_GROUPS = (*GROUPS, "relatives")


def chosen_methods(kind, names):
    """Return methods by name; names may be those of groups."""
    groups = {
        "practitioners": practitioners.METHODS[kind],
        "ours": ours.methods(kind),
        "relatives": ours.relatives(kind),
    }
    known = {
        name: method for group in groups.values() for name, method in group.items()
    }
    chosen = {}
    for name in names:
        chosen |= groups[name] if name in groups else {name: known.get(name)}
    return {name: method for name, method in chosen.items() if method is not None}


def splits_of(collection, repeat):
    """Return the splits that share training rows, by the name of what is stored."""
    splits = {collection: split_collection(collection, repeat)}
    if collection in GROWING:
        splits[collection + FIRST] = split_collection(collection, repeat, True)
    return splits


def score_method(name, method, splits):
    """Fit a method once; return scores by episode, and costs, for each split."""
    method, split = copy.copy(method), next(iter(splits.values()))
    # fitted by whoever comes first, counted for all who use it
    shared = pooled_stage(split).seconds if method.uses_pooled_stage else 0.0
    start = time.process_time()
    method.fit(split)
    spent = {"fit_seconds": shared + time.process_time() - start, "method": name}
    return {where: _score(method, split, spent) for where, split in splits.items()}


def _score(method, split, spent):
    """Score a fitted method on all episodes of a split."""
    scores, costs = [], []
    for k, episodes in split.episodes.items():
        if not method.suits(split, k):
            continue
        start = time.process_time()
        predictions = method.predict(split, k)
        seconds = (time.process_time() - start) / len(episodes)
        table, calibration = score_episodes(split, episodes, predictions)
        key = {"method": spent["method"], "repeat": split.repeat, "K": k}
        scores.append(table.assign(**key))
        costs.append(
            key | spent | {"episode_seconds": seconds, "calibration": calibration}
        )
    return pd.concat(scores), pd.DataFrame(costs)


def score_episodes(split, episodes, predictions):
    """Return a row of scores per episode, and the calibration error of classes."""
    targets = [split.y[e.query] for e in episodes]
    if split.kind == NEW:
        ways = [np.unique(split.y[e.support]) for e in episodes]
        targets = [np.searchsorted(*pair) for pair in zip(ways, targets, strict=True)]
    regression = split.kind == REGRESSION
    score = score_targets if regression else score_classes
    rows = [score(*pair) for pair in zip(predictions, targets, strict=True)]
    columns = REGRESSION_SCORES if regression else CLASS_SCORES
    calibration = np.nan if regression else calibration_error(predictions, targets)
    table = pd.DataFrame(rows, columns=list(columns))
    return table.assign(episode=np.arange(len(table))), calibration


def run(collection, repeat, args, store):
    """Score the methods that are asked for, and not known yet, on one split.

    Returns scores of each split (with supports drawn, and of first rows) in a list.
    """
    chosen, found = chosen_methods(KIND[collection], args.methods), []
    splits = splits_of(collection, repeat)
    for name, method in chosen.items():
        missing = {
            where: split
            for where, split in splits.items()
            if args.again or args.compare or not store.has(where, name, repeat)
            if any(method.suits(split, k) for k in split.episodes)
        }
        if not missing:
            continue
        start = time.perf_counter()
        try:
            scored = score_method(name, method, missing)
        except Exception:
            if not args.keep_going:
                raise
            report.progress(f"{collection} {repeat} {name}: FAILED", start)
            traceback.print_exc()
            continue
        report.progress(f"{collection} {repeat} {name}: done", start)
        for where, (scores, costs) in scored.items():
            found.append((where, scores))
            if not args.compare:
                store.add(where, scores, costs)
    return found


def parse_arguments():
    """Return the options of the command line."""
    parser = report.command_line(__doc__.split("\n")[0])
    parser.add_argument("--collections", nargs="+", default=list(KIND), choices=KIND)
    parser.add_argument(
        "--methods", nargs="+", default=list(GROUPS), help=f"names, or {MORE_GROUPS}"
    )
    parser.add_argument(
        "--repeats", "--splits", type=int, help="splits of each collection"
    )
    parser.add_argument("--list", action="store_true", help="only print all names")
    parser.add_argument("--store", type=Path, default=report.RESULTS / "accuracy")
    parser.add_argument("--again", action="store_true", help="score known ones too")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="score again, store nothing, print the differences to practitioners",
    )
    parser.add_argument("--keep-going", action="store_true", help="past failures")
    parser.add_argument("--report", action="store_true", help="only write the tables")
    parser.add_argument("--of", default=DEFAULT, help="the method that is judged")
    args = parser.parse_args()
    known = set(MORE_GROUPS).union(*(chosen_methods(k, MORE_GROUPS) for k in KINDS))
    if unknown := set(args.methods) - known:
        parser.error(f"unknown methods: {', '.join(unknown)}; --list shows all")
    if args.quick:
        args.collections, args.repeats = ["chickweight", "digits"], 1
        args.methods, args.of = ["linear, shifted", "kNN", "MAML"], "MAML"
        args.store = Path(tempfile.mkdtemp())
    return args


def print_names():
    """Print the collections and the methods of each kind."""
    for kind in KINDS:
        collections = [name for name in KIND if KIND[name] == kind]
        print(f"{kind}: {', '.join(collections)}")
        for group in MORE_GROUPS:
            print(f"  {group}: " + "; ".join(chosen_methods(kind, [group])))


def turns(args):
    """Yield splits: the first of all collections, then the second, and so on."""
    for repeat in range(args.repeats or max(REPEATS.values())):
        for collection in args.collections:
            if repeat < (args.repeats or REPEATS[KIND[collection]]):
                yield collection, repeat


def main():
    """Score what is missing, or write the tables."""
    args = parse_arguments()
    if args.list:
        print_names()
        return
    store, found = ScoreStore(args.store), {}
    warnings.simplefilter("ignore")
    if not args.report:
        for collection, repeat in turns(args):
            for where, scores in run(collection, repeat, args, store):
                found.setdefault(where, []).append(scores)
    if args.compare:
        for where, scores in found.items():
            kind = KIND[where.removesuffix(FIRST)]
            print("\n" + comparison(store, where, kind, scores))
    if args.report or args.quick:
        write_report(store, args.of, args.quick)


if __name__ == "__main__":
    main()
