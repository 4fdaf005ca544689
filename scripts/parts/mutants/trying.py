"""One mutant at a time: a fork of a warm interpreter runs the tests in a copy of the tree.

This process has imported what all tests need and nothing of mpqueue. For each mutant it writes the module into the
copy and forks; the child imports mpqueue from the copy, runs the tests until the first fails, and ends with the exit
code of pytest. What the tests start (workers, nurseries) imports the mutant from the copy as well, and is killed with
the child's process group.
"""

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

_MEMORY_BYTES = 6 << 30  # private memory: a mutant that appends for ever ends before the machine suffers
_WARM = ["numpy", "hypothesis.stateful", "hypothesis.extra.numpy", "pytest", "psutil", "cloudpickle"]


class Outcome(NamedTuple):
    """End of a run of the tests.

    Attributes:
        killer: The test that failed first, "timeout", or None: all passed.
        seconds: How long it took.
        cpu_s: Processor time of it.
    """

    killer: str | None
    seconds: float
    cpu_s: float


class Copy:
    """A copy of the tree, and the interpreter that runs tests in it.

    Args:
        root: The tree.
        folder: Where the copy goes.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder, self.options = folder, []
        listing = ["git", "ls-files", "-zco", "--exclude-standard"]
        listed = subprocess.run(listing, cwd=root, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, folder / name)
        self._killers: dict[str, int] = {}
        self._note = folder / ".killer"
        self._log = folder / ".log"

    def warm_up(self) -> None:
        """Import what all tests need; the copy's own modules are compiled by the first run."""
        import importlib

        for name in _WARM:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        assert not any(name.partition(".")[0] == "mpqueue" for name in sys.modules)

    def write(self, module: str, source: bytes) -> None:
        """Put a module into the copy; what Python has compiled of it before is thrown away."""
        path = self.folder / module
        path.write_bytes(source)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()

    def forget_times(self) -> None:
        """Let the next run measure how long each test takes."""
        (self.folder / ".seconds").unlink(missing_ok=True)

    def run(self, tests: list[str], limit_s: float | None = None) -> Outcome:
        """Run tests until the first fails.

        Args:
            tests: Files or folders.
            limit_s: Processor time; and ten times as much of the clock. None: the baseline, which may compile.
        """
        self._note.unlink(missing_ok=True)
        started, before = time.monotonic(), _cpu_of_children()
        pid = os.fork()
        if pid == 0:
            self._child(tests, limit_s)
        code = _wait(pid, None if limit_s is None else 10 * limit_s)
        return Outcome(self._killer_of(code), time.monotonic() - started, _cpu_of_children() - before)

    def log(self) -> str:
        """Text that the tests printed in the last run."""
        return self._log.read_text("utf-8", "replace")

    def _killer_of(self, code: int | None) -> str | None:
        if code is None or code == -signal.SIGXCPU:
            return "timeout"
        if code == 0:
            return None
        killer = json.loads(self._note.read_text()) if self._note.exists() else f"exit code {code}"
        self._killers[killer] = self._killers.get(killer, 0) + 1
        return killer

    def _child(self, tests: list[str], limit_s: float | None) -> None:
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
            code = self._pytest(tests)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            os._exit(code)

    def _pytest(self, tests: list[str]) -> int:
        import pytest
        from hypothesis import Phase, settings

        os.chdir(self.folder)
        os.environ["PYTHONPATH"] = str(self.folder)
        sys.path[0] = str(self.folder)  # in place of the folder of scripts
        settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], database=None, print_blob=False)
        settings.load_profile("mutants")
        # pytest's own defaults in place of ours: no report is read.
        options = ["-x", "-q", "--tb=short", "--assert=plain", "--import-mode=importlib", "-p", "no:cacheprovider"]
        options += ["-o", "addopts=", "--rootdir", ".", "-c", "pyproject.toml", *self.options]
        return int(pytest.main([*options, *tests], plugins=[_Plugin(self._note, self._killers)]))


class _Plugin:
    """Runs quick tests and those that have killed before first; notes which test fails, and how long each takes."""

    def __init__(self, note: Path, killers: dict[str, int]) -> None:
        self._note, self._killers = note, killers
        self._seconds_file = note.with_name(".seconds")
        self._is_baseline = not self._seconds_file.exists()
        self._seconds = {} if self._is_baseline else json.loads(self._seconds_file.read_text())

    def pytest_collection_modifyitems(self, items: list) -> None:
        items.sort(key=lambda item: self._seconds.get(item.nodeid, 0) / (1 + self._killers.get(item.nodeid, 0)))

    def pytest_runtest_logreport(self, report: object) -> None:
        if report.failed and not self._note.exists():
            self._note.write_text(json.dumps(report.nodeid))
        if self._is_baseline:
            self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0) + report.duration

    def pytest_sessionfinish(self) -> None:
        if self._is_baseline:
            self._seconds_file.write_text(json.dumps(self._seconds))


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait(pid: int, limit_s: float | None) -> int | None:
    """Exit code of a child, None if it had to be killed; nothing of its process group is left."""
    pidfd = os.pidfd_open(pid)
    try:
        in_time, _, _ = select.select([pidfd], [], [], limit_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(status) if in_time else None
