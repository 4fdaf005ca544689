"""Common file formats: the same JPEG files in each format, read in shuffled order from the page cache.

The bytes are read in one process by mpqueue and by peers that support the format. Rates are samples per second and,
because some peers use threads, samples per second of CPU time. Loaders with workers read the files as decoded arrays.
The other workloads measure the throughput over a slow link.
"""

import contextlib
import dataclasses
import importlib.util
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpqueue
from mpqueue import files
from parts.benchmark import peers_files, remote_files
from parts.benchmark.consuming import count, warm_up
from parts.benchmark.file_sets import file_set
from parts.benchmark.peers import Library
from parts.benchmark.peers_files import BATCH, BUFFER, decoded, permutations
from parts.machine import CACHE

GROUP, PER_CPU = "files", " per CPU second"
OURS, IN_A_BUFFER = "mpqueue", "mpqueue, row groups"
MEGABYTES = 64
WARM_UP_S = 0.5
FAR_WORKERS, FAR_S = 4, 4.0  # the network is the bottleneck: more workers than CPUs, and batches that take a second

Batches = Iterator[list[bytes]]
_INDEX = CACHE / "files" / "indexes"


def _by_index(make: Callable[..., Any], column: str | None = None) -> Callable[[list[str]], Batches]:
    """Return a feed of an mpqueue source in shuffled order."""

    def feed(paths: list[str]) -> Batches:
        source = make(paths if len(paths) > 1 else paths[0], index=_INDEX)
        for numbers in permutations(len(source)):
            samples = (
                source.__getitems__(numbers) if hasattr(source, "__getitems__") else map(source.__getitem__, numbers)
            )
            yield list(samples) if column is None else [sample[column] for sample in samples]

    return feed


def _row_groups(paths: list[str]) -> Batches:
    """Shuffle row groups, and rows in a buffer, as for files that do not fit into memory."""
    groups = files.Parquet(paths, index=_INDEX, cache_bytes=0).row_groups()
    rows = mpqueue.Dataset(groups).shuffle().flat_map(list).shuffle(buffer=BUFFER)
    while True:
        samples = iter(rows)
        while batch := [sample["jpg"] for sample in itertools.islice(samples, BATCH)]:
            yield batch


def _image(sample: dict[str, Any]) -> Any:
    return decoded(sample["image"])


@contextlib.contextmanager
def _ours_decoded(folder: str, num_workers: int) -> Iterator[Iterator[Any]]:
    """Use a folder of images in a `Loader` with default options, decoded by the same function as in torch."""
    images = mpqueue.Dataset(files.Images(folder, index=_INDEX)).shuffle().repeat().map(_image).batch(BATCH)
    with mpqueue.Loader(images, workers=num_workers, seed=1) as loader:
        yield iter(loader)


@dataclasses.dataclass(frozen=True)
class FileWorkload:
    """A set of files.

    Attributes:
        about: Description for the report.
        form: File format.
        readers: The readers by name; mpqueue's is the first.
        unit, per_batch: Unit of the rate, and its amount per batch.
        writer: The package that writes the set.
        measure: Function that measures a reader with numbers of workers and seconds, if `Library.feed` is not
        sufficient.
    """

    about: str
    form: str
    readers: dict[str, Library]
    unit: str = "samples/s"
    per_batch: float = BATCH
    writer: str = ""
    measure: Callable[[str, int, float], dict[str, float]] | None = None

    @property
    def peers(self) -> tuple[str, ...]:
        """The names of the readers."""
        return tuple(self.readers)


def _peer(name: str, package: str) -> Library:
    return Library(getattr(peers_files, name), package)


def _far(sample_bytes: int) -> FileWorkload:
    """Return the workload of remote samples of a given size. The server's CPU time is not counted."""

    def measure(reader: str, num_workers: int, seconds: float) -> dict[str, float]:
        return {
            "rate": remote_files.link_rate(reader, sample_bytes, max(num_workers, FAR_WORKERS), max(seconds, FAR_S))
        }

    about = f"a tar behind 50 ms and 100 MB/s, samples of {sample_bytes // 1000} kB, shuffled"
    readers = {name: Library(None) for name in remote_files.READERS}
    return FileWorkload(about, "", readers, "MB/s", 1e-6, measure=measure)


