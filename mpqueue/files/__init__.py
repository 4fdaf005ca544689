"""`mpqueue.files`: sources over files of common formats, with ``len``, ``[i]`` and batched reads.

A source finds its records through an index, which is created once and stored; see `mpqueue.files.index`. Order, ranks,
resuming and worker crashes work as for any indexed source, without special support in the formats.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    location.py     `Location`: the place of a sample in a file
    urls.py         remote files: the file systems of fsspec
    names.py        file names: patterns, braces, lists
    ranges.py       byte ranges of remote files, read concurrently, with retries
    positioned.py   positional reads, and a file object over them
    opened.py       open files, read by position
    kept.py         the index folder
    index_file.py   the file of an index: arrays, written atomically
    window.py       a file that a scan reads from header to header
    scanning.py     concurrent scans of several files
    index.py        the positions of records: scanned once, stored in a file, mapped by all processes
    unpacked.py     compressed files, decompressed once into a cache file
    source.py       the base class of all sources over files
    unpacked_source.py  sources over files that may be compressed
    tar_headers.py  the members of a tar archive
    tar.py          `Tar`
    tar_stream.py   `TarStream`: archives that are read sequentially
    columns.py      selection of columns
    rows.py         rows of pyarrow tables as samples
    row_blocks.py   samples of a group or of blocks, by position
    groups.py       samples in groups: row groups, record batches, shards
    arrow_messages.py   messages of Arrow's formats: their positions and buffers
    arrow_slices.py     some rows of a record batch, built from their own bytes
    arrow_values.py     values of many rows of record batches, read together
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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpqueue.examples.features import FixedLenFeature as FixedLenFeature
    from mpqueue.examples.features import FixedLenSequenceFeature as FixedLenSequenceFeature
    from mpqueue.examples.features import VarLenFeature as VarLenFeature
    from mpqueue.files.array_record import ArrayRecord as ArrayRecord
    from mpqueue.files.arrow import Arrow as Arrow
    from mpqueue.files.images import Images as Images
    from mpqueue.files.json_lines import JSONLines as JSONLines
    from mpqueue.files.location import Location as Location
    from mpqueue.files.mds import MDS as MDS
    from mpqueue.files.parquet import Parquet as Parquet
    from mpqueue.files.tar import Tar as Tar
    from mpqueue.files.tar_stream import TarStream as TarStream
    from mpqueue.files.tfrecord import TFRecord as TFRecord

# The module of each name. It is imported on first use, so only the packages of the formats in use are needed.
_HOMES = {
    "Tar": "files.tar",
    "TarStream": "files.tar_stream",
    "TFRecord": "files.tfrecord",
    "JSONLines": "files.json_lines",
    "Parquet": "files.parquet",
    "Arrow": "files.arrow",
    "ArrayRecord": "files.array_record",
    "MDS": "files.mds",
    "Images": "files.images",
    "Location": "files.location",
    "FixedLenFeature": "examples.features",
    "FixedLenSequenceFeature": "examples.features",
    "VarLenFeature": "examples.features",
}

__all__ = [
    "MDS",
    "ArrayRecord",
    "Arrow",
    "FixedLenFeature",
    "FixedLenSequenceFeature",
    "Images",
    "JSONLines",
    "Location",
    "Parquet",
    "TFRecord",
    "Tar",
    "TarStream",
    "VarLenFeature",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"mpqueue.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
