"""A program run whole, and run with kills: each part is killed at a step, and the next goes on from what it saved.

Each part is a process of its own, which leads a session, and is started by a `Start`: by a new Python, or by whoever
has a quicker way.
"""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

from parts.machine import SCRIPTS
from parts.trainers.entries import Entry
from parts.trainers.recording import SAVE_EVERY, Task
from parts.trainers.verdict import Record, Verdict, judge

_DEADLINE_S = 900  # ends only what waits for ever: beside other work, the imports of a trainer have taken minutes
_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "USE_TF": "0"}


class ProgramFailedError(Exception):
    """A program has ended otherwise than it was to."""


class Process(Protocol):
    """A process that was started, with what is used of `subprocess.Popen`."""

    pid: int

    def poll(self) -> int | None:
        """Return how it ended, or None."""

    def wait(self) -> int:
        """Wait for its end, and return how it ended."""


Start: TypeAlias = Callable[[Entry, Task, BinaryIO], Process]


def by_new_python(entry: Entry, task: Task, said: BinaryIO) -> "subprocess.Popen[bytes]":
    """Start a program as a user does; what it says goes to a file."""
    return subprocess.Popen(
        [*entry.command(task.part), argument_of(task)], cwd=SCRIPTS, stdout=said, stderr=said,
        env=environment_of(entry), start_new_session=True,
    )  # fmt: skip


def argument_of(task: Task) -> str:
    """Return the argument of a program's command line."""
    return json.dumps(asdict(task))


def environment_of(entry: Entry) -> dict[str, str]:
    """Return the environment of a program."""
    return os.environ | _ENVIRONMENT | entry.environment


def run_whole(entry: Entry, feed: str, folder: Path, start: Start = by_new_python) -> list[list[Record]]:
    """Run a program that nothing disturbs; return what its ranks did."""
    return _part(entry, Task(str(_made(folder)), 0, entry.variant, feed), None, start)


def run_killed(
    entry: Entry, feed: str, folder: Path, kills: list[int], start: Start = by_new_python
) -> list[list[list[Record]]]:
    """Run a program that is killed at steps, and goes on each time; return what the ranks of each part did."""
    _made(folder)
    return [
        _part(entry, Task(str(folder), part, entry.variant, feed), at, start)
        for part, at in enumerate([*kills, None])
    ]  # fmt: skip


def kills_of(steps: int, seed: int, number: int = 2) -> list[int]:
    """Return up to two steps to kill at, drawn at random: each behind a checkpoint, and the second behind the first."""
    numbers = random.Random(seed)
    first = numbers.randint(SAVE_EVERY + 2, steps // 2)
    return [first, numbers.randint(first + SAVE_EVERY, steps - 8)][:number]


def played(
    entry: Entry, feed: str, folder: Path, seeds: Iterable[int], number: int = 2, start: Start = by_new_python
) -> Iterator[Verdict]:
    """Run a program whole, and with up to two kills by each seed; give how these differ from the whole run."""
    whole = run_whole(entry, feed, folder / "whole", start=start)
    for seed in seeds:
        kills = kills_of(len(whole[0]), seed, number)
        parts = run_killed(entry, feed, folder / f"killed-{seed}", kills, start=start)
        yield _worst([judge(whole[rank], [part[rank] for part in parts]) for rank in range(len(whole))])


def _worst(verdicts: list[Verdict]) -> Verdict:
    return max(verdicts, key=lambda each: (each.losses, each.lost + each.twice, each.samples))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _part(entry: Entry, task: Task, kill_at: int | None, start: Start) -> list[list[Record]]:
    """Run one part to its end, or until a step; a program that waits for ever is ended, too."""
    folder = Path(task.folder)
    with (folder / f"said-{task.part}").open("wb") as said:
        process = start(entry, task, said)
        try:
            _wait(process, folder, task.part, kill_at)
        finally:
            _kill(process, folder, task.part)
    ranks = sorted(folder.glob(f"steps-{task.part}-*"))
    lines = [file.read_text("utf-8").splitlines()[1:] for file in ranks]
    if not lines or (kill_at is None) != (lines[0][-1:] == ["end"]):
        wanted = "to its end" if kill_at is None else f"until it was killed at step {kill_at}"
        told = (folder / f"said-{task.part}").read_text("utf-8", "replace")[-3000:]
        raise ProgramFailedError(f"{entry.name} did not run {wanted}. It said:\n{told}")
    found = [[tuple(json.loads(line)) for line in each if line != "end"] for each in lines]
    return [each for each in found if each]


def _wait(process: Process, folder: Path, part: int, kill_at: int | None) -> None:
    began = time.monotonic()
    while process.poll() is None and time.monotonic() < began + _DEADLINE_S:
        if kill_at is not None and _last_step(folder / f"steps-{part}-0") >= kill_at:
            return
        time.sleep(0.002)


def _last_step(file: Path) -> int:
    try:
        last = file.read_bytes().rpartition(b"\n")[0].rpartition(b"\n")[2]
    except FileNotFoundError:
        return 0
    return int(json.loads(last)[0]) if last.startswith(b"[") else 0


def _kill(process: Process, folder: Path, part: int) -> None:
    """End a program and its ranks, which may have sessions of their own: by SIGKILL."""
    ranks = [int(file.read_bytes().partition(b"\n")[0] or 0) for file in folder.glob(f"steps-{part}-*")]
    if process.poll() is None:
        for pid in ranks:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
