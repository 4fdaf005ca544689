"""The documentation cites functions of the executable specification that exist."""

import importlib
import re
from operator import attrgetter

import pytest
from helpers.doc_pages import PAGES, name_of

CITED = sorted({
    (name_of(page), module, name)
    for page in PAGES
    for module, name in re.findall(r"`model/((?!test_)\w+)\.py::([\w.]+)`", page.read_text("utf-8"))
})  # fmt: skip
GUIDES = ("exact-resume", "lengths", "ranks", "rewind", "streams")
ABOUT_ORDER = {*(f"docs/guides/{name}.md" for name in GUIDES), "docs/frameworks/torch.md"}


@pytest.mark.sample(6)
@pytest.mark.parametrize(("page", "module", "name"), CITED)
def test_cited_function_exists_and_is_described(page, module, name):
    if module == "torch_pass":
        pytest.importorskip("torch")
    cited = attrgetter(name)(importlib.import_module(f"model.{module}"))
    assert cited.__doc__, f"{page} cites {module}.{name}, which has no docstring"


def test_each_page_about_order_and_resume_cites_the_specification():
    assert {page for page, *_ in CITED} >= ABOUT_ORDER
