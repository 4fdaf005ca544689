"""The stubs of `mpqueue.compat.v1`: printed by ``scripts/stubs``, they say what the modules offer."""

import subprocess
import sys

import pytest
from helpers.scripts import SCRIPTS, script

ROOT = SCRIPTS.parent


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*.pyi")}


def test_the_stubs_are_what_the_script_prints_now(tmp_path):
    """Else: run scripts/stubs, and commit what it writes."""
    pytest.importorskip("ruff")
    command = script("parts.stubs.command")
    command.print_stubs(tmp_path)
    assert contents(command.FOLDER) == contents(tmp_path)


@pytest.mark.slow
def test_mypy_accepts_the_stubs_and_how_they_are_used():
    done = checked("mypy", "--strict", "mpqueue/compat/v1", "tests/tf1/typing")
    assert "no issues found" in done.stdout, done.stdout
    assert done.returncode == 0


@pytest.mark.slow
def test_the_stubs_say_what_the_modules_have_at_run_time():
    done = checked("mypy.stubtest", "mpqueue.compat.v1", "--mypy-config-file", "pyproject.toml")
    assert "Success: no issues found in 25 modules" in done.stdout, done.stdout


def checked(module, *arguments):
    pytest.importorskip("mypy")
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
