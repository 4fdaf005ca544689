"""The examples of the documentation pass mypy and pyright, with the strict settings that require no annotations."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from helpers.doc_pages import ROOT, blocks
from helpers.docstrings import examples

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


_OF_PYRIGHT = {
    "include": ["."],
    "extraPaths": [str(ROOT)],
    "pythonVersion": "3.11",
    "venv": "only-numpy",
    "reportMissingImports": "none",
    "reportMissingModuleSource": "none",
    # Variables of loops over data that is not empty.
    "reportPossiblyUnboundVariable": "none",
    "reportUnboundVariable": "none",
}


@pytest.fixture
def shown(tmp_path):
    """Write each example to a file; return where it is from, by the name of the file."""
    found = {f"page_{n}.py": each for n, each in enumerate(blocks()) if each.language == "python"}
    found |= {f"docstring_{n}.py": each for n, each in enumerate(examples())}
    for name, each in found.items():
        (tmp_path / name).write_text(each.text)
    return {name: str(each) for name, each in found.items()}


def test_every_example_of_pages_and_docstrings_passes_mypy(tmp_path, shown):
    """One run for all, because mypy takes longest to read the packages."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    (tmp_path / "mypy.ini").write_text(_CONFIG)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", ROOT / ".mypy_cache/examples", *shown],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    named = [f"{shown[line.partition(':')[0]]}:{line.partition(':')[2]}" for line in found]
    assert (named, done.stderr) == ([], ""), "\n".join(named)


def test_every_example_of_pages_and_docstrings_passes_pyright(tmp_path, shown):
    """Frameworks are of unknown type, as for mypy: pyright finds NumPy, and no other package of the environment."""
    pytest.importorskip("pyright", reason="pyright is not installed")
    packages = tmp_path / "only-numpy/lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    (packages / "numpy").symlink_to(pathlib.Path(np.__file__).parent)
    (tmp_path / "typings/tensorflow").mkdir(parents=True)
    for module in ("__init__", "data"):  # in place of the types that pyright brings along
        (tmp_path / f"typings/tensorflow/{module}.pyi").write_text("def __getattr__(name: str): ...")
    settings = _OF_PYRIGHT | {"venvPath": str(tmp_path), "exclude": ["only-numpy", "typings"]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson"],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(shown)
    assert [
        f"{shown[pathlib.Path(one['file']).name]}:{one['range']['start']['line'] + 1}: {one['message']}"
        for one in report["generalDiagnostics"]
        if one["severity"] == "error"
    ] == []
