"""The names in the guide for contributors exist: files, functions, classes, attributes and commands."""

import ast
import re

import pytest
from helpers.doc_pages import DOCS
from helpers.package_structure import ROOT

TEXT = re.sub(r"^```.*?^```$", "", (DOCS / "internals/contributing.md").read_text("utf-8"), flags=re.S | re.M)
QUOTED = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))
FILES = {word for quoted in QUOTED for word in quoted.split() if "/" in word}
_NAME, _FILE = r"`[A-Za-z_][\w.]*`(?: \([^()`]*\))?", r"`[\w/]+\.py`"
# "`KINDS` and `BACKENDS` of `tests/loader/test_loader.py` and `tests/telemetry/test_statistics.py`"
IN_FILES = sorted(
    {
        (name, file)
        for names, files in re.findall(
            rf"((?:{_NAME}(?:, | and | or )?)+),? (?:of|in) ((?:{_FILE}(?:, | and |,)?)+)", TEXT
        )
        for name in re.findall(r"`([\w.]+)`", names)
        for file in re.findall(r"`([\w/.]+)`", files)
        if not name.islower() or "_" in name  # others are options, which need a description in this file
    }
)
NAMES = {
    name
    for quoted in QUOTED
    if re.fullmatch(r"[A-Za-z_][\w.]*(\(.*\))?", quoted)
    for name in quoted.split("(")[0].split(".")
}
EVERYTHING = "\n".join(
    path.read_text("utf-8")
    for part in ("mpqueue", "scripts", "tests")
    for path in (ROOT / part).rglob("*.py")
    if path.name != "test_contributing.py"
)
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
# Terms of other projects and formats, and the public names of the package itself.
OTHERS = {
    "CHANGELOG", "md", "mpqueue", "mypy", "py", "pyproject", "sleep", "toml", "help", "TypedDict",
    "NPY_PROMOTION_STATE", "weak_and_warn",
}  # fmt: skip


def names_in(body, scope=""):
    """Yield the names of functions, classes and variables of a module, and of members of classes: ``Class.name``."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield scope + node.name
        if isinstance(node, ast.ClassDef):
            yield from names_in(node.body, f"{scope}{node.name}.")
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (scope + target.id for target in targets if isinstance(target, ast.Name))


def is_defined(name):
    """Return whether a module, class or function defines a name, or a class declares it."""
    pattern = rf"(?:def|class) {name}\b|^ *(?:self\.)?{name}(?:: [^=\n]+)? = |^    {name}: "
    return bool(re.search(pattern, EVERYTHING, re.M))


def is_used(name):
    """Return whether a name is an argument or a key, or is in the settings of the project."""
    return bool(re.search(rf"[(,*] ?{name}[,:)]|{name}=|\"{name}[\":]", EVERYTHING + PROJECT))


@pytest.mark.sample(8)
@pytest.mark.parametrize("file", sorted(FILES))
def test_a_named_file_exists(file):
    assert (ROOT / file).exists()


@pytest.mark.sample(6)
@pytest.mark.parametrize(("name", "file"), IN_FILES)
def test_a_name_is_defined_in_the_file_that_the_page_names(name, file):
    assert name in {*names_in(ast.parse((ROOT / file).read_text("utf-8")).body)}


@pytest.mark.slow
def test_every_other_name_is_defined_in_the_package_the_scripts_or_the_tests():
    """The name of a class or constant, and a private name, must be defined; others may be arguments or keys."""
    unknown = [name for name in sorted(NAMES - OTHERS) if not is_defined(name)]
    assert [name for name in unknown if not name.islower() or name[0] == "_" or not is_used(name)] == []
    assert len(NAMES) > 50
    assert len(IN_FILES) > 30


def test_rows_are_short():
    """A cell of a table is not a page."""
    assert max(len(cell) for line in TEXT.splitlines() if line.startswith("|") for cell in line.split("|")) <= 400
