"""The documentation's pages are consistent: links, names of tests, the index, and the length of the front page."""

import functools
import re
import tomllib

import pytest
from helpers.pages import DOCS, PAGES, README, ROOT, anchors, name_of, prose

TESTS = ROOT / "tests"
# A test file, alone or with a test or class in it.
REFERENCE = re.compile(r"`((?:\w+/)*(?:test_\w+|conftest|table)\.py)(?:::(\w+))?`")


def links(page):
    """Return the targets of all links and pictures of a page."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


@functools.cache
def text_of(path):
    return path.read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_point_to_existing_files_and_headings(page):
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_named_on_a_page_exist(page):
    missing = []
    for path, name in REFERENCE.findall(prose(page)):
        file = TESTS / path.removeprefix("tests/")
        if not file.is_file() or (
            name and not re.search(rf"^\s*(?:def|class) {name}\b|^{name} = ", text_of(file), re.M)
        ):
            missing.append(f"{path}::{name}")
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_name_tests_with_their_file(page):
    """Require the file, because the previous test only finds names with a file."""
    alone = re.sub(REFERENCE, "", prose(page))
    assert re.findall(r"\btest_\w{12,}|\w+\.\.\.`", alone) == []


def contents(page):
    """Return the pages in the tables of contents of a page."""
    directives = re.findall(r"^```\{toctree\}\n(.*?)^```$", text_of(page), re.M | re.S)
    lines = [line for text in directives for line in text.splitlines() if line[:1] not in (":", "")]
    return [(page.parent / re.sub(r".*<(.*)>", r"\1", line)).resolve().with_suffix(".md") for line in lines]


def test_every_page_of_the_site_is_one_click_below_at_most_seven_sections():
    sections = contents(DOCS / "index.md")
    assert len(sections) <= 7
    pages = [page for section in sections for page in contents(section)]
    assert sorted([DOCS / "index.md", *sections, *pages]) == sorted(page for page in PAGES if page != README)
    assert {page for page in pages if contents(page)} == set()


@pytest.mark.parametrize("section", contents(DOCS / "index.md"), ids=name_of)
def test_a_section_links_to_its_pages(section):
    linked = {(section.parent / target.partition("#")[0]).resolve() for target in links(section)}
    assert {*contents(section)} <= linked


def test_the_front_page_has_at_most_150_lines():
    assert len(README.read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", [page for page in PAGES if page != DOCS / "index.md"], ids=name_of)  # the README's
def test_a_page_has_one_title_and_it_comes_first(page):
    lines = prose(page).splitlines()
    assert [line for line in lines if line.startswith("# ")] == lines[:1]


def test_the_tables_of_extras_and_groups_list_each_of_them():
    listed = re.findall(r"^\| `([\w-]+)` \|", prose(DOCS / "installing.md"), re.M)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert sorted(listed) == sorted([*settings["project"]["optional-dependencies"], *settings["dependency-groups"]])
