"""`MDS`: the format of MosaicML's streaming, by its ``index.json``.

::

    shard     uint32: the number n of samples; n + 1 of uint32: where each begins, and where the last one ends;
              text; samples
    sample    uint32: the size of each column whose encoding has none; then the bytes of the columns

A sample of a plain shard is read by itself. A compressed shard is decompressed as a whole, and kept as long as it fits;
see `mpqueue.files.decoded`.
"""

import bz2
import gzip
import json
import os
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.columns import chosen
from mpqueue.files.decoded import DEFAULT_BYTES
from mpqueue.files.groups import GroupedFiles, Groups
from mpqueue.files.index import Index
from mpqueue.files.index_file import Array, Arrays
from mpqueue.files.mds_values import Decode, decoder, size_of
from mpqueue.files.names import folder_name
from mpqueue.files.opened import read_whole
from mpqueue.files.ranges import FileRange
from mpqueue.files.urls import is_url
from mpqueue.files.window import open_window

_VERSION = 1


class _Shard(NamedTuple):
    """A shard as ``index.json`` tells of it."""

    path: str
    num_samples: int
    raw_bytes: int
    columns: tuple[tuple[str, str], ...]  # name and encoding of each


def scan(path: str) -> Arrays:
    """Return where the samples of a shard are.

    Returns: ``rows``: their number; ``places``: where each begins in the plain shard, and where the last one ends.

    Raises:
        FileError: It is no shard, or is cut short.
        OSError: The system's.
    """
    with open_window(path) as window:
        file = window.as_file()
        plain = _decompressed(path, file)
        try:
            head = plain.read(4)
            number = int.from_bytes(head, "little")
            data = plain.read(4 * (number + 1))
        except Exception as error:  # each library has its own
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's
            raise FileError(path, 0, f"it cannot be decompressed: {error}") from error
        if len(head) < 4 or len(data) < 4 * (number + 1):
            raise FileError(path, 0, f"it ends before the places of its {number:,} samples; is it cut short?")
        places = np.frombuffer(data, "<u4")
        if places[0] < 4 + len(data) or (places[1:] < places[:-1]).any():
            raise FileError(path, 4, "the places of its samples go backwards; is it no shard of MDS?")
        if plain is file and places[-1] != (size := window.size):
            raise FileError(
                path, size, f"it has {size:,} bytes, and its samples end at {places[-1]:,}; is it cut short?"
            )
    return {"rows": np.array([number], np.int64), "places": places}


def _decompressed(path: str, file: Any) -> Any:
    """Return what gives the bytes of a file that may be compressed; itself if it is not."""
    ending = os.path.splitext(path)[1]
    if ending in (".zstd", ".zst"):
        try:
            import zstandard
        except ImportError as error:
            raise ImportError(f'{path} needs zstandard: pip install "mpqueue[files]"') from error
        return zstandard.ZstdDecompressor().stream_reader(file)
    if ending == ".gz":
        return gzip.GzipFile(fileobj=file)
    if ending == ".bz2":
        return bz2.BZ2File(file)
    if ending in (".br", ".snappy"):
        raise FileError(
            path, None, f"compression {ending[1:]} is not read, only zstd, gz and bz2: decompress the shards"
        )
    return file


