"""TensorFlow 1 scripts, run by mpqueue in worker processes and in threads, and by TensorFlow with its queues."""

import dataclasses
import os
import random
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from parts.benchmark.cells import OURS
from parts.benchmark.workload import RATE, Figures, Setting, Workload
from parts.benchmark.workloads.records import answer, python_with_tensorflow, write_examples, written
from parts.benchmark.workloads.tf1_scripts import NUM_COLUMNS, RECORD_BYTES, SIDE
from parts.photographs.dataset import photo_files

IN_THREADS, QUEUES = "mpqueue in threads", "TensorFlow queues"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Script(Workload):
    """One script.

    Attributes:
        script: Name in `tf1_scripts`.
        write: Writes one file; None for the photographs.
    """

    script: str
    write: Callable[[Path, random.Random], None] | None

    @property
    def names(self) -> Collection[str]:
        """The libraries: mpqueue in processes and in threads, and TensorFlow."""
        return [OURS, IN_THREADS, QUEUES]

    def is_installed(self, name: str) -> bool:
        """Return whether a library can run the script."""
        return name != QUEUES or python_with_tensorflow() is not None

    def figures(self, name: str, setting: Setting) -> Figures:
        """Return the examples per second."""
        python = python_with_tensorflow() if name == QUEUES else sys.executable
        assert python is not None
        # Photographs of all classes; the command line has a length limit.
        files = written(f"tf1 {self.script}", self.write) if self.write else list(photo_files()[0].paths[::8])
        module = "tensorflow.compat.v1" if name == QUEUES else "mpqueue.compat.v1"
        options = {"module": module, "script": self.script, "files": files}
        options |= {"workers": setting.num_workers, "seconds": setting.seconds}
        variables = os.environ | {"MPQUEUE_WORKERS": "process" if name == OURS else "thread"}
        return {RATE: [answer(python, "tf1_scripts.py", options, variables)]}


def _write_lines(path: Path, rng: random.Random) -> None:
    with path.open("w") as file:
        for _ in range(20_000):
            numbers = ",".join(f"{rng.random():.6g}" for _ in range(NUM_COLUMNS))
            file.write(f"{numbers},{rng.randrange(10)}\n")


def _table(rng: random.Random) -> dict[str, Any]:
    numbers: dict[str, Any] = {f"x{n}": rng.random() for n in range(12)}
    return numbers | {"index": rng.randrange(8), "label": rng.randrange(2)}


def _picture(rng: random.Random) -> dict[str, Any]:
    return {"image": rng.randbytes(3 * SIDE * SIDE), "label": rng.randrange(10)}


def _write_bytes(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(RECORD_BYTES * 5_000))


_UNIT = "examples/s"
WORKLOADS = {
    "tf1 csv": Script("lines of 11 columns, decoded and shuffled", _UNIT, script="csv", write=_write_lines),
    "tf1 tabular": Script(
        "records of 14 features, parsed", _UNIT, script="tabular", write=write_examples(20_000, _table)
    ),
    "tf1 image": Script(
        "records of an image of 3 KB, cast", _UNIT, script="image", write=write_examples(5_000, _picture)
    ),
    "tf1 jpeg": Script("files of one JPEG each, decoded and resized", _UNIT, script="jpeg", write=None),
    "tf1 fixed": Script("records of 3,073 bytes, cut, turned and cast", _UNIT, script="fixed", write=_write_bytes),
}
