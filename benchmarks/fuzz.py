"""Thousands of bad inputs to every public entry point, and what came of them.

The cases, and the laws that they must obey, are those of ``tests/fuzz_*.py``; the tests
run a few of them. A case that breaks a law is made as small as possible by hypothesis
and printed, and the script ends with status 1. The default is for a nightly run.
"""

import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import report
from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fuzz_cases import ENTRIES
from fuzz_laws import check

OUTCOMES = ["answered", "ValueError", "TypeError", "NotFittedError"]


def run(strategy, n_cases, seed_value):
    """Check cases of one entry point; return the outcomes and a broken law, if any."""
    outcomes = Counter()

    @seed(seed_value)
    @settings(
        max_examples=n_cases,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(strategy())
    def fuzz(case):
        outcomes["broken"] += 1
        outcome = check(case)
        outcomes["broken"] -= 1
        outcomes[outcome] += 1

    try:
        fuzz()
    except Exception as error:  # a broken law is a row of the report
        return outcomes, error
    return outcomes, None


def main():
    """Fuzz all entry points and write the counts."""
    parser = report.command_line(__doc__)
    parser.add_argument("--cases", type=int, default=400, help="for each entry point")
    parser.add_argument("--only", help="entry points with this in their name")
    args = parser.parse_args()
    if args.quick:
        args.cases = 10
    rows, total, broken = [], Counter(), 0
    for name, strategy in ENTRIES.items():
        if args.only and args.only not in name:
            continue
        start = time.perf_counter()
        outcomes, error = run(strategy, args.cases, args.seed)
        report.progress(f"{name}: {dict(outcomes)}", start)
        if error is not None:
            broken += 1
            traceback.print_exception(error, limit=-3)
        total += outcomes
        counts = [outcomes[outcome] for outcome in OUTCOMES]
        rows.append([name, sum(counts), *counts, "yes" if error else "no"])
    counts = [total[outcome] for outcome in OUTCOMES]
    rows.append(["**all**", sum(counts), *counts, f"{broken} entry points"])
    sections = [
        "A case is a call with input that is right but for up to two parts. An answer "
        "must be finite, an error one of the three kinds and with a message, every "
        "warning a documented one; after an error the estimator must be what it was; "
        "the caller's data never change.",
        report.markdown_table(["entry points", "cases", *OUTCOMES, "broken"], rows),
    ]
    report.write("fuzz", "Bad input to every entry point", sections, quick=args.quick)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
