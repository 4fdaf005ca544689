"""The documentation's pages are consistent: links, names of tests, the index, and the length of the front page."""

import functools
import re
import tomllib

from helpers.doc_pages import DOCS, PAGES, README, ROOT, anchors, name_of, prose

TESTS = ROOT / "tests"
# A test file, alone or with a test or class in it.
REFERENCE = re.compile(r"`((?:\w+/)*(?:test_\w+|conftest|table)\.py)(?:::(\w+))?`")


def links(page):
    """Return the targets of all links and pictures of a page."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


@functools.cache
def text_of(path):
    return path.read_text("utf-8")


def code_lines(page):
    """Yield the lines within all fenced blocks of a page, including Sphinx directives."""
    inside = False
    for line in text_of(page).splitlines():
        if line.lstrip(" ").startswith("```"):
            inside = not inside
        elif inside:
            yield line


def is_broken(page, target):
    """Return whether a link of a page leads to no file, or to no heading of it."""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    return not file.exists() or (anchor and anchor not in anchors(file))


def test_links_point_to_existing_files_and_headings():
    pages = {*PAGES, *ROOT.glob("*.md"), *(ROOT / ".github").glob("*.md")}
    inner = [(page, target) for page in pages for target in links(page) if not target.startswith(("http:", "https:"))]
    assert [(name_of(page), target) for page, target in inner if is_broken(page, target)] == []


def is_missing(path, name):
    """Return whether a test file, or the test or class in it, does not exist."""
    file = TESTS / path.removeprefix("tests/")
    definition = rf"^\s*(?:def|class) {name}\b|^{name} = "
    return not file.is_file() or (name and not re.search(definition, text_of(file), re.M))


def test_pages_named_in_code_exist():
    """Their paths from the root of the checkout, in docstrings, messages and comments."""
    parts = ("mpqueue", "scripts", "tests")
    files = [
        path
        for part in parts
        for path in (ROOT / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.relative_to(ROOT).parts  # they may be compiled from older files
    ]
    named = {
        (str(file.relative_to(ROOT)), found)
        for file in [*PAGES, *files, ROOT / "CHANGELOG.md", ROOT / "pyproject.toml"]
        for found in re.findall(r"\bdocs/[\w/-]+\.(?:md|json|svg)\b", file.read_text("utf-8", "ignore"))
    }
    assert len(named) > 30
    assert sorted(one for one in named if not (ROOT / one[1]).is_file()) == []


def test_tests_named_on_pages_exist():
    named = {(name_of(page), *found) for page in PAGES for found in REFERENCE.findall(prose(page))}
    assert [one for one in named if is_missing(*one[1:])] == []


def test_pages_name_tests_with_their_file():
    """Require the file, because the previous test only finds names with a file."""
    alone = {name_of(page): re.sub(REFERENCE, "", prose(page)) for page in PAGES}
    assert {
        page: found for page, text in alone.items() if (found := re.findall(r"\btest_\w{12,}|\w+\.\.\.`", text))
    } == {}


def test_each_row_about_other_users_names_its_tests():
    rows = re.findall(r"^\|(?!-).*\|$", prose(DOCS / "operations/security.md"), re.M)
    alone = [row for row in rows if not REFERENCE.search(row.split("|")[-2])]
    assert len(rows) > 20
    assert all(row.endswith("| Tests |") for row in alone), alone


def contents(page):
    """Return the pages in the tables of contents of a page."""
    directives = re.findall(r"^```\{toctree\}\n(.*?)^```$", text_of(page), re.M | re.S)
    lines = [line for text in directives for line in text.splitlines() if line[:1] not in (":", "")]
    return [(page.parent / re.sub(r".*<(.*)>", r"\1", line)).resolve().with_suffix(".md") for line in lines]


def test_every_page_of_the_site_is_one_click_below_at_most_eight_sections():
    sections = contents(DOCS / "index.md")
    assert len(sections) <= 8
    pages = [page for section in sections for page in contents(section)]
    assert sorted([DOCS / "index.md", *sections, *pages]) == sorted(page for page in PAGES if page != README)
    assert {page for page in pages if contents(page)} == set()


def test_a_section_of_the_site_is_a_folder_of_at_most_15_files():
    for section in contents(DOCS / "index.md"):
        assert section.name == "index.md"
        assert {*section.parent.iterdir()} == {section, *contents(section)}
        assert len(contents(section)) < 15, section


def test_each_section_links_to_its_pages():
    for section in contents(DOCS / "index.md"):
        linked = {(section.parent / target.partition("#")[0]).resolve() for target in links(section)}
        assert {*contents(section)} <= linked


def test_the_front_page_has_at_most_150_lines():
    assert len(README.read_text("utf-8").splitlines()) <= 150


# The beginnings of lines of code that must not be wrapped, with the reason.
WIDE = {".. autoclass:: mpqueue.torch.DataLoader(": "the signature, which Sphinx reads from one line only"}


def test_no_line_of_code_is_wider_than_80_characters():
    wide = [(name_of(page), line) for page in PAGES for line in code_lines(page) if len(line) > 80]
    assert [(page, line) for page, line in wide if not line.startswith(tuple(WIDE))] == []
    assert [start for start in WIDE if not any(line.startswith(start) for _, line in wide)] == []


def test_each_page_has_one_title_and_it_comes_first():
    for page in PAGES:
        lines = prose(page).removeprefix("---\nnosearch: true\n---\n").splitlines()
        assert page == DOCS / "index.md" or [line for line in lines if line.startswith("# ")] == lines[:1], page


def test_the_tables_of_extras_and_groups_list_each_of_them():
    listed = re.findall(r"^\| `([\w-]+)` \|", prose(DOCS / "start/installing.md"), re.M)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert sorted(listed) == sorted([*settings["project"]["optional-dependencies"], *settings["dependency-groups"]])
