"""Sphinx builds the site without warnings: all pages are linked, and all links and directives are valid."""

import re
from importlib.metadata import entry_points

import pytest
from helpers.doc_pages import DOCS, PAGES, README

pytest.importorskip("sphinx", reason="the dependency group docs is not installed")


@pytest.mark.timeout(900)
def test_the_site_builds_without_a_warning(built_site):
    done, doctrees, _ = built_site
    assert (done.stderr, done.returncode) == ("", 0)
    read = {page.relative_to(doctrees).with_suffix("") for page in doctrees.rglob("*.doctree")}
    assert {page.relative_to(DOCS).with_suffix("") for page in PAGES if page != README} <= read


def test_the_theme_of_the_site_is_installed_by_the_extra():
    settings = (DOCS / "conf.py").read_text("utf-8")
    (theme,) = re.findall(r'^html_theme = "(\w+)"$', settings, re.M)
    assert theme in {point.name for point in entry_points(group="sphinx.html_themes")}
