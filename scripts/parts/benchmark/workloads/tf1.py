"""TensorFlow 1 scripts, run by mpqueue in worker processes and in threads, and by TensorFlow with its queues.

    file names ──► read a record or many, decode them ──► queue of examples or batches ──► this process

The environment variable MPQUEUE_PEERS_PYTHON names an interpreter that has TensorFlow, if this one has not.
"""

import dataclasses
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mpqueue import python_io, train
from parts.benchmark.cells import OURS
from parts.benchmark.workload import RATE, Figures, Library, Setting, Workload
from parts.benchmark.workloads.tf1_scripts import NUM_COLUMNS, RAW_BYTES, RECORD_BYTES, SIDE, TABLE
from parts.machine import CACHE, written
from parts.photographs.dataset import photo_files

IN_THREADS, QUEUES = "mpqueue in threads", "TensorFlow queues"
_NUM_FILES = 2
_PEERS_PYTHON = os.environ.get("MPQUEUE_PEERS_PYTHON", "")
_READERS = {
    OURS: Library(None),
    IN_THREADS: Library(None),
    QUEUES: Library(None, "" if _PEERS_PYTHON else "tensorflow"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Script(Workload):
    """One script.

    Attributes:
        script: Name in `tf1_scripts`.
        write: Writes one file; None for the photographs.
    """

    readers: Mapping[str, Library] = dataclasses.field(default_factory=lambda: _READERS)
    script: str
    write: Callable[[Path, random.Random], None] | None

    def figures(self, name: str, setting: Setting) -> Figures:
        """Return the examples per second.

        Raises:
            RuntimeError: The script failed; with the end of its output on stderr.
        """
        python = _PEERS_PYTHON if name == QUEUES and _PEERS_PYTHON else sys.executable
        # Photographs of all classes; the command line has a length limit.
        files = _written(self.about, self.write) if self.write else list(photo_files()[0].paths[::8])
        module = "tensorflow.compat.v1" if name == QUEUES else "mpqueue.compat.v1"
        options = {"module": module, "script": self.script, "files": files}
        options |= {"workers": setting.num_workers, "seconds": setting.seconds}
        variables = os.environ | {"MPQUEUE_WORKERS": "process" if name == OURS else "thread"}
        command = [python, str(Path(__file__).with_name("tf1_scripts.py")), json.dumps(options)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
        if done.returncode:
            raise RuntimeError(f"{self.script} failed:\n{done.stderr[-2000:]}")
        return {RATE: [float(done.stdout.splitlines()[-1])]}


def _written(name: str, write: Callable[[Path, random.Random], None]) -> list[str]:
    """Return the files of this name, written on first use, each with different random numbers."""
    return [
        str(
            written(CACHE / "records" / f"{name.replace(' ', '_')}_{number}", partial(write, rng=random.Random(number)))
        )
        for number in range(_NUM_FILES)
    ]


def _examples(count: int, features: Callable[[random.Random], dict[str, Any]]) -> Callable[..., None]:
    """Return a function that writes a file of examples with random features."""

    def write(path: Path, rng: random.Random) -> None:
        with python_io.TFRecordWriter(path) as writer:
            for _ in range(count):
                writer.write(_example(features(rng)))

    return write


def _example(features: dict[str, Any]) -> bytes:
    example = train.Example()
    for key, value in features.items():
        feature = example.features.feature[key]
        values = (feature.bytes_list, feature.float_list, feature.int64_list)
        values[(bytes, float, int).index(type(value))].value.append(value)
    return example.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


def _large_image(rng: random.Random) -> dict[str, Any]:
    return {
        "image/class/label": rng.randint(1, 1000),
        "image/encoded": rng.randbytes(rng.randint(80_000, 120_000)),
        "image/filename": b"n%08d_%05d.JPEG" % (rng.randrange(10**8), rng.randrange(10**5)),
        "image/format": b"jpeg",
        "image/height": rng.randint(200, 600),
        "image/width": rng.randint(200, 600),
    }


def _row(rng: random.Random, *, alike: bool) -> dict[str, Any]:
    random_values: dict[str, Callable[[], Any]] = {
        "float32": rng.random,
        "int64": lambda: rng.randint(0, 100 if alike else 10 ** rng.randint(1, 6)),
        "string": lambda: b"abcd" if alike else b"x" * rng.randint(1, 12),
    }
    return {name: random_values[dtype]() for name, dtype in TABLE.items()}


def _numbers(rng: random.Random) -> dict[str, Any]:
    numbers: dict[str, Any] = {f"x{n}": rng.random() for n in range(12)}
    return numbers | {"index": rng.randrange(8), "label": rng.randrange(2)}


def _small_image(rng: random.Random) -> dict[str, Any]:
    return {"image": rng.randbytes(3 * SIDE * SIDE), "label": rng.randrange(10)}


def _write_lines(path: Path, rng: random.Random, *, values: Callable[[random.Random], Iterable[Any]]) -> None:
    with path.open("w") as file:
        for _ in range(20_000):
            file.write(",".join(_text_of(value) for value in values(rng)) + "\n")


def _text_of(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else f"{value:.6g}"


def _columns(rng: random.Random) -> list[Any]:
    return [*(rng.random() for _ in range(NUM_COLUMNS)), rng.randrange(10)]


def _write_bytes(path: Path, rng: random.Random, *, size: int) -> None:
    path.write_bytes(rng.randbytes(size))


def _script(about: str, script: str, write: Any, unit: str = "records/s", per_batch: float = 1) -> Script:
    return Script(about, unit, per_batch, script=script, write=write)


_IMAGES, _UNIT = _examples(300, _large_image), "examples/s"
_ALIKE, _MIXED = (_examples(20_000, partial(_row, alike=alike)) for alike in (True, False))
_RAW, _FIXED = (partial(_write_bytes, size=size) for size in (RAW_BYTES * 20_000, RECORD_BYTES * 5_000))
_NUMBERS, _SMALL_IMAGES = _examples(20_000, _numbers), _examples(5_000, _small_image)
_TABLE = partial(_write_lines, values=lambda rng: _row(rng, alike=False).values())
_COLUMNS = partial(_write_lines, values=_columns)
WORKLOADS = {
    "image records": _script("examples with 100 KB of JPEG, 4 of 6 features parsed", "image_records", _IMAGES),
    "tabular records": _script("examples of 20 features, all of one layout", "table_records", _ALIKE),
    "mixed records": _script("examples of 20 features of any lengths", "table_records", _MIXED),
    "csv": _script("lines of 20 columns, decoded", "table_lines", _TABLE),
    "lines": _script("the same lines, only read", "lines", _TABLE),
    "raw": _script("784 bytes of fixed length, decoded", "raw", _RAW),
    "large records": _script("records of 100 KB, checksums verified, only read", "large_records", _IMAGES, "MB/s", 0.1),
    "tf1 csv": _script("lines of 11 columns, decoded and shuffled", "csv", _COLUMNS, _UNIT),
    "tf1 tabular": _script("records of 14 features, parsed", "tabular", _NUMBERS, _UNIT),
    "tf1 image": _script("records of an image of 3 KB, cast", "image", _SMALL_IMAGES, _UNIT),
    "tf1 jpeg": _script("files of one JPEG each, decoded and resized", "jpeg", None, _UNIT),
    "tf1 fixed": _script("records of 3,073 bytes, cut, turned and cast", "fixed", _FIXED, _UNIT),
}