_ABOUT = "bytes of 32 JPEG files of 10 kB, shuffled, from "
FILES = {
    "files tar": FileWorkload(
        _ABOUT + "WebDataset's shards", "tar",
        {
            OURS: Library(_by_index(files.Tar, "jpg")),
            "webdataset": _peer("webdataset", "webdataset"),
            "datasets": _peer("datasets_tar", "datasets"),
        },
    ),
    "files parquet": FileWorkload(
        _ABOUT + "Parquet, row groups of 100", "parquet",
        {
            OURS: Library(_by_index(files.Parquet, "jpg")),
            IN_A_BUFFER: Library(_row_groups),
            "torch": _peer("torch_parquet", "torch"),
            "datasets": _peer("datasets_parquet", "datasets"),
        },
        writer="pyarrow",
    ),
    "files arrow": FileWorkload(
        _ABOUT + "Arrow's streams, batches of 1,000", "arrow",
        {
            OURS: Library(_by_index(files.Arrow, "jpg")),
            "torch": _peer("torch_arrow", "torch"),
            "datasets": _peer("datasets_arrow", "datasets"),
        },
        writer="pyarrow",
    ),
    "files tfrecord": FileWorkload(
        _ABOUT + "TFRecord", "tfrecord",
        {OURS: Library(_by_index(files.TFRecord)), "tf.data": _peer("tensorflow_tfrecord", "tensorflow")},
    ),
    "files json lines": FileWorkload(
        "32 lines of JSON of 0.5 kB, shuffled", "json lines",
        {OURS: Library(_by_index(files.JSONLines, "text")), "datasets": _peer("datasets_json_lines", "datasets")},
    ),
    "files mds": FileWorkload(
        _ABOUT + "MosaicML's shards", "mds",
        {OURS: Library(_by_index(files.MDS, "jpg")), "mosaicml": _peer("mosaicml", "streaming")},
        writer="streaming",
    ),
    "files array record": FileWorkload(
        _ABOUT + "ArrayRecord", "array record",
        {OURS: Library(_by_index(files.ArrayRecord)), "grain": _peer("grain_array_record", "grain")},
        writer="array_record",
    ),
    "files folder": FileWorkload(
        _ABOUT + "a folder for each class", "folder",
        {OURS: Library(_by_index(files.Images, "image")), "torch": _peer("torch_folder", "torch")},
    ),
    "files decoded": FileWorkload(
        "32 JPEG files of a folder, shuffled, decoded by workers", "folder",
        {
            OURS: Library(_ours_decoded),
            "torch": _peer("torch_decoded", "torch"),
            "spdl": _peer("spdl_decoded", "spdl"),
        },
    ),
    "files far": _far(100_000),
    "files far large": _far(500_000),
}  # fmt: skip
# The same measurements in another unit.
FILES_PER_CPU = {
    name + PER_CPU: dataclasses.replace(workload, unit="samples/CPU s") for name, workload in FILES.items()
}


def file_readers(name: str) -> list[str]:
    """Return the readers that can be measured, or [] if the package that writes the set is not installed."""
    workload = FILES[name]
    if workload.writer and importlib.util.find_spec(workload.writer) is None:
        return []
    return [reader for reader, each in workload.readers.items() if each.is_installed]


def absent_readers(name: str) -> list[str]:
    """Return the readers that cannot be measured."""
    return [reader for reader in FILES[name].readers if reader not in file_readers(name)]


def file_figures(name: str, reader: str, megabytes: int, num_workers: int, seconds: float) -> dict[str, float]:
    """Return batches (or bytes) per second, and per second of CPU time of all processes if it is known."""
    workload = FILES[name]
    if workload.measure is not None:
        return workload.measure(reader, num_workers, seconds)
    paths = file_set(workload.form, megabytes)
    _into_page_cache(paths)
    feed = workload.readers[reader].feed
    if name == "files decoded":
        with feed(paths[0], num_workers) as batches:
            warm_up(batches, 4 * num_workers)
            found = count(batches, seconds)
        return {"rate": found["rate"], "per_cpu": 1e3 / (found["trainer_ms"] + found["workers_ms"])}
    batches = feed(paths)
    _counted(batches, max(WARM_UP_S, seconds / 2))
    return _counted(batches, seconds)


def _counted(batches: Batches, seconds: float) -> dict[str, float]:
    """Count samples, because the last batches of epochs are smaller."""
    began, used, samples, elapsed = time.perf_counter(), time.process_time(), 0, 0.0
    while elapsed < seconds:
        samples += len(next(batches))
        elapsed = time.perf_counter() - began
    return {"rate": samples / BATCH / elapsed, "per_cpu": samples / BATCH / (time.process_time() - used)}


def _into_page_cache(paths: list[str]) -> None:
    for path in map(Path, paths):
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file():
                file.read_bytes()
