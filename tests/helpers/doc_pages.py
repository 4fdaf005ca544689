"""The README and the pages of the documentation, and their parts for tests."""

import os
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]

_RAY_WAS_LATE = "The current node timed out during startup"  # Ray's message after a fixed 30 s
_BLOCK = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.S | re.M)


class Block(NamedTuple):
    """A fenced block of a page, with its language, its content, and its number on the page."""

    page: str
    number: int
    language: str
    text: str

    def __str__(self):
        return f"{self.page}-{self.number}"


def name_of(page):
    """Return the path of a page relative to the checkout."""
    return str(page.relative_to(ROOT))


def blocks():
    """Return the fenced blocks of all pages, except Sphinx directives such as ``{toctree}``."""
    found = []
    for page in PAGES:
        matches = _BLOCK.finditer(page.read_text("utf-8"))
        found += [Block(name_of(page), index, *match.groups()) for index, match in enumerate(matches)]
    return [block for block in found if not block.language.startswith("{")]


def run_example(text, folder, interpreter):
    """Run an example in a fork of a `helpers.new_fork_servers.interpreter`; return its output on stderr."""
    script = folder / "example.py"
    script.write_text(text)
    environ = os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"}
    status, errors = 1, _RAY_WAS_LATE
    while status != 0 and _RAY_WAS_LATE in errors:  # not a fault of the page: try again until pytest's time limit
        status, _, errors = interpreter.run([script], folder, environ, timeout=280, forks_servers=True)
    assert status == 0, errors
    return errors


def prose(page):
    """Return the content of a page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text("utf-8"))


def anchors(page):
    """Return the anchors of a page's headings, as GitHub and MyST generate them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
