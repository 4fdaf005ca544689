"""The ranks of one part of a run: trainers that are started together, watched, and killed together.

They and their child processes are one process group, so SIGKILL reaches them at the same time.
"""

import contextlib
import dataclasses
import json
import math
import os
import re
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from parts.gauntlet.peers import Entry
from parts.gauntlet.pipeline import Setup
from parts.gauntlet.trainer import Task
from parts.gauntlet.verdict import Batch
from parts.machine import SCRIPTS
from parts.resumed import has_ended, kill_group, lines_of

SILENT_S = 240.0  # without a batch or an end of any rank: a hang
_POLL_S = 0.005
_END_S = 20.0  # for a trainer that has received all batches, to exit


class ResumeError(Exception):
    """A peer failed to resume; the message is its own."""


class Ranks(contextlib.AbstractContextManager):
    """Running trainers, which are killed at the end of the context.

    Args:
        entry: The library that loads their data.
        setups: One for each rank.
        folder: Parent of the ranks' folders; must not exist.
        states: Files of the states of all ranks to resume from.
        save_every: Number of batches between two states.
        slow_from: Number of the batch that starts the slow phase.
    """

    def __init__(
        self, entry: Entry, setups: Sequence[Setup], folder: Path, states: list[Path] | None = None,
        save_every: int = 16, slow_from: int = -1,
    ) -> None:  # fmt: skip
        self.folders = [folder / str(setup.rank) for setup in setups]
        self._trainers: list[subprocess.Popen[bytes]] = []
        port = _free_port()
        try:
            for setup, own in zip(setups, self.folders, strict=True):
                own.mkdir(parents=True)
                files = None if states is None else [str(file) for file in states]
                fields = dataclasses.asdict(setup)
                task = Task(entry.module, entry.feed, str(own), fields, files, save_every, slow_from)
                self._start(entry, task, _surroundings(setup, port), own)
        except BaseException:
            self.__exit__()
            raise

    def _start(self, entry: Entry, task: Task, surroundings: dict[str, str], own: Path) -> None:
        command = [entry.python, "-m", "parts.gauntlet.trainer", json.dumps(dataclasses.asdict(task))]
        group = self._trainers[0].pid if self._trainers else 0
        with (own / "output").open("wb") as output:
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            started = subprocess.Popen(command, cwd=own, env=surroundings, process_group=group, **streams)
        self._trainers.append(started)

    def batches(self) -> list[list[Batch]]:
        """Return the batches of each rank."""
        return [[json.loads(line) for line in lines_of(own / "batches")] for own in self.folders]

    def wait(self, count: float = math.inf) -> None:
        """Wait until each rank has received ``count`` batches, or all batches and its process has exited.

        Raises:
            ResumeError: A rank failed, or makes no progress.
        """
        seen, since = -1, time.monotonic()
        while not all(_count(own) >= count or has_ended(own / "batches") for own in self.folders):
            for own, trainer in zip(self.folders, self._trainers, strict=True):
                if trainer.poll() is not None and not has_ended(own / "batches"):
                    raise ResumeError(_words(own, trainer.returncode))
            if (now := sum(map(_count, self.folders))) != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > SILENT_S:
                raise ResumeError(f"(no batch within {SILENT_S:g} s)")
            time.sleep(_POLL_S)
        for trainer in self._trainers if math.isinf(count) else ():
            with contextlib.suppress(subprocess.TimeoutExpired):  # its results are complete
                trainer.wait(_END_S)

    def __exit__(self, *_: object) -> None:
        """Kill the process group."""
        if self._trainers:
            kill_group(self._trainers[0].pid)
        for trainer in self._trainers:
            trainer.wait()

    def last_states(self) -> tuple[int, list[Path]]:
        """Return the latest number of batches with states of all ranks, and the files; 0 and [] without such states."""
        saved = [{int(file.name[6:]) for file in own.glob("state-*") if file.suffix == ""} for own in self.folders]
        step = max(set.intersection(*saved), default=0)
        return step, [own / f"state-{step}" for own in self.folders] if step else []

    def first_seconds(self) -> float:
        """Return the seconds to the first batch of the slowest rank."""
        return max(float((own / "first").read_text("ascii")) for own in self.folders)


def _count(own: Path) -> int:
    """Return the number of batches. This is polled while the ranks run, so the batches are not parsed."""
    with contextlib.suppress(FileNotFoundError):
        return (own / "batches").read_bytes().count(b"]\n")
    return 0


def _words(own: Path, status: int) -> str:
    """Return the reason of a rank's end: its exception, or its last line of output."""
    with contextlib.suppress(FileNotFoundError):
        return " ".join((own / "error").read_text("utf-8").split())
    output = (own / "output").read_text("utf-8", "replace").strip().splitlines()
    return f"(exit status {status}) {output[-1] if output else ''}"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _surroundings(setup: Setup, port: int) -> dict[str, str]:
    """Return the environment of a rank: the variables of torchrun, and variables that prevent network access."""
    mine = {name: value for name, value in os.environ.items() if not re.fullmatch("(LOCAL_)?(RANK|WORLD_SIZE)", name)}
    mine |= {"PYTHONPATH": str(SCRIPTS), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}
    if setup.world > 1:
        mine |= {"RANK": str(setup.rank), "LOCAL_RANK": str(setup.rank)}
        mine |= {"WORLD_SIZE": str(setup.world), "LOCAL_WORLD_SIZE": str(setup.world)}
        mine |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return mine
