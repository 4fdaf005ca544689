"""One mutant at a time: a fork of a warm interpreter runs the tests in a copy of the tree.

This process has imported the modules that all tests need, but not mpqueue. First, it records which tests run each
function: most mutants need a few of the tests. For each mutant, it writes the module into the copy and forks. The child
imports mpqueue from the copy, runs the tests until the first failure, and exits with pytest's exit code. Processes that
tests start (workers, fork servers) import the mutant from the copy, too, and are killed with the child's process group.

A loaded machine must not kill a mutant. Limits are CPU times; limits of elapsed time are generous. Mutants that do not
end are counted separately, and tried again if the limit was elapsed time. Tests that start processes may fail
spuriously once in a thousand runs, so their failures only count if they repeat.
"""

import contextlib
import json
import math
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
import types
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from parts.mutants.reached import RECORDER, Functions, Recording

_MEMORY_BYTES = 6 << 30  # private memory: ends a mutant that appends indefinitely before the machine runs out of memory
_TEST_S = 90  # elapsed time for a single test
_WARM = ["numpy", "hypothesis.stateful", "hypothesis.extra.numpy", "pytest", "psutil", "cloudpickle"]


class Outcome(NamedTuple):
    """The outcome of a run of the tests.

    Attributes:
        killer: The first test that failed or did not end, or None if all passed.
        has_ended: False if the run had to be stopped.
        seconds: Elapsed time.
    """

    killer: str | None
    has_ended: bool
    seconds: float


class _Plugin:
    """A pytest plugin that runs quick tests and earlier killers first, and records failures."""

    def __init__(self, note: Path, begun: Path, killers: dict[str, int], seconds: dict[str, float]) -> None:
        self._note, self._begun, self._killers, self._seconds = note, begun, killers, seconds

    def pytest_collection_modifyitems(self, items: list) -> None:
        items.sort(key=lambda item: self._seconds.get(item.nodeid, 0) / (1 + self._killers.get(item.nodeid, 0)))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._begun.write_text(json.dumps(nodeid))

    def pytest_runtest_logreport(self, report: object) -> None:
        if report.failed and not self._note.exists():
            self._note.write_text(json.dumps(report.nodeid))


