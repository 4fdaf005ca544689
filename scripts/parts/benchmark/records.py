"""Reading and decoding of record files: the input pipeline of TensorFlow 1, compared with TensorFlow's own.

    file names ──► read_up_to a batch of records, decode it ──► queue of batches ──► this process

On one core, the consumer itself reads and decodes, with its process bound to one CPU. Otherwise, worker processes do it
(threads in TensorFlow), and batches pass through the queue. TensorFlow runs in a separate process, see
`tensorflow_records`. If it is not installed together with mpqueue, the environment variable MPQUEUE_PEERS_PYTHON names
its interpreter.
"""

import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import mpqueue
from mpqueue import python_io, train
from mpqueue.errors import CancelledError
from parts.benchmark.cells import ON_ONE_CORE, OURS
from parts.machine import CACHE

TENSORFLOW = "TensorFlow"
WARM_UP_S = 0.5
_NUM_FILES, _NUM_FLOATS, _NUM_INTS, _NUM_TEXTS = 2, 12, 6, 2
_TABLE = ["float32"] * _NUM_FLOATS + ["int64"] * _NUM_INTS + ["string"] * _NUM_TEXTS
_IMAGE = {"image/class/label": "int64", "image/encoded": "string", "image/height": "int64", "image/width": "int64"}


class RecordWorkload(NamedTuple):
    """Records of one kind.

    Attributes:
        about: Description of the records.
        kind: Operation: "example" is parsed, "csv" and "raw" are decoded, "lines" and "records" are only read.
        batch: Number of records to read at once.
        write: Writes one file of records.
        features: Dtypes by name, of an example or of the columns of a line.
        record_bytes: Length of fixed-length records.
        unit: Unit of the rate,
        per_batch: and its amount per record.
    """

    about: str
    kind: str
    batch: int
    write: Callable[[Path, random.Random], None]
    features: Mapping[str, str] = MappingProxyType({})
    record_bytes: int = 0
    unit: str = "records/s"
    per_batch: float = 1.0


def files_of(name: str) -> list[str]:
    """Return the files of a workload, written on first use."""
    return written(name, RECORDS[name].write)


def written(name: str, write: Callable[[Path, random.Random], None]) -> list[str]:
    """Return the files of this name, written on first use, each with different random numbers."""
    folder = CACHE / "records"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name.replace(' ', '_')}_{number}" for number in range(_NUM_FILES)]
    for number, path in enumerate(paths):
        if not path.exists():
            part = path.with_suffix(".part")
            write(part, random.Random(number))
            part.rename(path)
    return [str(path) for path in paths]


def readers() -> list[str]:
    """Return the names of the readers; TensorFlow's only if it is installed."""
    return [OURS, OURS + ON_ONE_CORE, *([TENSORFLOW] if python_with_tensorflow() else [])]


def record_rate(name: str, peer: str, num_workers: int, seconds: float) -> dict[str, float]:
    """Return records per second, by reader and method."""
    if peer == TENSORFLOW:
        return _tensorflow_rates(name, num_workers, seconds)
    if peer == OURS:
        return {peer: _rate_of_workers(name, num_workers, seconds)}
    return {peer: _rate_of_one_core(name, seconds)}


def _rate_of_one_core(name: str, seconds: float) -> float:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    names = mpqueue.train.FIFOQueue(-1, ["string"], [()])
    batches = _batches(name, names)

    def take() -> Any:
        if not names.size():
            names.enqueue_many([files_of(name)])
        return batches()

    return _count(take, seconds)


def _rate_of_workers(name: str, num_workers: int, seconds: float) -> float:
    names = train.string_input_producer(files_of(name), shuffle=False)
    batches = _batches(name, names)
    queue = mpqueue.train.FIFOQueue(4 * num_workers, batches.dtypes)
    ops = [queue.enqueue_op(batches)] * num_workers
    train.add_queue_runner(
        train.QueueRunner(queue, ops, queue_closed_exception_types=(CancelledError,), workers="process")
    )
    coord = train.Coordinator()
    mpqueue.train.start_queue_runners(coord=coord)
    with coord.stop_on_exception():
        rate = _count(lambda: _as_list(queue.dequeue()), seconds)
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


def _batches(name: str, names: mpqueue.train.QueueBase) -> mpqueue.train.Source:
    """Return an op that reads and decodes the next batch as a list of arrays."""
    workload = RECORDS[name]
    reader: mpqueue.train.ReaderBase = mpqueue.train.TFRecordReader()
    if workload.kind in ("csv", "lines"):
        reader = mpqueue.train.TextLineReader()
    elif workload.kind == "raw":
        reader = mpqueue.train.FixedLengthRecordReader(workload.record_bytes)
    decode, dtypes = _decoder(workload)
    return reader.read_up_to_op(names, workload.batch).map(
        lambda records: decode(records[1]), dtypes=dtypes, shapes=[None] * len(dtypes)
    )


def _decoder(workload: RecordWorkload) -> tuple[Callable[[Any], list[Any]], list[str]]:
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


# TensorFlow


def python_with_tensorflow() -> str | None:
    """Return an interpreter that has TensorFlow, or None."""
    if importlib.util.find_spec("tensorflow") is not None:
        return sys.executable
    return os.environ.get("MPQUEUE_PEERS_PYTHON") or None


def _tensorflow_rates(name: str, num_workers: int, seconds: float) -> dict[str, float]:
    workload, python = RECORDS[name], python_with_tensorflow()
    assert python is not None
    wanted = {key: getattr(workload, key) for key in ("kind", "batch", "record_bytes")}
    wanted |= {"features": dict(workload.features), "files": files_of(name), "seconds": seconds, "threads": num_workers}
    return answer(python, "tensorflow_records.py", wanted, f"TensorFlow failed on {name}")  # type: ignore[no-any-return]


def answer(python: str, program: str, options: Any, failure: str, environ: Mapping[str, str] = os.environ) -> Any:
    """Return the JSON that a program of this folder prints, run by some interpreter.

    Raises:
        RuntimeError: The program failed; with the text ``failure`` and the end of its output on stderr.
    """
    command = [python, str(Path(__file__).with_name(program)), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    if done.returncode:
        raise RuntimeError(f"{failure}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# The files


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
_LARGE_MB = 0.1  # on average
RECORDS = {
    "image records": RecordWorkload(
        "examples with 100 KB of JPEG, 4 of 6 features parsed",
        "example",
        32,
        write_examples(300, _image_features),
        _IMAGE,
    ),
    "tabular records": RecordWorkload(
        "examples of 20 features, all of one layout",
        "example",
        1000,
        write_examples(20_000, lambda rng: _table_features(rng, alike=True)),
        _TABLE_FEATURES,
    ),
    "mixed records": RecordWorkload(
        "examples of 20 features of any lengths",
        "example",
        1000,
        write_examples(20_000, lambda rng: _table_features(rng, alike=False)),
        _TABLE_FEATURES,
    ),
    "csv": RecordWorkload("lines of 20 columns, decoded", "csv", 1000, _write_lines, _TABLE_FEATURES),
    "lines": RecordWorkload("the same lines, only read", "lines", 1000, _write_lines),
    "raw": RecordWorkload("784 bytes of fixed length, decoded", "raw", 1000, _write_bytes, record_bytes=784),
    "large records": RecordWorkload(
        "records of 100 KB, checksums verified, only read",
        "records",
        32,
        write_examples(300, _image_features),
        unit="MB/s",
        per_batch=_LARGE_MB,
    ),
}
