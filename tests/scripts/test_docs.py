"""``scripts/docs``: it tells its options, and refuses others before anything is installed."""

import subprocess

import pytest
from helpers.pages import ROOT


@pytest.mark.parametrize(("option", "status"), [("--help", 0), ("-h", 0), ("--no-such-option", 1)])
def test_help_is_printed_and_an_unknown_option_is_refused_with_it(option, status):
    done = subprocess.run([ROOT / "scripts/docs", option], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.startswith("Builds the site of the documents into build/docs")
    assert "--links" in done.stdout
