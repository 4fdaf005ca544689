"""Runs of a program without interruption, and with kills. After a kill, the next part resumes from the last checkpoint.

Each part is a separate process that leads a session. It is started by a `Start`: a function that starts a new Python,
or a faster replacement.
"""

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from parts.machine import SCRIPTS
from parts.processes import comes_true
from parts.resumed import has_ended, kill_group, lines_of
from parts.trainers.entries import Entry
from parts.trainers.recording import SAVE_EVERY, Task
from parts.trainers.verdict import Record, Verdict, judge, worst

_DEADLINE_S = 900  # only ends hangs: under load, the imports of a trainer have taken minutes
_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "USE_TF": "0"}


class ProgramFailedError(Exception):
    """A program did not end as expected."""


# Starts a program with its task, with its output to a file, and returns a process like one of `subprocess`.
Start: TypeAlias = Callable[[Entry, Task, BinaryIO], Any]


def by_new_python(entry: Entry, task: Task, output: BinaryIO) -> "subprocess.Popen[bytes]":
    """Start a program as a user does; its output goes to a file."""
    return subprocess.Popen(
        [*entry.command(task.part), argument_of(task)],
        cwd=SCRIPTS,
        stdout=output,
        stderr=output,
        env=environment_of(entry),
        start_new_session=True,
    )


def argument_of(task: Task) -> str:
    """Return the argument of a program's command line."""
    return json.dumps(asdict(task))


def environment_of(entry: Entry) -> dict[str, str]:
    """Return the environment of a program."""
    return os.environ | _ENVIRONMENT | entry.environment


def run_parts(entry: Entry, feed: str, folder: Path, kills: list[int], start: Start) -> list[list[list[Record]]]:
    """Run a program, killed at given steps and resumed each time; return the records of the ranks of each part."""
    folder.mkdir(parents=True)
    return [
        _part(entry, Task(str(folder), part, entry.variant, feed), at, start) for part, at in enumerate([*kills, None])
    ]


def kills_of(steps: int, seed: int, number: int = 2) -> list[int]:
    """Return up to two random steps for kills. Each is after a checkpoint, and the second after the first."""
    numbers = random.Random(seed)
    first = numbers.randint(SAVE_EVERY + 2, steps // 2)
    return [first, numbers.randint(first + SAVE_EVERY, steps - 8)][:number]


def played(
    entry: Entry, feed: str, folder: Path, seeds: Iterable[int], number: int = 2, start: Start = by_new_python
) -> Iterator[Verdict]:
    """Run a program without kills, and with up to two kills for each seed; yield the differences."""
    (whole,) = run_parts(entry, feed, folder / "whole", [], start)
    for seed in seeds:
        kills = kills_of(len(whole[0]), seed, number)
        parts = run_parts(entry, feed, folder / f"killed-{seed}", kills, start)
        yield worst(judge(whole[rank], [part[rank] for part in parts]) for rank in range(len(whole)))


def _part(entry: Entry, task: Task, kill_at: int | None, start: Start) -> list[list[Record]]:
    """Run one part until it ends, or until a step. A program that hangs is ended, too."""
    folder = Path(task.folder)
    with (folder / f"output-{task.part}").open("wb") as output:
        process = start(entry, task, output)
        try:
            log = folder / f"steps-{task.part}-0"
            comes_true(
                lambda: process.poll() is not None or (kill_at is not None and _last_step(log) >= kill_at),
                _DEADLINE_S,
                pause_s=0.002,
            )
        finally:
            _kill(process, folder, task.part)
    ranks = sorted(folder.glob(f"steps-{task.part}-*"))
    if not ranks or (kill_at is None) != has_ended(ranks[0]):
        expected = "to its end" if kill_at is None else f"until it was killed at step {kill_at}"
        log = (folder / f"output-{task.part}").read_text("utf-8", "replace")[-3000:]
        raise ProgramFailedError(f"{entry.name} did not run {expected}. Its output:\n{log}")
    found = [[tuple(json.loads(line)) for line in lines_of(rank)] for rank in ranks]
    return [each for each in found if each]


def _last_step(log: Path) -> int:
    lines = lines_of(log)
    return int(json.loads(lines[-1])[0]) if lines else 0


def _kill(process: Any, folder: Path, part: int) -> None:
    """Kill a program and its ranks, which may have separate sessions."""
    ranks = [int(file.read_bytes().partition(b"\n")[0] or 0) for file in folder.glob(f"steps-{part}-*")]
    if process.poll() is None:
        for pid in ranks:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        kill_group(process.pid)
    process.wait()
