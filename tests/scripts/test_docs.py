"""``scripts/docs`` prints its options, and rejects unknown options before it installs packages."""

import subprocess

import pytest
from helpers.doc_pages import ROOT


@pytest.mark.parametrize(("option", "status"), [("--help", 0), ("--no-such-option", 1)])
def test_help_is_printed_on_request_and_for_unknown_options(option, status):
    done = subprocess.run([ROOT / "scripts/docs", option], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.startswith("Builds the documentation in build/docs")
    assert "--links" in done.stdout
