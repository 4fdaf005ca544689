"""The glossary holds: its words stand in the code, and the words that they replaced do not come back."""

import ast
import functools
import re
from pathlib import Path

import pytest
from helpers.pages import DOCS, ROOT

import mpqueue

ROWS = re.findall(r"^\| ([^|]+) \| [^|]+ \|([^|]*)\|$", (DOCS / "glossary.md").read_text("utf-8"), re.M)
WORDS = [word for word, _ in ROWS if word not in ("Word", "---")]
FORBIDDEN = sorted(word.strip() for _, words in ROWS for word in words.split(",") if word.strip() not in ("", "Not"))
FILES = sorted([*Path(mpqueue.__file__).parent.rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])


@functools.cache
def spoken(file):
    """Return the text of a module with its identifiers cut into words: ``num_slots`` and ``SlotTable`` say "slot"."""
    text = file.read_text("utf-8").replace("_", " ")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()


def says(file, word):
    return re.search(rf"\b{re.escape(word.lower())}(?:s|es)?\b", spoken(file)) is not None


def docstrings(file):
    """Yield line and text of every docstring of a module."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def test_every_word_is_explained_once():
    assert len(WORDS) > 40
    assert sorted(set(WORDS)) == sorted(WORDS)


@pytest.mark.parametrize("word", WORDS)
def test_the_code_uses_the_word(word):
    assert any(says(file, word) for file in FILES)


@pytest.mark.parametrize("word", FORBIDDEN)
def test_the_code_does_not_use_the_word_that_was_replaced(word):
    assert [str(file.relative_to(ROOT)) for file in FILES if says(file, word)] == []


def test_docstrings_begin_with_a_verb_or_a_noun_and_stand_alone():
    questions = re.compile(r"(?:What|Whether|Where|How|When|Who|Which|As (?:there|above|in `|for `))\b")
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for file in FILES
        for line, text in docstrings(file)
        if questions.match(text)
    ]
    assert found == []
