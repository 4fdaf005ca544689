"""TensorFlow 1 scripts, run by mpqueue in worker processes and in threads, and by TensorFlow with its queues."""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from parts.benchmark.cells import OURS
from parts.benchmark.records import answer, python_with_tensorflow, write_examples, written
from parts.benchmark.tf1_scripts import NUM_COLUMNS, RECORD_BYTES, SCRIPTS, SIDE
from parts.photographs.dataset import photo_files

IN_THREADS, QUEUES = "mpqueue in threads", "TensorFlow queues"
GROUP = "tf1 pipelines"


class Tf1Workload(NamedTuple):
    """One script.

    Attributes:
        about: Description of its input.
        script: Name in `tf1_scripts`.
        write: Writes one file; None for the photographs.
        peers: Libraries that run it.
        unit: Unit of the rate.
        per_batch: Amount of the unit per count.
    """

    about: str
    script: str
    write: Callable[[Path, random.Random], None] | None
    peers: tuple[str, ...] = (OURS, IN_THREADS, QUEUES)
    unit: str = "examples/s"
    per_batch: float = 1.0


def tf1_rate(name: str, peer: str, num_workers: int, seconds: float) -> float:
    """Return examples per second."""
    python = python_with_tensorflow() if peer == QUEUES else sys.executable
    assert python is not None
    module = "tensorflow.compat.v1" if peer == QUEUES else "mpqueue.compat.v1"
    options = {"module": module, "script": TF1[name].script, "files": _files_of(name)}
    options |= {"workers": num_workers, "seconds": seconds}
    variables = os.environ | {"MPQUEUE_WORKERS": "process" if peer == OURS else "thread"}
    return answer(python, "tf1_scripts.py", options, f"{peer} failed on {name}", variables)  # type: ignore[no-any-return]


def tf1_peers() -> list[str]:
    """Return the libraries that can run the scripts; TensorFlow only if it is installed."""
    return [OURS, IN_THREADS, *([QUEUES] if python_with_tensorflow() else [])]


def _files_of(name: str) -> list[str]:
    write = TF1[name].write
    if write is None:
        return list(photo_files()[0].paths[::8])  # of all classes; the command line has a length limit
    return written(name, write)


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


TF1 = {
    "tf1 csv": Tf1Workload("lines of 11 columns, decoded and shuffled", "csv", _write_lines),
    "tf1 tabular": Tf1Workload("records of 14 features, parsed", "tabular", write_examples(20_000, _table)),
    "tf1 image": Tf1Workload("records of an image of 3 KB, cast", "image", write_examples(5_000, _picture)),
    "tf1 jpeg": Tf1Workload("files of one JPEG each, decoded and resized", "jpeg", None),
    "tf1 fixed": Tf1Workload("records of 3,073 bytes, cut, turned and cast", "fixed", _write_bytes),
}
assert {each.script for each in TF1.values()} == set(SCRIPTS)
