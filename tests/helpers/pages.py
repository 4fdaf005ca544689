"""The README and the pages of the documents, and what tests look for in them."""

import os
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]

_RAY_WAS_LATE = "The current node timed out during startup"  # Ray's word: it gives its own processes 30 s, no setting
_BLOCK = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.S | re.M)


class Block(NamedTuple):
    """A fenced block of a page: its language, its text, and its number among the blocks of the page."""

    page: str
    number: int
    language: str
    text: str

    def __str__(self):
        return f"{self.page}-{self.number}"


def name_of(page):
    """Return the path of a page below the checkout."""
    return str(page.relative_to(ROOT))


def blocks():
    """Return all fenced blocks of all pages, but for directives of Sphinx, as ``{toctree}``: `scripts/docs` runs those."""
    found = []
    for page in PAGES:
        matches = _BLOCK.finditer(page.read_text("utf-8"))
        found += [Block(name_of(page), number, *match.groups()) for number, match in enumerate(matches)]
    return [block for block in found if not block.language.startswith("{")]


def run_example(text, folder, interpreter):
    """Run an example in a fork of a `helpers.forked.Interpreter`; return what it wrote to stderr."""
    script = folder / "example.py"
    script.write_text(text)
    environ = os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"}
    status, errors = 1, _RAY_WAS_LATE
    while status != 0 and _RAY_WAS_LATE in errors:  # which says nothing of the page; pytest's limit ends it
        status, _, errors = interpreter.run([script], folder, environ, timeout=280)
    assert status == 0, errors
    return errors


def prose(page):
    """Return the text of a page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text("utf-8"))


def anchors(page):
    """Return the anchors of a page's headings, made as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
