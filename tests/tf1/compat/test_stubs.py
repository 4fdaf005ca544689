"""The stubs of `mpqueue.compat.v1`, which ``scripts/stubs`` generates."""

import subprocess
import sys

import pytest
from helpers.scripts import SCRIPTS, script

ROOT = SCRIPTS.parent


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*.pyi")}


def test_stubs_are_up_to_date(tmp_path):
    """If this fails, run scripts/stubs and commit the result."""
    pytest.importorskip("ruff")
    command = script("parts.stubs.command")
    command.print_stubs(tmp_path)
    assert contents(command.FOLDER) == contents(tmp_path)


@pytest.mark.slow
def test_stubs_match_the_modules_at_run_time():
    done = checked("mypy.stubtest", "mpqueue.compat.v1", "--mypy-config-file", "pyproject.toml")
    assert "Success: no issues found in 25 modules" in done.stdout, done.stdout


def checked(module, *arguments):
    pytest.importorskip("mypy")
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
