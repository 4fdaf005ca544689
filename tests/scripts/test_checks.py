"""The checks of ``scripts/test``: no test is left out, and a failure is reported."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.scripts import SCRIPTS, script

ROOT = SCRIPTS.parent


@pytest.fixture
def checks():
    return script("parts.checks")


def saying(checks, words, status=0):
    return checks.Check(words, [sys.executable, "-c", f"print({words!r}); raise SystemExit({status})"])


@pytest.mark.parametrize("which", ["checks_of", "core_checks_of"])
def test_every_test_file_is_in_one_check(checks, which):
    checks = getattr(checks, which)(ROOT)
    named = [Path(path) for check in checks for path in check.command if path.startswith("tests/")]
    files = [file for path in named for file in (sorted((ROOT / path).rglob("test_*.py")) or [ROOT / path])]
    assert sorted(files) == sorted((ROOT / "tests").rglob("test_*.py"))


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a few test files."""
    for name in ("tests/one", "tests/two/inside", "tests/helpers"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("tests/one/test_it.py", "tests/two/inside/test_it.py", "tests/test_top.py", "tests/helpers/tool.py"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_a_new_folder_is_checked(checks, checkout):
    names = [check.name for check in checks.checks_of(checkout)]
    assert sorted(names) == ["soak", "tests/one", "tests/test_top.py", "tests/two", "types"]
    names = [check.name for check in checks.core_checks_of(checkout)]
    assert sorted(names) == ["tests/one", "tests/test_top.py", "tests/two"]


def test_each_test_runs_in_one_part_of_the_full_gate(checks, tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_it.py").write_text(
        "import pytest\n"
        "def test_plain(): pass\n"
        "@pytest.mark.slow\ndef test_slow(): pass\n"
        "@pytest.mark.measures\ndef test_measuring(): pass\n"
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
    assert passed(checks.measuring_checks_of(tmp_path)) == ["test_measuring", "test_measuring_slowly"]


def test_without_measuring_tests_there_is_no_check_of_them(checks, checkout):
    assert checks.measuring_checks_of(checkout) == []


def test_the_folders_that_take_longest_are_there(checks):
    assert all((ROOT / "tests" / name).is_dir() for name in checks._LONGEST_FIRST)


def test_each_says_what_it_has_written_and_how_it_ended(checks):
    given = [saying(checks, "well"), saying(checks, "ill", 3)]
    found = {result.name: result for result in checks.results(given, at_a_time=2)}
    assert {name: result.status for name, result in found.items()} == {"well": 0, "ill": 3}
    assert str(found["well"]).startswith("well\n=== well: passed after ")
    assert str(found["ill"]).startswith("ill\n=== ill: FAILED with status 3 after ")


def test_a_process_that_is_left_behind_holds_up_nobody(checks, tmp_path):
    os.mkfifo(tmp_path / "gate")
    stays = [sys.executable, "-c", f"open({str(tmp_path / 'gate')!r}).read()"]
    leaving = checks.Check("leaving", [sys.executable, "-c", f"import subprocess; subprocess.Popen({stays!r})"])
    try:
        (result,) = checks.results([leaving], at_a_time=1)
    finally:
        (tmp_path / "gate").open("w").close()
    assert result.status == 0


def test_one_that_hangs_is_ended_with_all_below_it_and_says_where(checks, monkeypatch, tmp_path):
    gate, status_of = tmp_path / "gate", checks._status_of
    os.mkfifo(gate)
    pids = []

    def status_of_begun(process, written):
        pids.append(int(gate.read_text()))
        return status_of(process, written)

    monkeypatch.setattr(checks, "LIMIT_S", 0)
    monkeypatch.setattr(checks, "_status_of", status_of_begun)
    stays = f"import os, time; open({str(gate)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stays!r}])"
    stuck = checks.Check("stuck", [sys.executable, "-X", "faulthandler", "-c", code])
    (result,) = checks.results([stuck], at_a_time=1)
    assert result.status == -signal.SIGABRT
    assert f"  {pids[0]} of " in result.output
    assert "most recent call first" in result.output
    with pytest.raises(ProcessLookupError):
        while True:  # until whoever has become its parent has seen its end
            os.kill(pids[0], 0)


@pytest.fixture
def run(checks, monkeypatch, capsys):
    """Run the given checks as one of the two commands; return the exit status and the lines of the output."""

    def run(given, *arguments, measuring=()):
        monkeypatch.setattr(checks, "checks_of", lambda _root: given)
        monkeypatch.setattr(checks, "core_checks_of", lambda _root: given)
        monkeypatch.setattr(checks, "measuring_checks_of", lambda _root: list(measuring))
        return checks.main([*arguments]), capsys.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize("arguments", [[], ["--all"]])
@pytest.mark.parametrize(("statuses", "wanted"), [((0, 0), 0), ((2, 0), 1)])
def test_one_failure_is_a_failure_of_all(checks, run, statuses, wanted, arguments):
    status, lines = run([saying(checks, str(number), status) for number, status in enumerate(statuses)], *arguments)
    assert status == wanted
    assert ("FAILED: 0" in lines) == (wanted == 1)


def test_the_measuring_checks_start_after_all_others(checks, run, tmp_path):
    given = [saying(checks, "one"), saying(checks, "two")]
    _, lines = run(given, "--all", measuring=[saying(checks, "measures")])
    assert lines.index("=== measures: begun") > max(n for n, line in enumerate(lines) if "passed after" in line) - 4
    assert [line for line in lines if "passed after" in line][-1].startswith("=== measures: ")


@pytest.mark.parametrize(
    ("arguments", "rest"),
    [([], " Run everything (frameworks, docs, types, soak): scripts/test --all"), (["--all"], "")],
)
def test_the_last_line_counts_the_tests_and_names_the_command_for_the_rest(checks, run, monkeypatch, arguments, rest):
    monkeypatch.setenv("SET_UP_S", "3600")
    given = [
        saying(
            checks, "SKIPPED [3] tests/a.py:3: torch is not installed\n2100 passed, 3 skipped, 8 deselected in 2.01s"
        ),
        saying(
            checks,
            "SKIPPED [2] tests/b.py:4: could not import 'torch.nn': No module named 'torch'\n40 passed, 2 skipped, 1 warning in 61.00s (0:01:01)",
        ),
    ]
    status, lines = run(given, *arguments)
    assert status == 0
    assert "skipped 5: torch is not installed" in lines
    assert re.fullmatch(r"2,140 passed, 5 skipped in 60:\d\d\.(.*)", lines[-1])[1] == rest


def test_a_check_without_tests_fails_unless_it_may_be_empty(checks, run):
    given = saying(checks, "no tests ran in 0.01s", status=5)
    assert run([given])[0] == 1
    assert run([given._replace(may_be_empty=True)])[0] == 0
    assert run([saying(checks, "no tests", status=2)._replace(may_be_empty=True)])[0] == 1


def test_failures_are_named_again_before_the_last_line(checks, run):
    output = "what pytest shows\nFAILED tests/test_a.py::test_b - assert 1 == 2\n1 failed, 2 passed in 1.00s"
    numbers = "\n".join(map(str, range(20)))
    given = [saying(checks, output, 1)._replace(name="a"), saying(checks, numbers, 2)._replace(name="b")]
    _, lines = run(given)
    end = lines[-16:]
    assert sorted(end[:-2]) == sorted(
        ["FAILED tests/test_a.py::test_b - assert 1 == 2", "", *map(str, range(10, 20)), "", ""]  # in either order
    )
    assert end[-2] in ("FAILED: a, b", "FAILED: b, a")
    assert end[-1].startswith("1 failed, 2 passed in ")
