"""The glossary is short, and each of its terms names existing code that has the same meaning."""

import ast
import re

import pytest
from helpers.doc_pages import DOCS
from helpers.package_structure import ROOT

ROWS = re.findall(r"^\| ([a-z ]+) \| (.+) \| `([\w.]+)` \|$", (DOCS / "internals/glossary.md").read_text("utf-8"), re.M)
MOST_TERMS = 25


def definitions():
    """Map the name of each class, method, attribute and constant outside of TensorFlow 1's API to its modules."""
    found = {}
    for path in (ROOT / "mpqueue").rglob("*.py"):
        if path.is_relative_to(ROOT / "mpqueue/tf1"):
            continue
        text = path.read_text("utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                inside = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
                inside |= set(
                    re.findall(r"(?:self\.|^    )(\w+)(?:, \w+| =|:)", ast.get_source_segment(text, node), re.M)
                )
                for name in (node.name, *(f"{node.name}.{each}" for each in inside)):
                    found.setdefault(name, []).append(text)
            target = getattr(node, "target", None) or next(iter(getattr(node, "targets", ())), None)
            if isinstance(target, ast.Name):
                found.setdefault(target.id, []).append(text)
    return found


DEFINED = definitions()


def test_the_glossary_has_few_terms_and_each_once():
    terms = [term for term, _, _ in ROWS]
    assert 20 <= len(terms) <= MOST_TERMS
    assert len({*terms}) == len(terms)
    assert len(re.findall(r"^\| [a-z]", (DOCS / "internals/glossary.md").read_text("utf-8"), re.M)) == len(terms)


@pytest.mark.sample(4)
@pytest.mark.parametrize(("term", "code"), [(term, code) for term, _, code in ROWS])
def test_the_code_of_a_term_exists_and_uses_the_term(term, code):
    assert code in DEFINED, f"{code} is not defined in the package"
    words = term.replace("sample id", "ids").split()
    assert any(all(re.search(rf"\b{word}s?\b", text, re.I) for word in words) for text in DEFINED[code])
