"""``scripts/test``: each test file is run once, a failure or a hang fails the run, and the result is reported."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.script_modules import SCRIPTS, script

ROOT = SCRIPTS.parent


@pytest.fixture
def checks():
    return script("parts.checks")


def saying(checks, words, status=0):
    return checks.Check(words, [sys.executable, "-c", f"print({words!r}); raise SystemExit({status})"])


@pytest.mark.parametrize("which", ["checks_of", "core_checks_of"])
def test_every_test_file_is_in_one_check(checks, which):
    named = [Path(path) for made in getattr(checks, which)(ROOT) for path in made.command if path.startswith("tests/")]
    files = [file for path in named for file in (sorted((ROOT / path).rglob("test_*.py")) or [ROOT / path])]
    assert sorted(files) == sorted((ROOT / "tests").rglob("test_*.py"))


@pytest.mark.slow
def test_each_test_runs_in_one_part_of_the_full_gate(checks, tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_it.py").write_text(
        "import pytest\n"
        "def test_plain(): pass\n"
        "@pytest.mark.slow\ndef test_slow(): pass\n"
        "@pytest.mark.slow\n@pytest.mark.measures\ndef test_measuring_slowly(): pass\n"
    )

    def passed(made):
        """Run the tests of the checks, one check after the other, and return the names of the tests."""
        found = []
        for check in made:
            words = [word for word in check.command if word not in ("-q", "--minutes")]
            options = ["-v", "--rootdir", ".", "-p", "no:cacheprovider", "-o", "markers=slow\nmeasures"]
            if "pytest" in words:
                done = subprocess.run([*words, *options], cwd=tmp_path, capture_output=True, text=True, timeout=60)
                found += re.findall(r"::(\w+) PASSED", done.stdout)
        return found

    assert passed(checks.core_checks_of(tmp_path)) == ["test_plain"]
    assert passed(checks.checks_of(tmp_path)) == ["test_plain", "test_slow"]
    assert passed(checks.measuring_checks_of(tmp_path)) == ["test_measuring_slowly"]


@pytest.mark.parametrize(("most", "status"), [(5, 0), (4, 1)])
def test_too_many_tests_with_processes_fail_the_run(checks, monkeypatch, capsys, most, status):
    made = [saying(checks, "costs: 3 with processes, 1 long"), saying(checks, "costs: 2 with processes, 0 long")]
    monkeypatch.setattr(checks, "core_checks_of", lambda _: made)
    monkeypatch.setattr(checks, "MOST", {"with processes": most, "long": 1})
    assert checks.main([]) == status
    said = capsys.readouterr().out
    assert "5 tests start processes, 1 take more than a second of CPU time" in said
    assert ("5 tests with processes, at most 4" in said) == bool(status)


@pytest.mark.slow
def test_a_hanging_check_is_killed_with_its_children_and_its_stack_is_reported(checks, monkeypatch, tmp_path):
    gate, written = tmp_path / "gate", tmp_path / "pid"
    os.mkfifo(gate)
    monkeypatch.setattr(checks, "LIMIT_S", 5)
    stays = f"import os; open({str(written)!r}, 'w').write(str(os.getpid())); open({str(gate)!r}).read()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stays!r}])"
    stuck = checks.Check("stuck", [sys.executable, "-X", "faulthandler", "-c", code])
    (result,) = checks.results([stuck], at_a_time=1)
    assert result.status == -signal.SIGABRT
    assert "most recent call first" in result.output
    pid = int(written.read_text())
    assert f"  {pid} of " in result.output
    with pytest.raises(ProcessLookupError):
        while True:  # until its new parent reaps the process
            os.kill(pid, 0)


@pytest.mark.parametrize("arguments", [[], ["--all"]])
def test_a_failed_check_fails_the_run_and_is_named_at_the_end(checks, monkeypatch, capsys, arguments):
    given = [
        saying(checks, "FAILED tests/a.py::test_a\n1 failed, 2 passed in 1.00s", 1),
        saying(checks, "SKIPPED [3] tests/b.py:3: torch is not installed\n40 passed, 3 skipped in 2.01s"),
    ]
    measuring = saying(checks, "1 passed in 0.1s")
    for name in ("checks_of", "core_checks_of"):
        monkeypatch.setattr(checks, name, lambda _root: given)
    monkeypatch.setattr(checks, "measuring_checks_of", lambda _root: [measuring])
    assert checks.main(arguments) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "skipped 3: torch is not installed" in lines
    assert "FAILED tests/a.py::test_a" in lines[-6:]
    assert lines[-1].startswith(f"1 failed, {43 if arguments else 42} passed, 3 skipped in ")
    given[:] = [measuring]
    assert checks.main(arguments) == 0
