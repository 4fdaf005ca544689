"""The checks of ``scripts/test`` and of ``scripts/test --all``.

Without ``--all``, only the tests that need no framework run, except those marked ``slow`` or ``measures``. With
``--all``, the types, all tests and a minute of the soak run. Tests marked ``measures`` compare times or sizes. They run
at the end, alone.

Most folders of tests run in separate processes, so imports of one folder (frameworks with threads and hooks, Ray) do
not affect forks in another. Tests often wait for processes, so twice as many checks run at a time as there are CPUs.
The longest checks start first, so that none of them runs alone at the end.

Each check writes to its own file, because a pipe remains open until all processes of a check have exited. A
failed check does not stop the others. An interrupt reaches all checks in a terminal, and starts no further check.

pytest stops a test that hangs, but not an import or the exit of the interpreter. A check that runs longer than
`LIMIT_S` is therefore aborted: it prints the stacks of its threads, and its child processes are listed and killed. All
failures are printed again at the end of the log.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple, TextIO

import psutil

from parts.machine import ROOT, SCRIPTS, num_cpus

# Sorted by their time on two CPUs. All other folders take less time.
_LONGEST_FIRST = (
    "frameworks/torch", "backends", "cluster", "service", "docs", "dataset", "golden", "scripts", "frameworks/keras",
    "tf1/compat", "loader", "frameworks", "system", "samples", "tf1/queues", "model", "files", "memory",
    "tf1/coordination", "telemetry", "engine",
)  # fmt: skip
# Their folders run in separate processes, because the imports of one framework affect the others.
_FOLDERS_OF_FOLDERS = ("frameworks", "tf1")
# Short folders that import no framework. One process imports pytest, NumPy and the package for all of them.
_TOGETHER = (
    ("tf1/coordination", "tf1/images", "tf1/parsing", "tf1/readers", "tf1/train"),
    ("engine", "plan", "transport", "values"),
)

LIMIT_S = 3600  # the longest check takes 570 s on two busy CPUs, and several times as long next to busy loops
_STACKS_S = 10  # for a process that is aborted to print its stacks
_NAMED_BY_PYTEST = ("FAILED ", "ERROR ")
_LAST_LINES = 10
# Unused here, and each process would import them.
_WITHOUT_PLUGINS = ("-p", "no:xdist", "-p", "no:xdist.looponfail", "-p", "no:anyio")
_NO_TESTS = 5  # the exit status of pytest if it has run none
_COUNTED = ("failed", "error", "errors", "passed", "skipped")
# Of the tests without ``--all``, which a newcomer waits for. A test that exceeds a bound belongs to a sweep, see
# `helpers.sweeps`, or needs a cheaper way to show the same.
MOST = {"with processes": 1200, "long": 40}


class Check(NamedTuple):
    """A command and the name that is printed with its result.

    Attributes:
        name: The name.
        command: The command.
        may_be_empty: pytest may find that all tests of the check are left out or skipped.
    """

    name: str
    command: list[str]
    may_be_empty: bool = False


class Result(NamedTuple):
    """The result of a check: its name, exit status (0 if it passed), time in seconds, and output."""

    name: str
    status: int
    seconds: float
    output: str

    def __str__(self) -> str:
        """Return the output, followed by a line with the result."""
        return f"{self.output.rstrip()}\n{self.line()}\n"

    def line(self) -> str:
        """Return the result in one line."""
        word = "passed" if self.status == 0 else f"FAILED with status {self.status}"
        return f"=== {self.name}: {word} after {self.seconds:.0f} s"

    def in_short(self) -> str:
        """Return the lines with the failed tests, or the last lines of a command other than pytest."""
        lines = self.output.rstrip().splitlines()
        return "\n".join([line for line in lines if line.startswith(_NAMED_BY_PYTEST)] or lines[-_LAST_LINES:])

    def counts(self) -> Counter[str]:
        """Return the numbers in pytest's last line, such as the number of passed tests."""
        last = self.output.rstrip().rpartition("\n")[-1]
        return Counter({word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", last.partition(" in ")[0])})

    def costs(self) -> Counter[str]:
        """Return the numbers of tests that start processes, and of those with more than a second of CPU time."""
        found = re.findall(r"(\d+) ([a-z ]+)", "".join(re.findall(r"^costs: (.+)$", self.output, re.MULTILINE)))
        return Counter({what: int(number) for number, what in found})

    def reasons(self) -> Counter[str]:
        """Return the number of skipped tests and files for each reason that pytest names."""
        found: Counter[str] = Counter()
        for number, reason in re.findall(r"^SKIPPED \[(\d+)\] [^ ]+: (.+)$", self.output, re.MULTILINE):
            # The message of `pytest.importorskip`.
            found[re.sub(r"^could not import '([\w]+).*", r"\1 is not installed", reason)] += int(number)
        return found


def core_checks_of(root: Path) -> list[Check]:
    """Return the short checks that need no framework, the longest first."""
    return [
        _tests(paths, "not slow and not measures")._replace(may_be_empty=True)
        for paths in _longest_first(root / "tests")
    ]


def checks_of(root: Path) -> list[Check]:
    """Return all checks of a checkout except measurements, the longest first."""
    types = Check("types", [sys.executable, "-X", "faulthandler", "-m", "mypy"])
    pyright = Check("pyright", [sys.executable, "-m", "pyright", "--pythonpath", sys.executable])
    soak = Check("soak", [sys.executable, "-X", "faulthandler", str(SCRIPTS / "soak"), "--minutes", "1"])
    folders = [_tests(paths, "not measures") for paths in _longest_first(root / "tests")]
    # The types run early: tests of the stubs run mypy again, and are fast if its cache exists.
    return [types, pyright, *folders[: len(_LONGEST_FIRST)], soak, *folders[len(_LONGEST_FIRST) :]]


def measuring_checks_of(root: Path) -> list[Check]:
    """Return the measurements, which run alone."""
    files = [path for path in sorted((root / "tests").rglob("test_*.py")) if "mark.measures" in path.read_text("utf-8")]
    paths = [str(path.relative_to(root)) for path in files]
    return [_tests(paths, "measures")._replace(name="measures")] if paths else []


def _longest_first(tests: Path) -> list[list[str]]:
    """Return the paths of the tests for each pytest process."""
    found = _folders_of(tests)
    ranks = {name: rank for rank, name in enumerate(_LONGEST_FIRST)}
    return [found[name] for name in sorted(found, key=lambda name: (ranks.get(name, len(ranks)), name))]


def _folders_of(tests: Path) -> dict[str, list[str]]:
    """Return the paths of the tests for one process, by folder."""
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
    top = sorted(f"tests/{path.name}" for path in tests.glob("test_*.py"))
    for first, *others in _TOGETHER:
        if first in found:
            found[first] += [path for name in others for path in found.pop(name, ())]
    return found | ({"": top} if top else {})


def _tests(paths: list[str], marks: str) -> Check:
    pytest = [sys.executable, "-X", "faulthandler", "-m", "pytest", "-q", *_WITHOUT_PLUGINS]
    return Check(" ".join(paths), [*pytest, "-m", marks, *paths])


def results(checks: list[Check], at_a_time: int) -> Iterator[Result]:
    """Run checks, and yield the result of each when it ends."""
    with ThreadPoolExecutor(at_a_time) as pool:
        running = [pool.submit(_run, check) for check in checks]
        try:
            for done in as_completed(running):
                yield done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run(check: Check) -> Result:
    _say(f"=== {check.name}: started")
    begun = time.monotonic()
    # With a shared folder, pytest removes old folders of other checks, and fails if two do so at the same time.
    with (
        tempfile.TemporaryFile("w+", errors="replace") as written,
        tempfile.TemporaryDirectory(prefix="mpq-", ignore_cleanup_errors=True) as folder,
    ):
        with subprocess.Popen(
            check.command,
            cwd=ROOT,
            env=os.environ | {"PYTEST_DEBUG_TEMPROOT": folder},
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
        ) as process:
            status = _status_of(process, written)
        status = 0 if status == _NO_TESTS and check.may_be_empty else status
        written.seek(0)
        return Result(check.name, status, time.monotonic() - begun, written.read())


def _status_of(process: subprocess.Popen[bytes], written: TextIO) -> int:
    """Wait for a check and return its exit status; abort it and list its processes if it exceeds the limit."""
    try:
        return process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        below = _below(process.pid)
        written.write(
            "\n".join(["", f"{process.args} is still running after {LIMIT_S} s. Its descendants:", *map(_about, below)])
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
    """Return the descendants of a process, parents first."""
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


def main(arguments: list[str]) -> int:
    """Run the tests that need no framework, or with ``--all`` all checks; return 1 if one failed, otherwise 0."""
    begun = time.time() - float(os.environ.get("SET_UP_S", "0"))
    is_all = arguments == ["--all"]
    groups = [(checks_of(ROOT), 2 * num_cpus()), (measuring_checks_of(ROOT), 1)]
    found = []
    for checks, at_a_time in groups if is_all else [(core_checks_of(ROOT), 2 * num_cpus())]:
        for result in results(checks, at_a_time):
            _say(str(result) if is_all or result.status else result.line())
            found.append(result)
    for reason, count in sum((result.reasons() for result in found), Counter()).most_common():
        _say(f"skipped {count}: {reason}")
    costs = sum((result.costs() for result in found), Counter())
    _say(f"{costs['with processes']:,} tests start processes, {costs['long']} take more than a second of CPU time")
    bounds = {} if is_all else MOST
    exceeded = {what: most for what, most in bounds.items() if costs[what] > most}
    too_many = [f"{costs[what]:,} tests {what}, at most {most:,}" for what, most in exceeded.items()]
    failed = [result for result in found if result.status]
    for result in failed:
        _say(f"\n{result.in_short()}")
    if failed or too_many:
        _say(f"\nFAILED: {', '.join([*(result.name for result in failed), *too_many])}")
    counts = sum((result.counts() for result in found), Counter())
    words = [f"{counts[word]:,} {word}" for word in _COUNTED if counts[word]]
    minutes, seconds = divmod(round(time.time() - begun), 60)
    rest = "" if is_all else " Run everything (frameworks, docs, types, soak): scripts/test --all"
    _say(f"{', '.join(words) or 'No tests'} in {minutes}:{seconds:02}.{rest}")
    return 1 if failed or too_many else 0


def _say(text: str) -> None:
    # In one call: `print` writes the newline separately, and another thread may write in between.
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
