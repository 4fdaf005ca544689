"""Reading and decoding of record files: the input pipeline of TensorFlow 1, compared with TensorFlow's own.

    file names ──► read_up_to a batch of records, decode it ──► queue of batches ──► this process

On one core, the consumer itself reads and decodes, with its process bound to one CPU. Otherwise, worker processes do it
(threads in TensorFlow), and batches pass through the queue. TensorFlow runs in a separate process, see
`tensorflow_records`. If it is not installed together with mpqueue, the environment variable MPQUEUE_PEERS_PYTHON names
its interpreter.
"""

import dataclasses
import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import mpqueue
from mpqueue import python_io, train
from mpqueue.errors import CancelledError
from parts.benchmark.cells import ON_ONE_CORE, OURS
from parts.benchmark.workload import RATE, Figures, Setting, Workload
from parts.machine import CACHE

TENSORFLOW = ("TensorFlow queues", "tf.data")
_UNIT = "records/s"
WARM_UP_S = 0.5
_NUM_FILES, _NUM_FLOATS, _NUM_INTS, _NUM_TEXTS = 2, 12, 6, 2
_TABLE = ["float32"] * _NUM_FLOATS + ["int64"] * _NUM_INTS + ["string"] * _NUM_TEXTS
_IMAGE = {"image/class/label": "int64", "image/encoded": "string", "image/height": "int64", "image/width": "int64"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Records(Workload):
    """Records of one kind, read by mpqueue and by TensorFlow.

    Attributes:
        kind: Operation: "example" is parsed, "csv" and "raw" are decoded, "lines" and "records" are only read.
        write: Writes one file of records.
        batch: Number of records to read at once.
        features: Dtypes by name, of an example or of the columns of a line.
        record_bytes: Length of fixed-length records.
    """

    kind: str
    write: Callable[[Path, random.Random], None]
    batch: int = 1000
    features: Mapping[str, str] = dataclasses.field(default_factory=dict)
    record_bytes: int = 0

    @property
    def names(self) -> Collection[str]:
        """mpqueue, and two ways of TensorFlow, each with workers and on one core."""
        return [name + cores for name in (OURS, *TENSORFLOW) for cores in ("", ON_ONE_CORE)]

    def is_installed(self, name: str) -> bool:
        """Return whether a library can be measured."""
        return name.startswith(OURS) or python_with_tensorflow() is not None

    def figures(self, name: str, setting: Setting) -> Figures:
        """Return the records per second."""
        files = written(f"{self.kind} {self.about}", self.write)
        if name.startswith(OURS):
            rate = _rate_of_one_core if name.endswith(ON_ONE_CORE) else _rate_of_workers
            return {RATE: [rate(self, files, setting)]}
        python = python_with_tensorflow()
        assert python is not None
        wanted = {key: getattr(self, key) for key in ("kind", "batch", "record_bytes")} | {
            "features": {**self.features}
        }
        wanted |= {"name": name, "files": files, "seconds": setting.seconds, "threads": setting.num_workers}
        return {RATE: [answer(python, "tensorflow_records.py", wanted)]}


def written(name: str, write: Callable[[Path, random.Random], None]) -> list[str]:
    """Return the files of this name, written on first use, each with different random numbers."""
    folder = CACHE / "records"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name.replace(' ', '_')}_{index}" for index in range(_NUM_FILES)]
    for index, path in enumerate(paths):
        if not path.exists():
            part = path.with_suffix(".part")
            write(part, random.Random(index))
            part.rename(path)
    return [str(path) for path in paths]


def _rate_of_one_core(workload: Records, files: list[str], setting: Setting) -> float:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    names = mpqueue.train.FIFOQueue(-1, ["string"], [()])
    batches = _batches(workload, names)

    def take() -> Any:
        if not names.size():
            names.enqueue_many([files])
        return batches()

    return _count(take, setting.seconds)


def _rate_of_workers(workload: Records, files: list[str], setting: Setting) -> float:
    names = train.string_input_producer(files, shuffle=False)
    batches = _batches(workload, names)
    queue = mpqueue.train.FIFOQueue(4 * setting.num_workers, batches.dtypes)
    ops = [queue.enqueue_op(batches)] * setting.num_workers
    train.add_queue_runner(
        train.QueueRunner(queue, ops, queue_closed_exception_types=(CancelledError,), workers="process")
    )
    coord = train.Coordinator()
    mpqueue.train.start_queue_runners(coord=coord)
    with coord.stop_on_exception():
        rate = _count(lambda: _as_list(queue.dequeue()), setting.seconds)
    coord.request_stop()
    coord.join()
    return rate


def _as_list(batch: Any) -> list[Any]:
    return batch if isinstance(batch, list) else [batch]


def _count(take: Callable[[], list[Any]], seconds: float) -> float:
    def counted(duration: float) -> float:
        began, count = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < duration:
            count += len(take()[0])
        return count / passed

    counted(WARM_UP_S)
    return counted(seconds)


