"""Collects golden case files: ``pytest tests/golden --golden DIR`` runs every ``*.json`` of DIR, one test per case.

The option itself is declared in ``tests/conftest.py``, so that a run of all tests knows it too.
"""

import json
import os
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
_KINDS = {"golden_case", "random_case", "signature"}


def _folder(config) -> Path:
    return Path(config.getoption("--golden") or HERE).resolve()


def _kind_of(path: Path) -> str:
    """Return the argument that tests have for the cases of a file."""
    if path.stem.endswith("_random"):
        return "random_case"
    return "signature" if path.stem == "signatures" else "golden_case"


def _cases(folder: Path, kind: str):
    for path in sorted(folder.glob("*.json")):
        if _kind_of(path) != kind:
            continue
        document = json.loads(path.read_text("utf-8"))
        for case in document["cases"]:
            topic, _, name = case["id"].rpartition("/")
            yield pytest.param(document["topic"], case, id=f"{topic or document['topic']}-{name}")


def pytest_generate_tests(metafunc):
    for kind in _KINDS & {*metafunc.fixturenames}:
        metafunc.parametrize(("topic", kind), list(_cases(_folder(metafunc.config), kind)))


@pytest.fixture
def golden_folder(request, monkeypatch):
    """The folder of the cases, made the current one: paths in cases are relative to it."""
    folder = _folder(request.config)
    monkeypatch.chdir(folder)
    yield folder
    os.chdir(folder.anchor)