class Copy:
    """A copy of the tree, and the interpreter that runs tests in it.

    Args:
        root: The tree.
        folder: Folder of the copy.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        listing = ["git", "ls-files", "-zco", "--exclude-standard"]
        listed = subprocess.run(listing, cwd=root, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, folder / name)
        self._killers: dict[str, int] = {}
        self._functions = Functions()
        self._seconds: dict[str, float] = {}  # of each test that passes without a mutant
        self._reached: dict[int, set[str]] = {}  # the tests that run a function
        self._note, self._begun = folder / ".killer", folder / ".begun"
        self._log = folder / ".log"

    def warm_up(self) -> None:
        """Import the modules that all tests need, and compile the modules of the copy."""
        import compileall
        import importlib

        for name in _WARM:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        compileall.compile_dir(self.folder / "mpqueue", quiet=2)
        compileall.compile_dir(self.folder / "tests", quiet=2)
        assert not any(name.partition(".")[0] == "mpqueue" for name in sys.modules)

    def write(self, module: str, source: bytes) -> None:
        """Write a module into the copy, and remove its compiled versions."""
        path = self.folder / module
        path.write_bytes(source)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()

    def survey(self, modules: Iterable[str], tests: list[str]) -> None:
        """Run tests without a mutant, and record which of them run each function of some modules.

        Raises:
            SystemExit: No test passes.
        """
        sources = {module: (self.folder / module).read_bytes() for module in modules}
        self.write("mpqueue/_reached.py", RECORDER.encode())
        for module, source in sources.items():
            self.write(module, self._functions.instrumented(module, source))
        recording = Recording(self.folder)
        # Not tests that compare times: under load they fail, and so would kill a mutant.
        self._in_child(["-m", "not measures", *tests], recording, None)
        for module, source in sources.items():
            self.write(module, source)
        recorded = self.folder / ".recorded"
        seconds, reached = json.loads(recorded.read_text()) if recorded.exists() else ({}, [])
        self._seconds = {test: lasted for test, lasted in seconds.items() if lasted < math.inf}
        self._reached = {function: self._seconds.keys() & set(found) for function, found in reached}
        if not self._seconds:
            raise SystemExit(f"no test passes without a mutant:\n{self.log()[-4000:]}")

    def tests_of(self, module: str, line: int) -> list[str]:
        """Return the tests that run the function with a line; of a line without a function, all tests."""
        function = self._functions.at(module, line)
        return list(self._seconds if function is None else self._reached.get(function, ()))

    def judge(self, tests: list[str]) -> Outcome:
        """Run tests on a mutant. A failure must repeat to count."""
        limit_s = 10 + 4 * sum(self._seconds[test] for test in tests)
        doubtful: list[str] = []
        while True:
            outcome = self.run(tests, limit_s, without=doubtful)
            killer = outcome.killer
            if killer is None:
                return outcome
            if "::" in killer:
                again = self.run([killer], 2 * limit_s)
                outcome = outcome._replace(killer=again.killer, has_ended=again.has_ended)
            if outcome.killer is not None:
                self._killers[killer] = self._killers.get(killer, 0) + 1
                return outcome
            print(f"    {killer} failed once, but not again", flush=True)
            doubtful.append(killer)

    def run(self, tests: list[str], limit_s: float, without: Iterable[str] = ()) -> Outcome:
        """Run tests until the first failure.

        Args:
            tests: Files, folders or tests.
            limit_s: CPU time limit; the limit of elapsed time is ten times as large.
            without: Tests to skip.
        """
        self._note.unlink(missing_ok=True)
        self._begun.unlink(missing_ok=True)
        arguments = ["-x", "-o", f"timeout={_TEST_S}", *tests, *(f"--deselect={name}" for name in without)]
        plugin = _Plugin(self._note, self._begun, self._killers, self._seconds)
        started = time.monotonic()
        killer, has_ended = self._killer_of(self._in_child(arguments, plugin, limit_s))
        return Outcome(killer, has_ended, time.monotonic() - started)

    def log(self) -> str:
        """Return the output of the tests in the last run."""
        return self._log.read_text("utf-8", "replace")

    def _killer_of(self, code: int | None) -> tuple[str | None, bool]:
        if code == 0:
            return None, True
        if self._note.exists():
            return json.loads(self._note.read_text()), True
        begun = json.loads(self._begun.read_text()) if self._begun.exists() else f"exit code {code}"
        return begun, code not in (None, -signal.SIGXCPU) and "+ Timeout +" not in self.log()

    def _in_child(self, arguments: list[str], plugin: object, limit_s: float | None) -> int | None:
        """Run pytest in a fork; return its exit code, or None if it had to be killed."""
        pid = os.fork()
        if pid == 0:
            self._child(arguments, plugin, limit_s)
        return _wait(pid, None if limit_s is None else 10 * limit_s)

    def _child(self, arguments: list[str], plugin: object, limit_s: float | None) -> None:
        code = 70
        try:
            os.setsid()
            log = os.open(self._log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
            if limit_s is not None:
                resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s) + 1, int(limit_s) + 5))
            sys.dont_write_bytecode = True
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            code = self._pytest(arguments, plugin)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            os._exit(code)

    def _pytest(self, arguments: list[str], plugin: object) -> int:
        import pytest
        from hypothesis import Phase, settings

        os.chdir(self.folder)
        sys.modules["__main__"] = types.ModuleType("__main__")  # multiprocessing would import it in spawned processes
        os.environ["PYTHONPATH"] = str(self.folder)
        sys.path[0] = str(self.folder)  # replaces the folder of scripts
        settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], database=None, print_blob=False)
        settings.load_profile("mutants")
        # pytest's defaults instead of the project's, because no report is read.
        options = ["-q", "--tb=short", "--assert=plain", "--import-mode=importlib", "-p", "no:cacheprovider"]
        options += ["-o", "addopts=", "--rootdir", ".", "-c", "pyproject.toml"]
        return int(pytest.main([*options, *arguments], plugins=[plugin]))


def _wait(pid: int, limit_s: float | None) -> int | None:
    """Return the exit code of a child, or None if it had to be killed. Its process group is killed in any case."""
    pidfd = os.pidfd_open(pid)
    try:
        in_time, _, _ = select.select([pidfd], [], [], limit_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(status) if in_time else None
