"""One method beside the best practitioner of a row, on the same episodes.

A row is a collection with a number of support rows. The best practitioner is picked on
the scores that are shown, so it is flattered.
"""

from typing import NamedTuple

import numpy as np
import report
from held_out import NEW
from ours import names

MORE_IS_BETTER = {"accuracy"}
OURS = names()


class Comparison(NamedTuple):
    """A method and its best rival on one row.

    ``differences`` are the method's scores minus the rival's: one per task and split,
    or per split where classes are new.
    """

    collection: str
    k: int
    metric: str
    rival: str
    theirs: float
    ours: float
    differences: np.ndarray

    @property
    def ratio(self):
        """The method's mean score by the rival's."""
        return self.ours / self.theirs

    @property
    def gain(self):
        """The mean difference, positive where the method is better."""
        sign = 1 if self.metric in MORE_IS_BETTER else -1
        return sign * float(np.mean(self.differences))

    @property
    def off_zero(self):
        """Whether the 95 % interval of the mean difference leaves 0 out."""
        mean, half = report.mean_and_half_width(self.differences)
        return bool(abs(mean) > half)


def is_practitioner(method):
    """Return whether a name is that of a practitioner's method."""
    return method not in OURS


def compare(scores, collection, kind, k, metric, method, rivals=is_practitioner):
    """Compare a method with its best rival on one row.

    Parameters
    ----------
    scores : DataFrame
        Scores of one collection, a row per method, repeat, K and episode.
    collection, kind : str
        Name and kind of the collection.
    k : int
        Number of support rows.
    metric : str
        Column of the score.
    method : str
        The method that is judged.
    rivals : callable, default=is_practitioner
        Whether a name is that of a rival; rivals need scores on all the method's
        episodes.

    Returns
    -------
    comparison : Comparison or None
        None where the method or all rivals lack scores.
    """
    rows = scores[scores.K == k]
    table = rows.pivot(index=["repeat", "episode"], columns="method", values=metric)
    if method not in table:
        return None
    table = table[table[method].notna()].dropna(axis="columns")
    if kind == NEW:
        table = table.groupby("repeat").mean()
    means = table[[name for name in table if rivals(name) and name != method]].mean()
    if not len(means) or not len(table):
        return None
    best = means.idxmax() if metric in MORE_IS_BETTER else means.idxmin()
    own, theirs = table[method].to_numpy(), table[best].to_numpy()
    return Comparison(
        collection, k, metric, best, theirs.mean(), own.mean(), own - theirs
    )


def geometric_mean(comparisons):
    """Return the geometric mean of the ratios of some rows."""
    return float(np.exp(np.mean([np.log(c.ratio) for c in comparisons])))
