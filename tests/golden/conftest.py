"""Collects golden case files: ``pytest tests/golden --golden DIR`` runs every ``*.json`` of DIR, one test per case.

The option itself is declared in ``tests/conftest.py``, so that a run of all tests knows it too.
"""

import json
import os
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def _folder(config) -> Path:
    return Path(config.getoption("--golden") or HERE).resolve()


def _cases(folder: Path):
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text("utf-8"))
        for case in document["cases"]:
            topic, _, name = case["id"].rpartition("/")
            yield pytest.param(document["topic"], case, id=f"{topic or document['topic']}-{name}")


def pytest_generate_tests(metafunc):
    if "golden_case" in metafunc.fixturenames:
        metafunc.parametrize(("topic", "golden_case"), list(_cases(_folder(metafunc.config))))


@pytest.fixture
def golden_folder(request, monkeypatch):
    """The folder of the cases, made the current one: paths in cases are relative to it."""
    folder = _folder(request.config)
    monkeypatch.chdir(folder)
    yield folder
    os.chdir(folder.anchor)
