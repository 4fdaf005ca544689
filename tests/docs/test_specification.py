"""The documentation cites functions of the executable specification that exist."""

import importlib
import re
from operator import attrgetter
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
CITED = sorted({
    (page.name, module, name)
    for page in DOCS.glob("*.md")
    for module, name in re.findall(r"`model/((?!test_)\w+)\.py::([\w.]+)`", page.read_text("utf-8"))
})  # fmt: skip
PAGES = {"exact-resume.md", "rewind.md", "streams.md", "reproducibility.md", "samples.md", "packing.md", "torch.md"}


@pytest.mark.parametrize(("page", "module", "name"), CITED)
def test_cited_function_exists_and_is_described(page, module, name):
    if module == "torch_pass":
        pytest.importorskip("torch")
    cited = attrgetter(name)(importlib.import_module(f"model.{module}"))
    assert cited.__doc__, f"{page} cites {module}.{name}, which has no docstring"


def test_each_page_about_order_and_resume_cites_the_specification():
    assert {page for page, *_ in CITED} >= PAGES
