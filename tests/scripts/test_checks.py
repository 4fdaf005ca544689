"""The checks of ``scripts/test``: none is left out, and one that fails is heard."""

import os
import signal
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


def test_every_file_of_tests_is_in_one_check(checks):
    named = [Path(path) for check in checks.checks_of(ROOT) for path in check.command if path.startswith("tests/")]
    files = [file for path in named for file in (sorted((ROOT / path).rglob("test_*.py")) or [ROOT / path])]
    assert sorted(files) == sorted((ROOT / "tests").rglob("test_*.py"))


def test_a_folder_that_is_new_is_checked(checks, tmp_path):
    for name in ("tests/one", "tests/two/inside", "tests/helpers"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("tests/one/test_it.py", "tests/two/inside/test_it.py", "tests/test_top.py", "tests/helpers/tool.py"):
        (tmp_path / name).write_text("")
    names = [check.name for check in checks.checks_of(tmp_path)]
    assert sorted(names) == ["soak", "tests/one", "tests/test_top.py", "tests/two", "types"]


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


@pytest.mark.parametrize(("statuses", "wanted", "last"), [((0, 0), 0, "All checks passed."), ((2, 0), 1, "FAILED: 0")])
def test_one_that_fails_fails_all(checks, monkeypatch, capsys, statuses, wanted, last):
    given = [saying(checks, str(number), status) for number, status in enumerate(statuses)]
    monkeypatch.setattr(checks, "checks_of", lambda _root: given)
    assert checks.main() == wanted
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_what_failed_is_named_once_more_at_the_end(checks, monkeypatch, capsys):
    told = "what pytest shows\nFAILED tests/test_a.py::test_b - assert 1 == 2\n1 failed"
    numbers = "\n".join(map(str, range(20)))
    given = [saying(checks, told, 1)._replace(name="a"), saying(checks, numbers, 2)._replace(name="b")]
    monkeypatch.setattr(checks, "checks_of", lambda _root: given)
    checks.main()
    end = capsys.readouterr().out.splitlines()[-14:]
    assert sorted(end[:-1]) == sorted(
        ["FAILED tests/test_a.py::test_b - assert 1 == 2", "", *map(str, range(10, 20)), ""]  # in either's turn
    )
