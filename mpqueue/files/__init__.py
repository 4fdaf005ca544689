"""`mpqueue.files`: sources over files of common formats, with ``len``, ``[i]`` and batched reads.

A source finds its records through an index, which is created once and stored; see `mpqueue.files.indexing.index`.
Order, ranks, resuming and worker crashes work as for any indexed source, without special support in the formats.

The modules are listed bottom up. A module imports only modules on its own line and on the lines above it::

    access/         bytes of local and remote files, by position
    indexing/       the index of a file: scanned once, stored, mapped by all processes
    sources/        base classes of the sources over files: rows, groups, compressed files
    tar/            tar archives
    arrow/          Arrow and Parquet
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
    from mpqueue.files.arrow.arrow import Arrow as Arrow
    from mpqueue.files.arrow.parquet import Parquet as Parquet
    from mpqueue.files.images import Images as Images
    from mpqueue.files.json_lines import JSONLines as JSONLines
    from mpqueue.files.mds import MDS as MDS
    from mpqueue.files.sources.location import Location as Location
    from mpqueue.files.tar.stream import TarStream as TarStream
    from mpqueue.files.tar.tar import Tar as Tar
    from mpqueue.files.tfrecord import TFRecord as TFRecord

# The module of each name. It is imported on first use, so only the packages of the formats in use are needed.
_HOMES = {
    "Tar": "files.tar.tar",
    "TarStream": "files.tar.stream",
    "TFRecord": "files.tfrecord",
    "JSONLines": "files.json_lines",
    "Parquet": "files.arrow.parquet",
    "Arrow": "files.arrow.arrow",
    "ArrayRecord": "files.array_record",
    "MDS": "files.mds",
    "Images": "files.images",
    "Location": "files.sources.location",
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