class MDS(GroupedFiles):
    """Samples of a dataset of MosaicML's streaming, by index, from a folder here or behind a URL.

    A source: ``len``, ``[i]`` and ``__getitems__`` give what `streaming.LocalDataset` gives: a dict of the values of
    all columns, in the order of the shards. To shuffle costs nothing where shards are plain. Compressed ones are
    decompressed as a whole, and kept as long as they fit into ``cache_bytes``; where a shard lies there decompressed,
    too, that one is read.

    Any thread may read, and a copy in another process opens its files itself.

    Args:
        folder: Where ``index.json`` is: a path, or a URL of fsspec.
        columns: Names of those that are wanted, in this order; None: all.
        decode: Whether columns of images (jpeg, png) become Pillow's images, as in MosaicML's reader; False: their
            bytes.
        allow_unsafe_types: Whether columns of pickles are read: whoever wrote the files can run any code here.
        cache_bytes: Of decompressed shards, at most, for each process.
        index: The folder in which the index of the shards is kept; None: the user's cache folder.

    Raises:
        TypeError: ``folder`` or ``index`` is no path.
        FileNotFoundError: There is no ``index.json``, or no shard of which it tells.
        FileError: A shard is cut short, has other columns than the first one, or is not what ``index.json`` tells.
            Later, at a read: it has changed, or is damaged. It names file and offset.
        ValueError: A column is not there, or is of pickles.
        ImportError: A shard is compressed by zstd, and zstandard is not installed (extra ``files``).

    Follows: MosaicML's `streaming` (version 2 of its format), whose readers also download, and decompress onto disks.
    """

    _group_noun = "shard"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        columns: Iterable[str] | None = None,
        *,
        decode: bool = True,
        allow_unsafe_types: bool = False,
        cache_bytes: int = DEFAULT_BYTES,
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        name = folder_name(folder)
        shards = _read_index(name.rstrip("/") if is_url(name) else os.path.realpath(name))
        stored = shards[0].columns
        for shard in shards:
            if shard.columns != stored:
                raise FileError(
                    shard.path, None, f"its columns are {_told(shard.columns)}, expected {_told(stored)} as in "
                    f"{shards[0].path}",
                )  # fmt: skip
        names = chosen(columns, [name for name, _ in stored])
        encodings = dict(stored)
        for name in names:
            decoder(encodings[name], decode_images=decode)  # whether there is such an encoding
            if encodings[name] == "pkl" and not allow_unsafe_types:
                raise ValueError(
                    f"the column {name!r} holds pickles, which can run any code: pass allow_unsafe_types=True if you "
                    "trust whoever wrote these files, or leave it out by columns="
                )
        super().__init__(Index("mds", _VERSION, [shard.path for shard in shards], scan, index), cache_bytes)
        for shard, number in zip(shards, self._index["rows"].tolist(), strict=True):
            if number != shard.num_samples:
                raise FileError(shard.path, 0, f"it has {number:,} samples, and index.json says {shard.num_samples:,}")
        self._stored, self._names, self._decode_images = stored, names, decode
        # Bytes of those that are compressed, once they are not; None: it is plain.
        self._raw_bytes = [None if shard.path.endswith(".mds") else shard.raw_bytes for shard in shards]

    def shards(self) -> Groups:
        """Return the shards as a source: ``[i]`` is all samples of one, a sequence.

        To shuffle compressed ones: ``Dataset(mds.shards()).shuffle().flat_map(list).shuffle(buffer=10_000)``
        decompresses each once in an epoch.
        """
        return Groups(self)

    def _offset_of(self, group: int) -> int | None:  # noqa: ARG002  # a shard is a whole file
        return None

    def _rows(self, group: int, rows: Sequence[int]) -> list[Any]:
        if self._raw_bytes[group] is not None:
            return super()._rows(group, rows)
        places = self._places(group)
        pairs = [(int(places[row]), int(places[row + 1])) for row in rows]
        read = self._opened.read_all([FileRange(group, start, stop - start) for start, stop in pairs])
        return [self._decoded_sample(group, start, data) for (start, _), data in zip(pairs, read, strict=True)]

    def _all_rows(self, group: int) -> Sequence[Any]:
        if self._raw_bytes[group] is not None:
            return super()._all_rows(group)
        return _Samples(self, group, self._opened.read(group, 0, self._index.files[group].size))

    def _decode(self, group: int) -> tuple[Sequence[Any], int]:
        size = self._raw_bytes[group]
        assert size is not None
        file = self._index.files[group]
        stored = BytesIO(self._opened.read(group, 0, file.size))
        try:
            with _decompressed(file.path, stored) as plain:
                data = plain.read(size + 1)  # not all that a hostile one may hold
        except ImportError:
            raise
        except Exception as error:  # each library has its own
            raise ValueError(f"it cannot be decompressed: {error}") from error
        if len(data) != size or self._places(group)[-1] != size:
            raise ValueError(f"it has not the {size:,} bytes decompressed that index.json says")
        return _Samples(self, group, data), size

    def _places(self, group: int) -> Array:
        start, stop = self._index.starts("places")[group : group + 2]
        return self._index["places"][start:stop]

    def _decoded_sample(self, group: int, offset: int, data: bytes) -> dict[str, Any]:
        columns = self._columns()
        at, sizes = 0, []
        for column in columns:
            if column.size is None:
                sizes.append(int.from_bytes(data[at : at + 4], "little"))
                at += 4
            else:
                sizes.append(column.size)
        if at + sum(sizes) != len(data):
            what = f"a sample of {len(data):,} bytes, whose columns have {at + sum(sizes):,}"
            raise FileError(self._index.files[group].path, offset, what)
        found: dict[str, Any] = {}
        for column, size in zip(columns, sizes, strict=True):
            if column.decode is not None:
                try:
                    found[column.name] = column.decode(data[at : at + size])
                except ImportError:
                    raise
                except Exception as error:
                    raise FileError(
                        self._index.files[group].path, offset, f"the column {column.name!r} cannot be decoded: {error}"
                    ) from error
            at += size
        return found if self._is_in_order else {name: found[name] for name in self._names}

    def _columns(self) -> "list[_Column]":
        """Return all columns of the files, which are made in the process that reads."""
        if self._made is None:
            wanted = set(self._names)
            self._is_in_order = self._names == [name for name, _ in self._stored if name in wanted]
            self._made = [
                _Column(
                    name,
                    size_of(encoding),
                    decoder(encoding, decode_images=self._decode_images) if name in wanted else None,
                )
                for name, encoding in self._stored
            ]
        made: list[_Column] = self._made
        return made


