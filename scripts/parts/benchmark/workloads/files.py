"""Common file formats: the same JPEG files in each format, read in shuffled order from the page cache.

The bytes are read in one process by mpqueue and by peers that support the format. Rates are samples per second and,
because some peers use threads, samples per second of CPU time. Loaders with workers read the files as decoded arrays.
"""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpqueue
from mpqueue import files
from parts.benchmark.consuming import rate
from parts.benchmark.workload import OF_TENSORFLOW, RATE, Figures, Library, Setting, Workload
from parts.benchmark.workloads import file_readers
from parts.benchmark.workloads.file_readers import BATCH, BUFFER, decoded, permutations
from parts.benchmark.workloads.file_sets import file_set
from parts.machine import CACHE

WARM_UP_S = 0.5

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files(Workload):
    """A set of files, with feeds of its paths.

    Attributes:
        form: File format.
        writer: The package that writes the set.
    """

    form: str
    writer: str = ""

    def is_installed(self, name: str) -> bool:
        """Return whether the set can be written, and read by a library."""
        return Library(None, self.writer).is_installed and super().is_installed(name)

    def figures(self, name: str, setting: Setting) -> Figures:
        """Return the rate."""
        paths = file_set(self.form)
        _into_page_cache(paths)
        return self.measured(self.readers[name].load(), paths, setting)

    def measured(self, feed: Any, paths: list[str], setting: Setting) -> Figures:
        """Measure a feed."""
        batches = feed(paths)
        _counted(batches, max(WARM_UP_S, setting.seconds / 2))
        return _counted(batches, setting.seconds)


class DecodedFiles(Files):
    """A folder, with feeds of the folder and the number of workers."""

    def measured(self, feed: Any, paths: list[str], setting: Setting) -> Figures:
        """Measure a feed."""
        with feed(paths[0], setting.num_workers) as batches:
            return rate(batches, setting.num_workers, setting.seconds)


def _counted(batches: Batches, seconds: float) -> Figures:
    """Count samples, because the last batches of epochs are smaller."""
    began, samples, elapsed = time.perf_counter(), 0, 0.0
    while elapsed < seconds:
        samples += len(next(batches))
        elapsed = time.perf_counter() - began
    return {RATE: [samples / BATCH / elapsed]}


def _into_page_cache(paths: list[str]) -> None:
    for path in map(Path, paths):
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file():
                file.read_bytes()


_JPEGS = "bytes of 32 JPEG files of 10 kB, shuffled, from "


def _set(about: str, form: str, readers: dict[str, Library], writer: str = "", kind: type[Files] = Files) -> Files:
    return kind(about, "samples/s", BATCH, form=form, writer=writer, readers=readers)


_TAR = {
    "mpqueue": Library(_by_index(files.Tar, "jpg")),
    "webdataset": Library(file_readers.webdataset, "webdataset"),
    "datasets": Library(file_readers.datasets_tar, "datasets"),
}
_PARQUET = {
    "mpqueue": Library(_by_index(files.Parquet, "jpg")),
    "mpqueue, row groups": Library(_row_groups),
    "torch": Library(file_readers.torch_parquet, "torch"),
    "datasets": Library(file_readers.datasets_parquet, "datasets"),
}
_ARROW = {
    "mpqueue": Library(_by_index(files.Arrow, "jpg")),
    "torch": Library(file_readers.torch_arrow, "torch"),
    "datasets": Library(file_readers.datasets_arrow, "datasets"),
}
_TFRECORD = {
    "mpqueue": Library(_by_index(files.TFRecord)),
    "tf.data": Library(file_readers.tensorflow_tfrecord, "tensorflow", environ=OF_TENSORFLOW),
}
_JSON_LINES = {
    "mpqueue": Library(_by_index(files.JSONLines, "text")),
    "datasets": Library(file_readers.datasets_json_lines, "datasets"),
}
_ARRAY_RECORD = {
    "mpqueue": Library(_by_index(files.ArrayRecord)),
    "grain": Library(file_readers.grain_array_record, "grain"),
}
_FOLDER = {
    "mpqueue": Library(_by_index(files.Images, "image")),
    "torch": Library(file_readers.torch_folder, "torch"),
}
_DECODED = {
    "mpqueue": Library(_ours_decoded),
    "torch": Library(file_readers.torch_decoded, "torch"),
    "spdl": Library(file_readers.spdl_decoded, "spdl"),
}
WORKLOADS = {
    "files tar": _set(_JPEGS + "WebDataset's shards", "tar", _TAR),
    "files parquet": _set(_JPEGS + "Parquet, row groups of 100", "parquet", _PARQUET, "pyarrow"),
    "files arrow": _set(_JPEGS + "Arrow's streams, batches of 1,000", "arrow", _ARROW, "pyarrow"),
    "files tfrecord": _set(_JPEGS + "TFRecord", "tfrecord", _TFRECORD),
    "files json lines": _set("32 lines of JSON of 0.5 kB, shuffled", "json lines", _JSON_LINES),
    "files array record": _set(_JPEGS + "ArrayRecord", "array record", _ARRAY_RECORD, "array_record"),
    "files folder": _set(_JPEGS + "a folder for each class", "folder", _FOLDER),
    "files decoded": _set(
        "32 JPEG files of a folder, shuffled, decoded by workers", "folder", _DECODED, kind=DecodedFiles
    ),
}
