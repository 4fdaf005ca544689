"""Messages of the logger ``mpqueue``, and their visibility."""

import ast
import collections
import email.message
import importlib.metadata
import logging
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest
from helpers.faults import Numbers

import mpqueue
from mpqueue import Loader
from mpqueue.memory import ring
from mpqueue.system import log

PACKAGE = pathlib.Path(mpqueue.__file__).parent

PROGRAM = """
import numpy as np, mpqueue

if __name__ == "__main__":
    with mpqueue.Loader(np.zeros((4, 10)), workers=1) as loader:
        list(loader)
"""


def said(tmp_path, level):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    environment = {key: value for key, value in os.environ.items() if key != "MPQUEUE_LOG"}
    if level is not None:
        environment["MPQUEUE_LOG"] = level
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_run_without_faults_logs_nothing_by_default(tmp_path):
    assert said(tmp_path, None) == ""


def test_debug_level_shows_starts_ends_and_ring(tmp_path):
    lines = said(tmp_path, "debug")
    for text in ("mpqueue[", "worker 0 was requested", "1 worker (process) run", "the workers run: <ring of", "free"):
        assert text in lines
    assert "the workers have stopped" in lines


def test_invalid_level_warns(tmp_path):
    assert "MPQUEUE_LOG=loud has no effect: the levels are debug, info, warning, error" in said(tmp_path, "loud")


def test_configured_logging_receives_debug_messages(caplog):
    with caplog.at_level(logging.DEBUG, "mpqueue"), Loader(Numbers(3), workers=1) as loader:
        list(loader)
    assert "the workers have stopped: " in caplog.text


def test_few_small_copies_do_not_warn(caplog):
    with caplog.at_level(logging.WARNING, "mpqueue"), Loader(Numbers(30), workers=1) as loader:
        assert len(list(loader)) == 30
        assert loader.statistics().copies_held > 0
    assert caplog.messages == []


def test_costly_copies_warn_once_with_reference(caplog, monkeypatch):
    monkeypatch.setattr(ring, "COSTLY_BYTES", 20 * 64 * 8)
    with caplog.at_level(logging.WARNING, "mpqueue"), Loader(Numbers(30), workers=1) as loader:
        list(loader)
        list(loader)
    with Loader(Numbers(30), workers=1, copy=True) as loader:
        list(loader)  # requested copies do not warn
    (reported,) = caplog.messages
    assert "private copies" in reported
    assert reported.endswith(f"[see {log.documented('Monitor data loading', 'Memory')}]")


def _trees(pattern):
    """Return the names and syntax trees of the package's modules that contain a match: parsing all of them is slow."""
    texts = ((path.name, path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py"))
    return ((name, ast.parse(text)) for name, text in texts if re.search(pattern, text))


def _calls(name, behind):
    """Return the constant arguments of all calls of a function in the package, after the first ones."""
    for _, tree in _trees(rf"\b{name}\("):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield [argument.value for argument in node.args[behind:] if isinstance(argument, ast.Constant)]


@pytest.mark.slow
def test_pages_and_sections_in_messages_exist():
    """Messages use titles, because a wheel has no folder of documents. A title in a message belongs to one page."""
    headings = collections.defaultdict(list)
    for page in (PACKAGE.parent / "docs").glob("*/*.md"):
        title, *others = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        headings[title].append({"", *others})
    named = [page for page in (*_calls("documented", 0), *_calls("warn", 1)) if page]
    assert len(named) >= 5
    for title, *section in named:
        (sections,) = headings[title]
        assert "".join(section) in sections


@pytest.fixture
def read_metadata_with(monkeypatch):
    """Return a function that replaces `importlib.metadata.metadata`. The address is read again, here and afterwards."""

    def replace(function):
        monkeypatch.setattr(importlib.metadata, "metadata", function)
        address.cache_clear()

    address = log._address
    yield replace
    address.cache_clear()


@pytest.mark.parametrize(
    ("urls", "suffix"),
    [
        ([], ""),
        (["Homepage, https://example.org/home"], ""),
        (["Homepage, https://example.org/home", "Source, https://example.org/code"], " (https://example.org/code)"),
    ],
)
def test_messages_name_the_source_address_of_the_metadata_if_there_is_one(urls, suffix, read_metadata_with):
    metadata = email.message.Message()
    for url in urls:
        metadata["Project-URL"] = url
    read_metadata_with(lambda name: metadata)
    assert log.documented("Limits") == f'"Limits" in the documentation{suffix}'
    assert log.documented("Limits", "Memory") == f'"Limits", Memory, in the documentation{suffix}'


def test_messages_have_no_address_without_an_installed_package(read_metadata_with):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    read_metadata_with(missing)
    assert log.documented("Limits") == '"Limits" in the documentation'
