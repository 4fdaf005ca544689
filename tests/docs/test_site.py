"""Sphinx builds the site without a warning: every page is reached, every link leads somewhere, every directive is right."""

import subprocess
import sys

import pytest
from helpers.pages import DOCS, PAGES, README

pytest.importorskip("sphinx", reason="the extra [docs] is not installed")


@pytest.mark.timeout(600)
def test_the_site_is_built_without_a_warning(tmp_path):
    # Without the transform of dashes, which takes a tenth of the time.
    options = "--fail-on-warning --keep-going --quiet -D smartquotes=0 -b html -d".split()
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, tmp_path / "doctrees", DOCS, tmp_path / "site"],
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    built = {page.relative_to(tmp_path / "site").with_suffix("") for page in (tmp_path / "site").rglob("*.html")}
    assert {page.relative_to(DOCS).with_suffix("") for page in PAGES if page != README} <= built
