"""`mpqueue.files`: files that people have, as sources of samples by index: ``len``, ``[i]``, many at once.

A source knows where each of its records lies from an index, which is made once and kept; see `mpqueue.files.index`. So
order, ranks, resumes and deaths are those of any source by index, and the formats need no part in them.

From the ground up; a module imports only from its own line and the lines above it::

    urls.py         remote files: the file systems of fsspec
    names.py        names of files: patterns, braces, lists
    ranges.py       bytes of remote files, many at once, tried again
    positioned.py   bytes by position as a file object
    opened.py       open files, read by position
    kept.py         what lies in the folder of indexes
    index_file.py   the file of an index: arrays, whole or absent
    window.py       a file that a scan reads from header to header
    scanning.py     scans of many files at once
    index.py        where the records of files lie: scanned once, kept in a file, mapped by all
    unpacked.py     compressed files, unpacked once into a file of the cache
    fetched.py      remote files, fetched whole into a file of the cache
    source.py       what all sources of files are
    unpacked_source.py  sources of files that may be compressed
    tar_headers.py  the members of a tar archive
    tar.py          `Tar`
    tar_stream.py   `TarStream`: archives that are read from front to back
    columns.py      the columns that are wanted of files
    decoded.py      decoded parts of files, kept while there is room
    groups.py       samples that lie in groups: row groups, record batches, shards
    rows.py         rows of pyarrow's tables as samples
    arrow_messages.py   messages of Arrow's formats: where they lie, and their buffers
    arrow_slices.py     some rows of a record batch, made from their own bytes
    arrow_values.py     values of many rows of record batches, read at once
    arrow.py        `Arrow`
    parquet.py      `Parquet`
    mds_values.py   the encodings of MosaicML's format
    mds.py          `MDS`
    array_record.py `ArrayRecord`
    tfrecord.py     `TFRecord`
    json_lines.py   `JSONLines`
    images.py       `Images`
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mpqueue.examples.features import FixedLenFeature as FixedLenFeature
    from mpqueue.examples.features import FixedLenSequenceFeature as FixedLenSequenceFeature
    from mpqueue.examples.features import VarLenFeature as VarLenFeature
    from mpqueue.files.array_record import ArrayRecord as ArrayRecord
    from mpqueue.files.arrow import Arrow as Arrow
    from mpqueue.files.images import Images as Images
    from mpqueue.files.json_lines import JSONLines as JSONLines
    from mpqueue.files.mds import MDS as MDS
    from mpqueue.files.parquet import Parquet as Parquet
    from mpqueue.files.tar import Tar as Tar
    from mpqueue.files.tar_stream import TarStream as TarStream
    from mpqueue.files.tfrecord import TFRecord as TFRecord


class Format(NamedTuple):
    """A row of the table of formats.

    Attributes:
        module: The module of the class, imported on first use: you need only the packages of the formats that you read.
        option: The name in ``mpqueue index --format``; None: it has no index.
        endings: Of names of its files; empty: it takes one folder.
        marker: A file in a folder of this format; None: any folder that no other format claims.
    """

    module: str
    option: str | None = None
    endings: tuple[str, ...] = ()
    marker: str | None = None


_LINES = tuple(f".{name}{end}" for name in ("jsonl", "ndjson") for end in ("", ".gz", ".zst", ".bz2", ".xz"))
FORMATS = {
    "Tar": Format("tar", "tar", (".tar",)),
    "TarStream": Format("tar_stream"),
    "TFRecord": Format("tfrecord", "tfrecord", (".tfrecord", ".tfrecords", ".tfrec")),
    "JSONLines": Format("json_lines", "jsonl", _LINES),
    "Parquet": Format("parquet", "parquet", (".parquet",)),
    "Arrow": Format("arrow", "arrow", (".arrow", ".feather", ".ipc")),
    "ArrayRecord": Format("array_record", "array_record", (".array_record", ".arrayrecord")),
    "MDS": Format("mds", "mds", marker="index.json"),
    "Images": Format("images", "images"),
}

_FEATURES = ("FixedLenFeature", "FixedLenSequenceFeature", "VarLenFeature")  # what `TFRecord(features=...)` takes

__all__ = [
    "MDS",
    "ArrayRecord",
    "Arrow",
    "FixedLenFeature",
    "FixedLenSequenceFeature",
    "Images",
    "JSONLines",
    "Parquet",
    "TFRecord",
    "Tar",
    "TarStream",
    "VarLenFeature",
]


def __getattr__(name: str) -> Any:
    if name in FORMATS:
        home = f"mpqueue.files.{FORMATS[name].module}"
    elif name in _FEATURES:
        home = "mpqueue.examples.features"
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
