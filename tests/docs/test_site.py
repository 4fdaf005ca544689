"""Sphinx builds the site without a warning: every page is reached, every link leads somewhere, every directive is right."""

import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from helpers.pages import DOCS, PAGES, README

pytest.importorskip("sphinx", reason="the extra [docs] is not installed")


@pytest.mark.timeout(900)
def test_the_site_is_built_without_a_warning(tmp_path):
    # Without the transform of dashes and without the navigation that the theme makes anew for each page: four tenths of the time.
    options = "--fail-on-warning --keep-going --quiet -D smartquotes=0 -D html_theme=basic -b html -d".split()
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, tmp_path / "doctrees", DOCS, tmp_path / "site"],
        capture_output=True,
        text=True,
        timeout=890,  # it takes 15 s of a quiet CPU, and took more than 290 s where thirty others wanted two
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    built = {page.relative_to(tmp_path / "site").with_suffix("") for page in (tmp_path / "site").rglob("*.html")}
    assert {page.relative_to(DOCS).with_suffix("") for page in PAGES if page != README} <= built


def test_the_theme_of_the_site_is_one_that_the_extra_installs():
    settings = (DOCS / "conf.py").read_text("utf-8")
    (theme,) = re.findall(r'^html_theme = "(\w+)"$', settings, re.M)
    assert theme in {point.name for point in entry_points(group="sphinx.html_themes")}
