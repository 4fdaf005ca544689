"""The names in the guide for contributors exist: files, functions, classes, attributes and commands."""

import re

import pytest
from helpers.pages import DOCS
from helpers.structure import ROOT

TEXT = re.sub(r"^```.*?^```$", "", (DOCS / "internals/contributing.md").read_text("utf-8"), flags=re.S | re.M)
QUOTED = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))
FILES = {word for quoted in QUOTED for word in quoted.split() if "/" in word}
# "`KINDS` of `tests/loader/test_loader.py` and `tests/telemetry/test_statistics.py`"
IN_FILES = sorted(
    {
        (name, file)
        for name, files in re.findall(
            r"`([A-Za-z_][\w.]*)`(?: \([^()`]*\))?,? (?:of|in) ((?:`[\w/]+\.py`(?:, | and |,)?)+)", TEXT
        )
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
SOURCES = {
    path: path.read_text("utf-8")
    for part in ("mpqueue", "scripts", "tests")
    for path in (ROOT / part).rglob("*.py")
    if path.name != "test_contributing.py"
}
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
# Terms of other projects and formats, and the public names of the package itself.
OTHERS = {"CHANGELOG", "md", "mpqueue", "mypy", "py", "pyproject", "sleep", "toml", "help"}


def is_defined(name, text):
    """Return whether a module, class or function defines a name, or a class declares it."""
    return bool(re.search(rf"(?:def|class) {name}\b|^ *(?:self\.)?{name}(?:: [^=\n]+)? = |^    {name}: ", text, re.M))


def is_used(name, text):
    """Return whether a name is defined, or is an argument or a key."""
    return is_defined(name, text) or bool(re.search(rf"[(,*] ?{name}[,:)]|{name}=|\"{name}[\":]", text))


@pytest.mark.parametrize("file", sorted(FILES))
def test_a_named_file_exists(file):
    assert (ROOT / file).exists()


@pytest.mark.parametrize(("name", "file"), IN_FILES)
def test_a_name_is_defined_in_the_file_that_the_page_names(name, file):
    text = (ROOT / file).read_text("utf-8")
    assert all(is_defined(part, text) for part in name.split("."))


def test_every_other_name_is_defined_in_the_package_the_scripts_or_the_tests():
    everything = "\n".join([*SOURCES.values(), PROJECT])
    assert [name for name in sorted(NAMES - OTHERS) if not is_used(name, everything)] == []
    assert len(NAMES) > 50
    assert len(IN_FILES) > 15
