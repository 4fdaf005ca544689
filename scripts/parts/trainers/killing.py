"""A program run whole, and run with kills: each part is killed at a step, and the next goes on from what it saved."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from parts.machine import SCRIPTS
from parts.trainers.entries import Entry
from parts.trainers.recording import SAVE_EVERY, Task
from parts.trainers.verdict import Record, Verdict, judge

_DEADLINE_S = 240
_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "USE_TF": "0"}


class ProgramFailedError(Exception):
    """A program has ended otherwise than it was to."""


def run_whole(entry: Entry, feed: str, folder: Path, workers: int = 2) -> list[list[Record]]:
    """Run a program that nothing disturbs; return what its ranks did."""
    return _part(entry, Task(str(_made(folder)), 0, entry.variant, feed, workers), None)


def run_killed(entry: Entry, feed: str, folder: Path, kills: list[int], workers: int = 2) -> list[list[list[Record]]]:
    """Run a program that is killed at steps, and goes on each time; return what the ranks of each part did."""
    _made(folder)
    return [
        _part(entry, Task(str(folder), part, entry.variant, feed, workers), at)
        for part, at in enumerate([*kills, None])
    ]  # fmt: skip


def kills_of(steps: int, seed: int, number: int = 2) -> list[int]:
    """Return up to two steps to kill at, drawn at random: each behind a checkpoint, and the second behind the first."""
    numbers = random.Random(seed)
    first = numbers.randint(SAVE_EVERY + 2, steps // 2)
    return [first, numbers.randint(first + SAVE_EVERY, steps - 8)][:number]


def played(entry: Entry, feed: str, folder: Path, seeds: Iterable[int], number: int = 2) -> Iterator[Verdict]:
    """Run a program whole, and with up to two kills by each seed; give how these differ from the whole run."""
    whole = run_whole(entry, feed, folder / "whole")
    for seed in seeds:
        parts = run_killed(entry, feed, folder / f"killed-{seed}", kills_of(len(whole[0]), seed, number))
        yield _worst([judge(whole[rank], [part[rank] for part in parts]) for rank in range(len(whole))])


def _worst(verdicts: list[Verdict]) -> Verdict:
    return max(verdicts, key=lambda each: (each.losses, each.lost + each.twice, each.samples))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _part(entry: Entry, task: Task, kill_at: int | None) -> list[list[Record]]:
    """Run one part to its end, or until a step; a program that waits for ever is ended, too."""
    folder = Path(task.folder)
    with (folder / f"said-{task.part}").open("wb") as said:
        process = subprocess.Popen(
            [*entry.command(task.part), json.dumps(asdict(task))], cwd=SCRIPTS, stdout=said, stderr=said,
            env=os.environ | _ENVIRONMENT | entry.environment,
            start_new_session=True,
        )  # fmt: skip
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


def _wait(process: "subprocess.Popen[bytes]", folder: Path, part: int, kill_at: int | None) -> None:
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


def _kill(process: "subprocess.Popen[bytes]", folder: Path, part: int) -> None:
    """End a program and its ranks, which may have sessions of their own: by SIGKILL."""
    ranks = [int(file.read_bytes().partition(b"\n")[0] or 0) for file in folder.glob(f"steps-{part}-*")]
    if process.poll() is None:
        for pid in ranks:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
