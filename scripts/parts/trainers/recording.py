"""Common parts of the programs: their task, their data, their log, and their start.

``python -m parts.trainers.recording PROGRAM TASK`` runs one with a `Task` as JSON.

A program resumes from the checkpoints in its folder, like a program that a scheduler restarts. It writes one line for
each step, with a single system call, so that a kill cannot leave a partial line: the step, the bits of the loss, and
the numbers of the samples.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SAMPLES, BATCH, EPOCHS, SAVE_EVERY = 160, 8, 3, 7
PER_EPOCH = SAMPLES // BATCH  # steps
STEPS = PER_EPOCH * EPOCHS
STEP_S = 0.004  # so that a kill happens near its step


@dataclass(frozen=True)
class Task:
    """The task of a program.

    Attributes:
        folder: Folder of its log and its checkpoints.
        part: Number of times that it was resumed.
        variant: Variant of the program.
        feed: "mpqueue", or "own" for the trainer's usual loader.
        workers: Number of workers of the loader.
    """

    folder: str
    part: int
    variant: str
    feed: str
    workers: int = 2

    def is_fed_by_mpqueue(self) -> bool:
        """Return whether the loader is mpqueue's."""
        return self.feed == "mpqueue"


class Log:
    """The log of one process.

    Args:
        task: Task of the program.
        rank: Rank of the process.
    """

    def __init__(self, task: Task, rank: int = 0) -> None:
        name = os.path.join(task.folder, f"steps-{task.part}-{rank}")
        self._file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def step(self, number: int, loss: float, samples: Iterable[int]) -> None:
        """Log a step; the first one is 1."""
        line = [number, float(loss).hex(), [int(sample) for sample in samples]]
        os.write(self._file, json.dumps(line).encode() + b"\n")
        time.sleep(STEP_S)

    def end(self) -> None:
        """Log the end of the training."""
        os.write(self._file, b"end\n")


def write_whole(file: str, write: Any) -> None:
    """Write a file with ``write(name)`` under a temporary name, and rename it when it is complete."""
    write(file + ".unfinished")
    os.rename(file + ".unfinished", file)


if __name__ == "__main__":
    importlib.import_module(f"parts.trainers.{sys.argv[1]}").main(Task(**json.loads(sys.argv[2])))
