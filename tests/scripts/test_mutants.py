"""``scripts/mutants``: a mutant is killed by its module's tests, and the modules and tests in the tables exist."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.scripts import SCRIPTS, script

ROOT = SCRIPTS.parent
targets, survivors = script("parts.mutants.targets"), script("parts.mutants.survivors")


def known_survivors():
    return survivors.read(Path(survivors.__file__).with_name("survivors.md"))


def test_the_modules_and_tests_of_the_tables_exist():
    for module, tests in {**targets.PURE, **targets.OWN}.items():
        assert (ROOT / "mpqueue" / module).is_file(), module
        assert [name for name in tests if not (ROOT / "tests" / name).is_file()] == []
    for folder, tests in targets.FOLDERS.items():
        assert (ROOT / "mpqueue" / folder).is_dir()
        assert [name for name in tests if not (ROOT / "tests" / name).is_dir()] == []


def test_the_line_of_each_known_survivor_is_in_its_module():
    known = known_survivors()
    lines = {
        module: {line.strip() for line in (ROOT / "mpqueue" / module).read_text("utf-8").splitlines()}
        for module, _, _ in known
    }
    assert [(module, old) for module, old, _ in known if old not in lines[module]] == []


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
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "'PAGE = 4097': tests/memory/test_slot_states.py::" in done.stdout
    assert "100.0 %" in done.stdout
