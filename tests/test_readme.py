"""The code of the README runs as it stands there."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def python_blocks(text):
    """Return the Python code blocks of a Markdown page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def test_readme_when_its_blocks_are_run_in_order_then_none_fails(tmp_path, monkeypatch):
    # It is the first code that a user copies. Blocks share names, as a reader would.
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(README.read_text(encoding="utf-8"))
    namespace = {"__name__": "readme"}
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"README.md, block {number}", "exec"), namespace)
    assert namespace["model"].n_tasks_ == 30


def test_python_blocks_when_a_page_has_other_blocks_then_only_python_is_taken():
    # A pattern that finds nothing would let any README pass.
    page = "```console\nmake\n```\n\n```python\na = 1\n```\n"
    assert python_blocks(page) == ["a = 1\n"]
