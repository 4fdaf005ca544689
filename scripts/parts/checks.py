"""The checks of ``scripts/test`` that take long: types, the tests of each folder, a minute of the soak.

One process for each check, twice as many at a time as there are CPUs, as four tenths of the time of a check is a wait
for processes that start and end: with three at a time a sixth of two CPUs was idle. Each folder of tests has a process
of its own, so that what is imported for one (frameworks with threads and hooks, Ray) does not meet the forks of
another, and nothing is collected twice. The longest checks begin first, which leaves no long one for the end. A check
writes into a file of its own (a pipe would stay open as long as a process that it left behind); what it wrote is
printed, whole, when it has ended. All run to their ends whatever the others say; an interrupt, which the checks of a
terminal get as well, lets no further one begin. A check that has not ended after `LIMIT_S` hangs: pytest ends a test
that does, but not what comes before and after the tests (an import, the exit of the interpreter). The processes below
it are told of, it is aborted, which makes it print where its threads stand, and they are ended. What failed is said
once more at the end, where one looks first in a long log.
"""

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple, TextIO

import psutil

from parts.machine import ROOT, SCRIPTS, num_cpus

# By what they took on two CPUs; a folder that is not named takes less than these.
_LONGEST_FIRST = (
    "workers", "cluster", "docs", "service", "scripts", "frameworks/keras", "golden", "tf1/compat", "frameworks",
    "system", "frameworks/torch", "loader", "dataset", "tf1/queues",
)  # fmt: skip
# What is imported for one framework, or for one part of TensorFlow 1's, is not to meet that of another.
_FOLDERS_OF_FOLDERS = ("frameworks", "tf1")


LIMIT_S = 1800  # the longest takes 330 s beside two others on two CPUs, and 1,500 s with eight busy loops beside it
_STACKS_S = 10  # for a process that is aborted to print its stacks
_NAMED_BY_PYTEST = ("FAILED ", "ERROR ")
_LAST_LINES = 10


class Check(NamedTuple):
    """A command, and the name that is printed with its result."""

    name: str
    command: list[str]


class Result(NamedTuple):
    """The end of a check: its exit status, 0 if all is well, its seconds, and what it has written."""

    name: str
    status: int
    seconds: float
    output: str

    def __str__(self) -> str:
        """Return what was written, and a last line of the result."""
        word = "passed" if self.status == 0 else f"FAILED with status {self.status}"
        return f"{self.output.rstrip()}\n=== {self.name}: {word} after {self.seconds:.0f} s\n"

    def in_short(self) -> str:
        """Return the lines in which pytest names the tests that failed; of other commands, the last lines."""
        lines = self.output.rstrip().splitlines()
        return "\n".join([line for line in lines if line.startswith(_NAMED_BY_PYTEST)] or lines[-_LAST_LINES:])


def checks_of(root: Path) -> list[Check]:
    """Return the checks of a checkout, those first that take longest."""
    python, tests = sys.executable, root / "tests"
    types = Check("types", [python, "-X", "faulthandler", "-m", "mypy"])
    soak = Check("soak", [python, "-X", "faulthandler", str(SCRIPTS / "soak"), "--minutes", "1"])
    folders = _folders_of(tests)
    names = sorted(
        folders, key=lambda name: (_LONGEST_FIRST.index(name) if name in _LONGEST_FIRST else len(_LONGEST_FIRST), name)
    )
    of_folders = [_tests(python, *folders[name]) for name in names]
    top = _tests(python, *sorted(f"tests/{path.name}" for path in tests.glob("test_*.py")))
    # The types come early: tests of the stubs ask mypy again, and are quick where it has answered.
    return [types, *of_folders[: len(_LONGEST_FIRST)], top, soak, *of_folders[len(_LONGEST_FIRST) :]]


def _folders_of(tests: Path) -> dict[str, list[str]]:
    """Return the paths of tests that one process runs, by the name of their folder."""
    found = {}
    for path in tests.iterdir():
        for inner in path.iterdir() if path.name in _FOLDERS_OF_FOLDERS else ():
            if any(inner.rglob("test_*.py")):
                found[f"{path.name}/{inner.name}"] = [f"tests/{path.name}/{inner.name}"]
        if path.name in _FOLDERS_OF_FOLDERS:
            files = sorted(f"tests/{path.name}/{file.name}" for file in path.glob("test_*.py"))
            found |= {path.name: files} if files else {}
        elif any(path.rglob("test_*.py")):
            found[path.name] = [f"tests/{path.name}"]
    return found


def _tests(python: str, *paths: str) -> Check:
    return Check(" ".join(paths), [python, "-X", "faulthandler", "-m", "pytest", "-q", *paths])


def results(checks: list[Check], at_a_time: int) -> Iterator[Result]:
    """Run checks, and yield what each said when it has ended."""
    with ThreadPoolExecutor(at_a_time) as pool:
        running = [pool.submit(_run, check) for check in checks]
        try:
            for done in as_completed(running):
                yield done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run(check: Check) -> Result:
    _say(f"=== {check.name}: begun")
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as written:
        with subprocess.Popen(
            check.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=written, stderr=written
        ) as process:
            status = _status_of(process, written)
        written.seek(0)
        return Result(check.name, status, time.monotonic() - begun, written.read())


def _status_of(process: subprocess.Popen[bytes], written: TextIO) -> int:
    """Return the exit status of a check when it has ended, or been ended; what hangs is told in its file."""
    try:
        return process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        below = _below(process.pid)
        written.write(
            "\n".join(["", f"{process.args} has not ended after {LIMIT_S} s. Below it:", *map(_about, below)])
        )
        written.write("\n")
        written.flush()
        process.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STACKS_S)
        for each in (process, *below):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        return process.wait()
    except BaseException:
        process.kill()
        raise


def _below(pid: int) -> list[psutil.Process]:
    """Return the processes below one, each behind the one that has started it."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _about(process: psutil.Process) -> str:
    try:
        seconds = time.time() - process.create_time()
        return (
            f"  {process.pid} of {process.ppid()}, {process.status()}, {seconds:.0f} s: {' '.join(process.cmdline())}"
        )
    except psutil.Error as error:
        return f"  {process.pid}: {error!r}"


def main() -> int:
    """Run all checks, print their results, and return the exit status: 1 if one of them failed."""
    failed = []
    for result in results(checks_of(ROOT), 2 * num_cpus()):
        _say(str(result))
        failed += [result] if result.status else []
    for result in failed:
        _say(f"{result.in_short()}\n")
    _say(f"FAILED: {', '.join(result.name for result in failed)}" if failed else "All checks passed.")
    return 1 if failed else 0


def _say(text: str) -> None:
    # At once: `print` writes the end of a line apart, where another thread may come between.
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
