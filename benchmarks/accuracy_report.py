"""Tables of accuracy, made from stored scores."""

import pandas as pd
import practitioners
import report
from comparisons import MORE_IS_BETTER, compare, geometric_mean
from held_out import FIRST, GROWING, KIND, NEW, REGRESSION, SHARED
from verdict import PRIMARY, Judge

# the method that users are told to start with
DEFAULT = "stacking"
# the same method, told that supports are the first rows
IN_ORDER = ", first rows"
SECONDARY = {REGRESSION: "NLL", SHARED: "accuracy", NEW: "accuracy"}
TITLES = {
    REGRESSION: "Regression",
    SHARED: "Classes shared by the tasks",
    NEW: "New classes, five at a time",
}


def comparison(store, collection, kind, found):
    """Return a table of methods just scored, beside the stored practitioners."""
    if not found:
        return "nothing to score"
    new = pd.concat(found)
    known = store.scores(collection)
    scores = pd.concat([known[~known.method.isin(new.method)], new])
    rows = []
    for method, k in dict.fromkeys(zip(new.method, new.K, strict=True)):
        pairs = [
            compare(scores, collection, kind, k, metric, method)
            for metric in (PRIMARY[kind], SECONDARY[kind])
        ]
        cells = [cell for pair in pairs for cell in _cells(pair)]
        if kind == REGRESSION:
            own = new[(new.method == method) & (new.K == k)]
            cells.append(f"{own.coverage.mean():.3f}")
        rows.append([collection, k, method, *cells])
    last = [_last(kind)] if kind == REGRESSION else []
    header = ["collection", "K", "method", *_header(kind), *last]
    return report.markdown_table(header, rows)


def write_report(store, method, quick=False):
    """Write the verdict on one method, its rows, and all methods side by side."""
    judge = Judge(store, method)
    checks = [
        [c.what, c.asked, c.measured, "yes" if c.met else "**no**"]
        for c in judge.checks()
    ]
    sections = [
        _protocol(method),
        "## What was asked, and what was measured",
        report.markdown_table(["rows", "asked", "measured", "met"], checks),
    ]
    for kind, title in TITLES.items():
        names = [name for name in KIND if KIND[name] == kind]
        rows = _rows(store, names, kind, method)
        if rows:
            header = ["collection", "K", "n", *_header(kind), _last(kind)]
            sections += [f"## {title}", report.markdown_table(header, rows)]
    sections += _of_first_rows(store, method)
    suffix = "" if method == DEFAULT else "_of_" + method.replace(", ", "_")
    report.write("accuracy" + suffix, "Accuracy", sections, quick=quick)
    text = (
        "Means over the first split of each collection, on which all methods are "
        "scored; the tables of pairs take all splits that both methods have."
    )
    sections = [section for kind in TITLES for section in _all_methods(judge, kind)]
    sections.insert(0, text)
    sections += ["## Seconds", _seconds(store)]
    report.write(
        "accuracy_methods" + suffix, "Accuracy of all methods", sections, quick=quick
    )


def _of_first_rows(store, method):
    """Return tables where the first rows of a task, in time, are its support."""
    sections = ["## The first K rows as the support, in the order of time"]
    header = ["collection", "K", "n", *_header(REGRESSION), _last(REGRESSION)]
    names = [name + FIRST for name in GROWING]
    for judged, learned in (
        (method, "drawn at random, as usual"),
        (method + IN_ORDER, 'the first rows too: `order="first"`'),
    ):
        rows = _rows(store, names, REGRESSION, judged)
        if rows:
            text = f"{judged}; the supports that it learns from are {learned}."
            sections += [text, report.markdown_table(header, rows)]
    return sections if len(sections) > 1 else []


def _protocol(method):
    """Say how the figures were made."""
    missing = ", ".join(practitioners.MISSING) or "none"
    return (
        f"Judged: {method}, with its default settings everywhere. Tasks: 30 % (10 to "
        "60) are held out; all methods see the same support of K rows and the same "
        "queries. New classes: 40 % (5 or more) of the classes are held out; 5 ways, K "
        "rows of each class. Scores are means over tasks, or over splits where classes "
        "are new. Differences are paired, with their 95 % interval by Student's t, in "
        'bold where it is off 0. "Best" is the practitioner with the best mean of the '
        "row itself: it is flattered. Targets are scaled by the training rows; "
        "probabilities are cut at 1e-4 for all. Practitioners' packages that were not "
        f"installed: {missing}."
    )


def _header(kind):
    """Return the columns of a comparison."""
    return [
        text
        for metric in (PRIMARY[kind], SECONDARY[kind])
        for text in (f"best practitioner, {metric}", metric, "difference", "ratio")
        if not (text == "ratio" and metric != PRIMARY[kind])
    ]


