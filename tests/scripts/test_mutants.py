"""``scripts/mutants``: a mutant is killed by its module's tests, and the folders in the table exist."""

import shutil
import subprocess
import sys

import pytest
from helpers.script_modules import SCRIPTS, script

ROOT = SCRIPTS.parent
targets = script("parts.mutants.targets")


def test_the_folders_and_tests_of_the_table_exist():
    for folder, tests in targets.FOLDERS.items():
        assert (ROOT / "mpqueue" / folder).is_dir()
        assert [name for name in tests if not (ROOT / "tests" / name).is_dir()] == []


def test_tests_named_after_a_module_are_its_tests_and_otherwise_those_of_its_folder():
    assert targets.tests_of("files/tar/tar.py", ROOT) == ["files/test_tar.py", "files/test_tar_stream.py"]
    assert targets.tests_of("worker/retry_markers.py", ROOT) == ["backends", "samples"]


def has_namespaces():
    """Return whether the program can have its own process namespace, in either way that it tries."""
    for users in ([], ["--user", "--map-root-user"]):
        command = ["unshare", *users, "--pid", "--fork", "--mount-proc", "true"]
        if shutil.which("unshare") and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return True
    return False


@pytest.mark.slow
def test_a_mutant_is_killed_by_the_tests_of_its_module():
    if not has_namespaces():
        pytest.skip("PID namespaces are not available")
    line = (ROOT / "mpqueue" / "memory" / "slots.py").read_text("utf-8").splitlines().index("PAGE = 4096") + 1
    run = [sys.executable, str(SCRIPTS / "mutants"), "memory/slots.py", "--lines", f"{line}-{line}", "--killers"]
    run += ["--tests", "memory/test_slot_states.py"]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "'PAGE = 4097': tests/memory/test_slot_states.py::" in done.stdout
    assert "100.0 %" in done.stdout
