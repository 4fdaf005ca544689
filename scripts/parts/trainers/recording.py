"""Common parts of the programs: their task, their data, and the lines that they write down.

A program is started by ``python -m parts.trainers.PROGRAM`` and a `Task` as JSON. It goes on from what it finds in its
folder, as a program that a scheduler starts again. For each step it writes one line, by a single call, so that a kill
leaves whole lines: the step, the bits of the loss, and the numbers of the samples.
"""

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SAMPLES, BATCH, EPOCHS, SAVE_EVERY = 160, 8, 3, 7
STEPS = SAMPLES // BATCH * EPOCHS
STEP_S = 0.004  # so that a kill comes near its step


@dataclass(frozen=True)
class Task:
    """The task of a program.

    Attributes:
        folder: Where it writes, and where its checkpoints are.
        part: How often it was resumed.
        variant: Of the program.
        feed: "mpqueue", or "own": what the trainer has without it.
        workers: Of the loader.
    """

    folder: str
    part: int
    variant: str
    feed: str
    workers: int = 2

    @classmethod
    def given(cls) -> "Task":
        """Read it from the command line."""
        return cls(**json.loads(sys.argv[1]))

    def is_fed_by_mpqueue(self) -> bool:
        """Return whether mpqueue feeds the trainer."""
        return self.feed == "mpqueue"


class Log:
    """The lines of one process.

    Args:
        task: Of the program.
        rank: Of the process.
    """

    def __init__(self, task: Task, rank: int = 0) -> None:
        name = os.path.join(task.folder, f"steps-{task.part}-{rank}")
        self._file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def step(self, number: int, loss: float, samples: Iterable[int]) -> None:
        """Write down a step, the first of which is 1."""
        line = [number, float(loss).hex(), [int(sample) for sample in samples]]
        os.write(self._file, json.dumps(line).encode() + b"\n")
        time.sleep(STEP_S)

    def end(self) -> None:
        """Write down that all was trained."""
        os.write(self._file, b"end\n")


def write_whole(file: str, write: Any) -> None:
    """Have ``write(name)`` write a file under another name, and rename it when it is whole."""
    write(file + ".unfinished")
    os.rename(file + ".unfinished", file)