def _cells(pair):
    """Return the cells of a comparison."""
    if pair is None:
        return ["", "", ""]
    ratio = [] if pair.metric in SECONDARY.values() else [f"{pair.ratio:.3f}"]
    return [
        f"{pair.theirs:.3f} ({pair.rival})",
        f"{pair.ours:.3f}",
        report.difference(pair.differences),
        *ratio,
    ]


def _last(kind):
    """Return the column that is about how sure the method is."""
    return "coverage of 90 %" if kind == REGRESSION else "calibration error"


def _rows(store, names, kind, method):
    """Return a table row for each collection and number of support rows."""
    rows = []
    for name in names:
        scores, costs = store.scores(name), store.costs(name)
        scores_of = scores[scores.method == method]
        for k, own in scores_of.groupby("K"):
            pairs = [
                compare(scores, name, kind, k, metric, method)
                for metric in (PRIMARY[kind], SECONDARY[kind])
            ]
            if kind == REGRESSION:
                sure = own.coverage.mean()
            else:
                of_row = (costs.method == method) & (costs.K == k)
                sure = costs[of_row].calibration.mean()
            cells = [cell for pair in pairs for cell in _cells(pair)]
            n = len(own) if kind != NEW else own.repeat.nunique()
            rows.append([name, k, n, *cells, f"{sure:.3f}"])
    return rows


def _all_methods(judge, kind):
    """Return tables of every method on one kind of collections."""
    sections = [f"## {TITLES[kind]}"]
    for metric in (PRIMARY[kind], SECONDARY[kind]):
        means = {
            (name, k): _means(rows, metric, judge.method)
            for name, scores in judge.scores.items()
            if KIND[name] == kind
            for k, rows in scores[scores.repeat == 0].groupby("K")
            if (rows.method == judge.method).any()
        }
        if not means:
            return []
        table = pd.DataFrame(means)
        best = table.max() if metric in MORE_IS_BETTER else table.min()
        rows = [
            [method, *(_score(value, best[cell]) for cell, value in values.items())]
            for method, values in table.iterrows()
            if values.notna().any()
        ]
        cells = [f"{name} {k}" for name, k in table]
        sections += [
            f"### {metric}",
            report.markdown_table(["method", *cells], rows),
        ]
    return [*sections, "### Beside the method that is judged", _duels(judge, kind)]


def _means(rows, metric, method):
    """Return the mean of each method that has all episodes of the judged one."""
    table = rows.pivot(index=["repeat", "episode"], columns="method", values=metric)
    return table[table[method].notna()].dropna(axis="columns").mean()


def _score(value, best):
    """Return a score, bold where it is the best of its row."""
    text = "" if pd.isna(value) else f"{value:.3f}"
    return f"**{text}**" if value == best else text


def _duels(judge, kind):
    """Return how the judged method does against each other one, on what both have."""
    metric, rows = PRIMARY[kind], []
    others = {m for n in KIND if KIND[n] == kind for m in judge.scores[n].method}
    for other in sorted(others - {judge.method}):
        pairs = judge.duel(metric, kind, other)
        if pairs:
            wins = sum(c.gain > 0 and c.off_zero for c in pairs)
            losses = sum(c.gain < 0 and c.off_zero for c in pairs)
            n = sum(len(c.differences) for c in pairs)
            ratio = f"{geometric_mean(pairs):.3f}"
            rows.append([other, len(pairs), n, ratio, wins, losses])
    header = [
        f"{judge.method} against",
        "rows",
        "pairs",
        f"ratio of {metric}",
        "significantly better",
        "significantly worse",
    ]
    return report.markdown_table(header, rows)


def _seconds(store):
    """Return seconds of a fit, and milliseconds of an episode, by collection."""
    costs = pd.concat([store.costs(name).assign(collection=name) for name in KIND])
    means = costs.groupby(["method", "collection"])[["fit_seconds", "episode_seconds"]]
    table = means.mean().unstack("collection")
    names = list(table["fit_seconds"])
    rows = [
        [
            method,
            *(
                ""
                if pd.isna(values["fit_seconds"][name])
                else f"{values['fit_seconds'][name]:.1f} s, "
                f"{1000 * values['episode_seconds'][name]:.1f} ms"
                for name in names
            ),
        ]
        for method, values in table.iterrows()
    ]
    text = (
        "CPU seconds of a fit and milliseconds per episode (adapting and predicting), "
        "mean over splits. Machines share their cores: sizes, not records.\n\n"
    )
    return text + report.markdown_table(["method", *names], rows)