def _batches(workload: Records, names: mpqueue.train.QueueBase) -> mpqueue.train.Source:
    """Return an op that reads and decodes the next batch as a list of arrays."""
    reader: mpqueue.train.ReaderBase = mpqueue.train.TFRecordReader()
    if workload.kind in ("csv", "lines"):
        reader = mpqueue.train.TextLineReader()
    elif workload.kind == "raw":
        reader = mpqueue.train.FixedLengthRecordReader(workload.record_bytes)
    decode, dtypes = _decoder(workload)
    return reader.read_up_to_op(names, workload.batch).map(
        lambda records: decode(records[1]), dtypes=dtypes, shapes=[None] * len(dtypes)
    )


def _decoder(workload: Records) -> tuple[Callable[[Any], list[Any]], list[str]]:
    dtypes = list(workload.features.values())
    if workload.kind == "example":
        features = {key: mpqueue.train.FixedLenFeature([], dtype) for key, dtype in workload.features.items()}
        return lambda values: [*mpqueue.train.parse_example(values, features).values()], dtypes
    if workload.kind == "csv":
        required = [np.array([], object if dtype == "string" else dtype) for dtype in dtypes]
        return lambda values: mpqueue.train.decode_csv(values, required), dtypes
    if workload.kind == "raw":
        return lambda values: [mpqueue.train.decode_raw(values, np.uint8)], ["uint8"]
    return lambda values: [values], ["string"]


def python_with_tensorflow() -> str | None:
    """Return an interpreter that has TensorFlow, or None."""
    if importlib.util.find_spec("tensorflow") is not None:
        return sys.executable
    return os.environ.get("MPQUEUE_PEERS_PYTHON") or None


def answer(python: str, program: str, options: Any, environ: Mapping[str, str] = os.environ) -> float:
    """Return the number that a program of this folder prints, run by some interpreter.

    Raises:
        RuntimeError: The program failed; with the end of its output on stderr.
    """
    command = [python, str(Path(__file__).with_name(program)), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    if done.returncode:
        raise RuntimeError(f"{program} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])


def write_examples(count: int, features: Callable[[random.Random], dict[str, Any]]) -> Callable[..., None]:
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


def _image_features(rng: random.Random) -> dict[str, Any]:
    return {
        "image/class/label": rng.randint(1, 1000),
        "image/encoded": rng.randbytes(rng.randint(80_000, 120_000)),
        "image/filename": b"n%08d_%05d.JPEG" % (rng.randrange(10**8), rng.randrange(10**5)),
        "image/format": b"jpeg",
        "image/height": rng.randint(200, 600),
        "image/width": rng.randint(200, 600),
    }


def _table_features(rng: random.Random, *, alike: bool) -> dict[str, Any]:
    floats = [rng.random() for _ in range(_NUM_FLOATS)]
    ints = [rng.randint(0, 100 if alike else 10 ** rng.randint(1, 6)) for _ in range(_NUM_INTS)]
    texts = [b"abcd" if alike else b"x" * rng.randint(1, 12) for _ in range(_NUM_TEXTS)]
    return dict(zip(_columns(), [*floats, *ints, *texts], strict=True))


def _columns() -> Iterator[str]:
    return (f"feature_{number:02}" for number in range(len(_TABLE)))


def _write_lines(path: Path, rng: random.Random) -> None:
    with path.open("w") as file:
        for _ in range(20_000):
            row = _table_features(rng, alike=False).values()
            texts = [each.decode() if isinstance(each, bytes) else f"{each:.6g}" for each in row]
            file.write(",".join(texts) + "\n")


def _write_bytes(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(28 * 28 * 20_000))


_TABLE_FEATURES = dict(zip(_columns(), _TABLE, strict=True))
_IMAGES = write_examples(300, _image_features)
WORKLOADS = {
    "image records": Records(
        "examples with 100 KB of JPEG, 4 of 6 features parsed", _UNIT, kind="example", write=_IMAGES, batch=32,
        features=_IMAGE,
    ),
    "tabular records": Records(
        "examples of 20 features, all of one layout", _UNIT, kind="example", features=_TABLE_FEATURES,
        write=write_examples(20_000, lambda rng: _table_features(rng, alike=True)),
    ),
    "mixed records": Records(
        "examples of 20 features of any lengths", _UNIT, kind="example", features=_TABLE_FEATURES,
        write=write_examples(20_000, lambda rng: _table_features(rng, alike=False)),
    ),
    "csv": Records(
        "lines of 20 columns, decoded", _UNIT, kind="csv", write=_write_lines, features=_TABLE_FEATURES
    ),
    "lines": Records("the same lines, only read", _UNIT, kind="lines", write=_write_lines),
    "raw": Records("784 bytes of fixed length, decoded", _UNIT, kind="raw", write=_write_bytes, record_bytes=784),
    "large records": Records(
        "records of 100 KB, checksums verified, only read", "MB/s", 0.1, kind="records", write=_IMAGES, batch=32
    ),
}  # fmt: skip
