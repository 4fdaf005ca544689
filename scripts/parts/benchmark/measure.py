"""One measurement in a new process, so that no peer inherits another peer's memory or threads."""

import contextlib
import json
import os
import subprocess
import sys
from typing import NamedTuple

import psutil

from parts.benchmark.known import WORKLOADS
from parts.benchmark.quiet import MARK
from parts.benchmark.workload import Figures, Setting
from parts.machine import SCRIPTS

COMMAND = SCRIPTS / "benchmark.py"
DEADLOCK_S = 120.0


class Measurement(NamedTuple):
    """One measurement.

    Attributes:
        workload: Name of the workload.
        name: Name of the library.
        setting: Number of workers, and others.
    """

    workload: str
    name: str
    setting: Setting

    @classmethod
    def from_text(cls, text: str) -> "Measurement":
        """Return the measurement that `in_fresh_process` has passed to a program."""
        workload, name, setting = json.loads(text)
        return cls(workload, name, Setting(*setting))

    def in_fresh_process(self) -> Figures:
        """Measure in a new interpreter; return the result of `run`.

        Raises:
            RuntimeError: The measurement failed; with the output on stderr.
        """
        command = [sys.executable, str(COMMAND), "--measure", json.dumps(self)]
        running = subprocess.Popen(
            command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            out, errors = running.communicate(timeout=DEADLOCK_S)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{self} did not end within {DEADLOCK_S:g} s") from None
        finally:
            _end(running)
        if running.returncode:
            raise RuntimeError(f"{self} failed with exit status {running.returncode}:\n{errors}")
        figures: Figures = json.loads(out.splitlines()[-1])
        return figures

    def run(self) -> Figures:
        """Measure in this process."""
        return WORKLOADS[self.workload].figures(self.name, self.setting)

    def expected_s(self) -> float:
        """Return the duration on an idle machine. It only determines the duration of each count of batches."""
        return WORKLOADS[self.workload].extra_s + 1.5 * self.setting.seconds


def _environment() -> dict[str, str]:
    """Return an environment that compiles modules once, like an installation, even if a developer disabled that."""
    names = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return names | {MARK: str(os.getpid())}


def _end(running: subprocess.Popen[str]) -> None:
    """Kill the process and its descendants if it is running, because peers leak waiting workers."""
    if running.poll() is None:
        for process in psutil.Process(running.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        running.kill()
        running.communicate()
