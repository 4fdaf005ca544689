"""The examples of the documentation pass mypy, with the strict settings that do not require annotations."""

import subprocess
import sys

import pytest
from helpers.doc_pages import ROOT, blocks
from helpers.docstrings import examples

pytest.importorskip("mypy", reason="mypy is not installed")

# Frameworks have types that differ between versions, and examples import modules that the reader writes.
_CONFIG = f"""
[mypy]
mypy_path = {ROOT}
python_version = 3.11
strict = true
disallow_untyped_defs = false
disallow_incomplete_defs = false
disallow_untyped_calls = false
disallow_untyped_decorators = false
disallow_subclassing_any = false
warn_return_any = false
# An empty list, whose elements nothing in the block names.
disable_error_code = var-annotated
ignore_missing_imports = true
[mypy-torch.*,ray.*,tensorflow.*,keras.*,jax.*,jaxlib.*,flax.*,optax.*,lightning.*,transformers.*,accelerate.*,datasets.*,torchdata.*,pandas.*,scipy.*,pyarrow.*,PIL.*,prometheus_client.*,opentelemetry.*]
follow_imports = skip
"""


def test_every_example_of_pages_and_docstrings_passes_mypy(tmp_path):
    """One run for all, because mypy takes longest to read the packages."""
    shown = {f"page_{n}.py": (str(each), each.text) for n, each in enumerate(blocks()) if each.language == "python"}
    shown |= {f"docstring_{n}.py": (str(each), each.text) for n, each in enumerate(examples())}
    for name, (_, text) in shown.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "mypy.ini").write_text(_CONFIG)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", ROOT / ".mypy_cache/examples", *shown],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    named = [f"{shown[line.partition(':')[0]][0]}:{line.partition(':')[2]}" for line in found]
    assert (named, done.stderr) == ([], ""), "\n".join(named)