class _Column(NamedTuple):
    name: str
    size: int | None  # of each value; None: each has its own
    decode: Decode | None  # None: it is not wanted


class _Samples(Sequence[Any]):
    """The samples of a shard whose bytes are in memory; each is decoded when it is asked for."""

    def __init__(self, source: MDS, group: int, data: bytes) -> None:
        self._source, self._group, self._data = source, group, data
        self._places = source._places(group)

    def __len__(self) -> int:
        return len(self._places) - 1

    def __getitem__(self, number: int) -> dict[str, Any]:  # type: ignore[override]  # no slices are taken
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        start, stop = self._places[number : number + 2].tolist()
        return self._source._decoded_sample(self._group, start, self._data[start:stop])


def _told(columns: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({encoding})" for name, encoding in columns)


def _read_index(folder: str) -> list[_Shard]:
    """Return the shards of a folder.

    Raises:
        FileNotFoundError: There is no ``index.json``, or a shard is not there.
        FileError: It is not as expected.
    """
    path = os.path.join(folder, "index.json")
    data = read_whole(path)
    try:
        told = json.loads(data)
        if told["version"] != 2:
            raise ValueError(f"version {told['version']}, expected 2")
        shards = [_shard(folder, each) for each in told["shards"]]
    except (ValueError, TypeError, KeyError) as error:
        what = f"no {error} in it" if isinstance(error, KeyError) else str(error)
        raise FileError(path, None, f"it is no index of MDS: {what}") from error
    if not shards:
        raise FileError(path, None, "it tells of no shards")
    return shards


def _shard(folder: str, told: dict[str, Any]) -> _Shard:
    if told["format"] != "mds":
        raise ValueError(f"a shard of format {told['format']!r}, expected 'mds'")
    raw = told["raw_data"]
    path = _inside(folder, raw["basename"])
    # Whoever compresses shards uploads no others, so it is not asked for each whether there is one.
    if told["zip_data"] and (is_url(folder) or not os.path.exists(path)):
        path = _inside(folder, told["zip_data"]["basename"])
    columns = tuple(zip(told["column_names"], told["column_encodings"], strict=True))
    for (name, encoding), size in zip(columns, told["column_sizes"], strict=True):
        if size != size_of(encoding):
            raise ValueError(f"the column {name!r} ({encoding}) has size {size}, expected {size_of(encoding)}")
    if not is_url(path) and not os.path.exists(path):
        raise FileNotFoundError(f"there is no shard {path}, of which index.json tells")
    return _Shard(path, int(told["samples"]), int(raw["bytes"]), columns)


def _inside(folder: str, name: str) -> str:
    """Return the path of a shard, which must lie in the folder: an index is somebody else's file."""
    if os.path.isabs(name) or is_url(name) or ".." in name.split("/"):
        raise ValueError(f"a shard {name!r}, which lies outside of the folder")
    return os.path.join(folder, name)
