"""One set of JPEG files in every format, written once into the checkout's cache.

The set repeats the demo's photographs up to the required size. Readers only see bytes, read from the page cache in any
case.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpqueue
from parts.machine import CACHE, written
from parts.photographs.dataset import photo_files

MEGABYTES, NUM_SHARDS = 64, 4
# Hugging Face's row group size for images.
ROWS_OF_A_GROUP = 100
# Its row group size for all other data, and so for images stored as bytes.
ROWS_OF_A_BATCH = 1000

Sample = tuple[str, bytes, int]


def jpegs() -> Iterator[Sample]:
    """Yield key, bytes and label of files with a total size of `MEGABYTES`."""
    files, _ = photo_files()
    left = MEGABYTES * 1_000_000
    for index, (path, label) in enumerate(itertools.cycle(zip(files.paths, files.labels, strict=True))):
        data = Path(path).read_bytes()
        yield f"{index:08d}", data, label
        left -= len(data)
        if left <= 0:
            return


def file_set(form: str) -> list[str]:
    """Return the files of a set, or its folder for formats that are folders. The set is written on first use.

    Raises:
        ImportError: The package that writes the format is not installed.
    """

    def write(part: Path) -> None:
        part.mkdir()
        _WRITERS[form](part, list(jpegs()))

    folder = written(CACHE / "files" / f"{form.replace(' ', '_')}-{MEGABYTES}", write)
    return [str(folder)] if form == "folder" else [str(path) for path in sorted(folder.iterdir())]


def _sharded(write: Callable[[Path, list[Sample]], None], suffix: str) -> Callable[[Path, list[Sample]], None]:
    def write_all(folder: Path, samples: list[Sample]) -> None:
        each = -(-len(samples) // NUM_SHARDS)
        for number in range(NUM_SHARDS):
            write(folder / f"{number:03d}.{suffix}", samples[number * each : (number + 1) * each])

    return write_all


def _write_tar(path: Path, samples: list[Sample]) -> None:
    import io
    import tarfile

    with tarfile.open(path, "w") as archive:
        for key, data, label in samples:
            for suffix, content in (("jpg", data), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def _table(samples: list[Sample]) -> Any:
    import pyarrow as pa

    return pa.table({"jpg": [data for _, data, _ in samples], "cls": [label for _, _, label in samples]})


def _write_parquet(path: Path, samples: list[Sample]) -> None:
    from pyarrow import parquet

    parquet.write_table(_table(samples), path, row_group_size=ROWS_OF_A_GROUP)


def _write_arrow(path: Path, samples: list[Sample]) -> None:
    import pyarrow as pa

    table = _table(samples)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, ROWS_OF_A_BATCH)


def _write_tfrecord(path: Path, samples: list[Sample]) -> None:
    with mpqueue.python_io.TFRecordWriter(str(path)) as writer:
        for _, data, _ in samples:
            writer.write(data)


def _write_json_lines(path: Path, samples: list[Sample]) -> None:
    """Write an image's metadata, because JSON cannot contain bytes."""
    with path.open("w") as file:
        for key, data, label in samples:
            file.write(json.dumps({"key": key, "bytes": len(data), "label": label, "text": data[-200:].hex()}) + "\n")


def _write_array_record(path: Path, samples: list[Sample]) -> None:
    from array_record.python import array_record_module

    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for _, data, _ in samples:
        writer.write(data)
    writer.close()


def _write_folder(folder: Path, samples: list[Sample]) -> None:
    for key, data, label in samples:
        path = folder / f"{label:03d}" / f"{key}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


_WRITERS: dict[str, Callable[[Path, list[Sample]], None]] = {
    "tar": _sharded(_write_tar, "tar"),
    "parquet": _sharded(_write_parquet, "parquet"),
    "arrow": _sharded(_write_arrow, "arrow"),
    "tfrecord": _sharded(_write_tfrecord, "tfrecord"),
    "json lines": _sharded(_write_json_lines, "jsonl"),
    "array record": _sharded(_write_array_record, "array_record"),
    "folder": _write_folder,
}
