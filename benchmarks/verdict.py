"""What the figures have to show, and whether they do.

Each check asks for a row of the table: what was asked and what was measured.
"""

from typing import NamedTuple

import numpy as np
from comparisons import compare, geometric_mean
from held_out import GROWING, KIND, NEW, REGRESSION, SHARED

LEVEL, LARGE = ("exam", "hsb82", "bdf"), ("movielens",)
PRIMARY = {REGRESSION: "nRMSE", SHARED: "log-loss", NEW: "log-loss"}
MEAN_COVERAGE, EACH_COVERAGE = (0.87, 0.94), (0.80, 0.98)


class Check(NamedTuple):
    """A line of the table; ``met`` says whether each of its parts is."""

    what: str
    asked: str
    measured: str
    met: bool


class Judge:
    """Compares one method with practitioners on what is stored.

    Parameters
    ----------
    store : ScoreStore
        The scores.
    method : str
        The method that is judged.
    """

    def __init__(self, store, method):
        self.method = method
        self.scores = {name: store.scores(name) for name in KIND}

    def rows(self, metric, *, kind=None, names=None, shots=None, **options):
        """Return the comparisons of some collections and numbers of support rows."""
        found = []
        for name, scores in self.scores.items():
            if (kind and KIND[name] != kind) or (names and name not in names):
                continue
            for k in sorted(set(scores.K)):
                if shots is None or k in shots:
                    pair = compare(
                        scores, name, KIND[name], k, metric, self.method, **options
                    )
                    found += [] if pair is None else [pair]
        return found

    def duel(self, metric, kind, other):
        """Return the comparisons with one other method, on the splits that it has."""
        found = []
        for name in (name for name in KIND if KIND[name] == kind):
            scores = self.scores[name]
            both = scores[scores.method.isin([self.method, other])]
            own = both[both.repeat.isin(both[both.method == other].repeat)]
            for k in sorted(set(own.K)):
                pair = compare(
                    own, name, kind, k, metric, self.method, rivals=lambda _: True
                )
                found += [] if pair is None else [pair]
        return found

    def checks(self):
        """Return all checks that have scores."""
        checks = (
            self.shape,
            self.large,
            self.level,
            self.one_row,
            self.shared,
            self.new,
            self.never_worse,
            self.coverage,
        )
        return [found for check in checks if (found := check()) is not None]

    def shape(self):
        """Check the tasks that differ in shape."""
        rows = self.rows("nRMSE", names=GROWING, shots=(5, 10))
        if not rows:
            return None
        nll = self.rows("NLL", names=GROWING, shots=(5, 10))
        ratio = geometric_mean(rows)
        return Check(
            f"tasks differ in shape, K = 5, 10: {_names(rows)}",
            "nRMSE ratio at most .72 (aim .62), below in every row; NLL below in every "
            "row",
            f"ratio {ratio:.3f}, below in {_below(rows)}; NLL below in {_below(nll)}",
            ratio <= 0.72 and all(c.gain > 0 for c in rows + nll),
        )

    def large(self):
        """Check the large collection."""
        rows = self.rows("nRMSE", names=LARGE, shots=(5, 10))
        if not rows:
            return None
        better = [c for c in rows if c.gain > 0 and c.off_zero]
        return Check(
            f"large, K = 5, 10: {_names(rows)}",
            "nRMSE significantly below (aim -3 %)",
            f"{100 * (geometric_mean(rows) - 1):+.1f} %, significantly below in "
            f"{len(better)} of {len(rows)} rows",
            len(better) == len(rows),
        )

    def level(self):
        """Check the tasks that differ in level only."""
        rows = self.rows("nRMSE", names=LEVEL)
        if not rows:
            return None
        nll = self.rows("NLL", names=LEVEL)
        worst, worst_nll = max(c.ratio for c in rows), max(-c.gain for c in nll)
        return Check(
            f"tasks differ in level only: {_names(rows)}",
            "nRMSE within .5 % in every row (aim below); NLL not above",
            f"ratio {geometric_mean(rows):.4f}, at most {worst:.4f}; NLL at most "
            f"{worst_nll:+.4f}, not above in {_below(nll, equal=True)}",
            worst <= 1.005 and worst_nll <= 0,
        )

    def one_row(self):
        """Check one support row."""
        rows = self.rows("nRMSE", kind=REGRESSION, shots=(1,))
        if not rows:
            return None
        ratio = geometric_mean(rows)
        return Check(
            "one row, K = 1: all regression",
            "nRMSE ratio at most .97 (aim .93)",
            f"ratio {ratio:.3f} over {len(rows)} rows",
            ratio <= 0.97,
        )

    def shared(self):
        """Check classes shared by the tasks."""
        rows = self.rows("log-loss", kind=SHARED)
        if not rows:
            return None
        ratio = geometric_mean(rows)
        return Check(
            f"shared classes: {_names(rows)}",
            "log-loss ratio at most .975 (aim .95)",
            f"ratio {ratio:.3f} over {len(rows)} rows",
            ratio <= 0.975,
        )

    def new(self):
        """Check new classes, beside logistic regressions."""
        logistic = {"kind": NEW, "rivals": lambda name: name.startswith("logistic")}
        rows, hits = (
            self.rows("log-loss", **logistic),
            self.rows("accuracy", **logistic),
        )
        if not rows:
            return None
        ratio = geometric_mean(rows)
        return Check(
            f"new classes: {_names(rows)}",
            "log-loss below tuned logistic regressions in every row, ratio at most "
            ".85; accuracy not below theirs (aim: best accuracy too)",
            f"below in {_below(rows)}, ratio {ratio:.3f}; accuracy not below in "
            f"{_below(hits, equal=True)}, not below the best of all in "
            f"{_below(self.rows('accuracy', kind=NEW), equal=True)}",
            ratio <= 0.85
            and all(c.gain > 0 for c in rows)
            and all(c.gain >= 0 for c in hits),
        )

    def never_worse(self):
        """Check that no row is significantly worse."""
        rows = [c for kind, m in PRIMARY.items() for c in self.rows(m, kind=kind)]
        worse = [c for c in rows if c.gain < 0 and c.off_zero]
        better = [c for c in rows if c.gain > 0 and c.off_zero]
        where = "".join(f", {c.collection} K = {c.k}" for c in worse)
        return Check(
            "all of the above",
            "significantly worse (95 %, paired) in no row",
            f"worse in {len(worse)} of {len(rows)} rows{where}; better in "
            f"{len(better)}",
            not worse,
        )

    def coverage(self):
        """Check how many targets are in their 90 % intervals."""
        shares = [
            rows.coverage.mean()
            for name, scores in self.scores.items()
            if KIND[name] == REGRESSION
            for _, rows in scores[scores.method == self.method].groupby("K")
        ]
        if not shares:
            return None
        mean, low, high = np.mean(shares), min(shares), max(shares)
        return Check(
            "uncertainty: all regression",
            "90 % intervals cover 87 to 94 % on average, 80 to 98 % on each",
            f"{100 * mean:.1f} % on average, {100 * low:.1f} to {100 * high:.1f} %",
            MEAN_COVERAGE[0] <= mean <= MEAN_COVERAGE[1]
            and EACH_COVERAGE[0] <= low
            and high <= EACH_COVERAGE[1],
        )


def _names(rows):
    """Return the collections of some rows."""
    return ", ".join(dict.fromkeys(c.collection for c in rows))


def _below(rows, equal=False):
    """Say in how many rows the method is better."""
    good = sum(c.gain > 0 or (equal and c.gain == 0) for c in rows)
    return f"{good} of {len(rows)} rows"
