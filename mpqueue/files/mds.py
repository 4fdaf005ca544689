"""`MDS`: the format of MosaicML's streaming, read through its ``index.json``.

::

    shard     uint32: the number n of samples; n + 1 of uint32: the start of each sample, and the end of the last one;
              text; samples
    sample    uint32: the size of each column with variable size; then the bytes of the columns

MosaicML's own reader takes 3.5 times the CPU time: it returns 21,100 samples of 10 KB per CPU second in shuffled order,
and this module 74,600 (mosaicml-streaming 0.13, medians of 7 interleaved rounds). Its dependencies also conflict with
the dependencies of `datasets`.

A sample of a plain shard is read separately. A compressed shard is decompressed as a whole, and cached while it fits;
see `mpqueue.system.process_cache`.
"""

import bz2
import functools
import gzip
import json
import os
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.access.names import FileExclusion, Names, folder_name
from mpqueue.files.access.opened import read_whole
from mpqueue.files.access.positioned import PositionedFile
from mpqueue.files.access.ranges import FileRange
from mpqueue.files.access.urls import is_url
from mpqueue.files.access.window import open_window
from mpqueue.files.indexing.index import Index
from mpqueue.files.indexing.index_file import Array, Arrays
from mpqueue.files.mds_values import Decode, decoder, size_of
from mpqueue.files.sources.columns import chosen
from mpqueue.files.sources.groups import GroupedFiles, Groups, is_about_content
from mpqueue.system.process_cache import DEFAULT_BYTES
from mpqueue.system.signals.interrupts import is_of_handler
from mpqueue.system.units import count_text
from mpqueue.system.user_code.extras import import_extra
from mpqueue.system.user_code.keywords import suggests_keywords

_VERSION = 1


class _Shard(NamedTuple):
    """A shard as described in ``index.json``."""

    path: str
    num_samples: int
    raw_bytes: int
    columns: tuple[tuple[str, str], ...]  # (name, encoding) pairs


def scan(path: str) -> Arrays:
    """Return the positions of the samples of a shard.

    Returns: ``rows``: the number of samples; ``positions``: the start of each sample in the decompressed shard, and the
        end of the last one.

    Raises:
        FileError: The file is not an MDS shard, or is truncated.
        OSError: The file cannot be read.
    """
    with open_window(path) as window:
        file = PositionedFile(window.read, window.size)
        plain = _decompressed(path, file)
        try:
            head = plain.read(4)
            count = int.from_bytes(head, "little")
            data = plain.read(4 * (count + 1))
        except Exception as error:  # each library raises other errors
            if not is_about_content(error):
                raise
            raise FileError(path, 0, f"it cannot be decompressed: {error}") from error
        if len(head) < 4 or len(data) < 4 * (count + 1):
            raise FileError(
                path, 0, f"it ends before the offsets of its {count_text(count, 'sample')} and may be truncated"
            )
        positions = np.frombuffer(data, "<u4")
        if positions[0] < 4 + len(data) or (positions[1:] < positions[:-1]).any():
            raise FileError(path, 4, "the offsets of its samples decrease; it may not be an MDS shard")
        if plain is file and positions[-1] != (size := window.size):
            raise FileError(
                path, size, f"it has {size:,} bytes, but its samples end at {positions[-1]:,}; it may be truncated"
            )
    return {"rows": np.array([count], np.int64), "places": positions}


def _decompressed(path: str, file: Any) -> Any:
    """Return a file object with the decompressed bytes of a file; the file itself if it is not compressed."""
    ending = os.path.splitext(path)[1]
    if ending in (".zstd", ".zst"):
        zstandard = import_extra("zstandard", f'{path} needs zstandard: pip install "mpqueue[files]"')
        return zstandard.ZstdDecompressor().stream_reader(file)
    if ending == ".gz":
        return gzip.GzipFile(fileobj=file)
    if ending == ".bz2":
        return bz2.BZ2File(file)
    if ending in (".br", ".snappy"):
        raise FileError(path, None, f"compression must be zstd, gz or bz2, got {ending[1:]}: decompress the shards")
    return file


@suggests_keywords
class MDS(GroupedFiles):
    """Samples of a dataset of MosaicML's streaming, by index, from a local folder or a URL.

    A source with ``len``, ``[i]`` and ``__getitems__``. A sample is a dict of the values of all columns, as in
    `streaming.LocalDataset`, in the order of the shards. Shuffling is fast for plain shards. Compressed shards are
    decompressed as a whole, and cached while they fit into ``cache_bytes``. If a decompressed copy of a shard exists in
    the folder, that one is read.

    Reads are thread-safe, and a copy in another process opens the files itself.

    Args:
        folder: The folder with ``index.json``: a path, or an fsspec URL.
        columns: The names of the columns to read, in this order. If None, all.
        decode: Decode image columns (jpeg, png) to Pillow images, as MosaicML's reader does. If False, return their
            bytes.
        allow_unsafe_types: Allow columns of pickles. The author of the files can then run any code.
        cache_bytes: The size of the cache of decompressed shards, per process.
        exclude: A pattern of shards to exclude, or a list of patterns. A pattern without a slash is compared with the
            file's name.
        on_error: What to do if a shard is truncated or damaged when the source is created. ``"raise"`` raises a
            `FileError`. ``"skip"`` skips the shard, and logs a warning that names it; see `file_errors`.
        index: The folder for the index of the shards. If None, the user's cache folder.

    Raises:
        TypeError: ``folder`` or ``index`` is not a path.
        FileNotFoundError: ``index.json``, or a shard listed in it, does not exist; or ``exclude`` excludes all of
            them.
        FileError: A shard is truncated, has other columns than the first one, or does not match ``index.json``. When
            reading: a shard has changed, or is damaged. The message contains the file and the offset.
        ValueError: A column does not exist, or contains pickles. Or ``on_error`` is unknown.
        ImportError: A shard is compressed with zstd, and zstandard is not installed (extra ``files``).

    Follows: MosaicML's `streaming` (version 2 of its format). Its readers also download shards, and decompress them to
        disk.
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
        exclude: Names | None = None,
        on_error: str = "raise",
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        listed = _read_index(folder_name(folder))
        left = {*FileExclusion(exclude).rest_of([shard.path for shard in listed])}
        shards = [shard for shard in listed if shard.path in left]
        stored = shards[0].columns
        for shard in shards:
            if shard.columns != stored:
                raise FileError(
                    shard.path,
                    None,
                    f"its columns are {_listed(shard.columns)}, expected {_listed(stored)} as in {shards[0].path}",
                )
        names = chosen(columns, [name for name, _ in stored])
        encodings = dict(stored)
        for name in names:
            decoder(encodings[name], decode_images=decode)  # raises for an unknown encoding
            if encodings[name] == "pkl" and not allow_unsafe_types:
                raise ValueError(
                    f"the column {name!r} contains pickles, which can run any code: pass allow_unsafe_types=True if "
                    "you trust the author of these files, or exclude the column with columns="
                )
        paths = [shard.path for shard in shards]
        super().__init__(Index("mds", _VERSION, paths, scan, index, on_error=on_error), cache_bytes)
        shards = [shards[index] for index in self._index.file_indices]
        for shard, count in zip(shards, self._index["rows"].tolist(), strict=True):
            if count != shard.num_samples:
                raise FileError(
                    shard.path,
                    0,
                    f"it has {count_text(count, 'sample')}, but index.json lists {shard.num_samples:,}",
                )
        self._stored, self._names, self._decode_images = stored, names, decode
        # Decompressed sizes of compressed shards; None for plain ones.
        self._raw_bytes = [None if shard.path.endswith(".mds") else shard.raw_bytes for shard in shards]

    def shards(self) -> Groups:
        """Return the shards as a source: ``[i]`` is a sequence of all samples of one shard.

        This allows a shuffle of compressed shards that decompresses each once per epoch:
        ``Dataset(mds.shards()).shuffle().flat_map(list).shuffle(buffer=10_000)``.
        """
        return Groups(self)

    def _offset_of(self, group: int) -> int | None:  # a shard is a whole file
        return None

    def _rows(self, group: int, rows: Sequence[int]) -> list[Any]:
        if self._raw_bytes[group] is not None:
            return super()._rows(group, rows)
        positions = self._positions(group)
        pairs = [(int(positions[row]), int(positions[row + 1])) for row in rows]
        read = self._opened.read_all([FileRange(group, start, stop - start) for start, stop in pairs])
        return [self._decoded_sample(group, start, data) for (start, _), data in zip(pairs, read, strict=True)]

    def _all_rows(self, group: int) -> Sequence[Any]:
        if self._raw_bytes[group] is not None:
            return super()._all_rows(group)
        return _Samples(
            self, group, self._opened.read(group, 0, self._index.files[group].size), 0, self._positions(group)
        )

    def _block(self, group: int, start: int, stop: int) -> Sequence[Any]:
        if self._raw_bytes[group] is not None:
            return super()._block(group, start, stop)
        positions = self._positions(group)[start : stop + 1]
        first, last = int(positions[0]), int(positions[-1])
        return _Samples(self, group, self._opened.read(group, first, last - first), first, positions)

    def _decode(self, group: int) -> tuple[Sequence[Any], int]:
        size = self._raw_bytes[group]
        assert size is not None
        file = self._index.files[group]
        stored = BytesIO(self._opened.read(group, 0, file.size))
        try:
            with _decompressed(file.path, stored) as plain:
                data = plain.read(size + 1)  # limited, because a malicious file may expand to any size
        except Exception as error:  # each library raises other errors
            if isinstance(error, ImportError) or is_of_handler(error):
                raise
            raise ValueError(f"it cannot be decompressed: {error}") from error
        if len(data) != size or self._positions(group)[-1] != size:
            raise ValueError(
                f"it must have {size:,} decompressed bytes, as in index.json, got {len(data):,} or more, with samples "
                f"up to {self._positions(group)[-1]:,}"
            )
        return _Samples(self, group, data, 0, self._positions(group)), size

    def _positions(self, group: int) -> Array:
        start, stop = self._index.starts("places")[group : group + 2]
        return self._index["places"][start:stop]

    def _span_in(self, group: int, row: int) -> tuple[int | None, int | None]:
        if self._raw_bytes[group] is not None:
            return None, None
        start, stop = self._positions(group)[row : row + 2].tolist()
        return start, stop

    def _decoded_sample(self, group: int, offset: int, data: bytes) -> dict[str, Any]:
        columns = self._columns_to_read
        at, sizes = 0, []
        for column in columns:
            if column.size is None:
                sizes.append(int.from_bytes(data[at : at + 4], "little"))
                at += 4
            else:
                sizes.append(column.size)
        if at + sum(sizes) != len(data):
            problem = f"a sample has {len(data):,} bytes, but its columns have {at + sum(sizes):,}"
            raise FileError(self._index.files[group].path, offset, problem)
        sample: dict[str, Any] = {}
        for column, size in zip(columns, sizes, strict=True):
            if column.decode is not None:
                try:
                    sample[column.name] = column.decode(data[at : at + size])
                except Exception as error:
                    if isinstance(error, ImportError) or is_of_handler(error):
                        raise
                    raise FileError(
                        self._index.files[group].path, offset, f"the column {column.name!r} cannot be decoded: {error}"
                    ) from error
            at += size
        return {name: sample[name] for name in self._names}

    @functools.cached_property
    def _columns_to_read(self) -> "list[_Column]":
        """Return all columns of the files, created in the process that reads."""
        selected, decode_images = set(self._names), self._decode_images
        return [
            _Column(
                name, size_of(encoding), decoder(encoding, decode_images=decode_images) if name in selected else None
            )
            for name, encoding in self._stored
        ]


class _Column(NamedTuple):
    name: str
    size: int | None  # of each value; None if variable
    decode: Decode | None  # None for a column that is not selected


class _Samples(Sequence[Any]):
    """Neighbours of a shard in memory, each decoded on access.

    Args:
        source: The files.
        group: The index of the shard.
        data: A part of the shard, which has these samples.
        first: The offset of this part in the shard.
        positions: The offset of each sample in the shard, and the end of the last one.
    """

    def __init__(self, source: MDS, group: int, data: bytes, first: int, positions: Array) -> None:
        self._source, self._group, self._data, self._first, self._positions = source, group, data, first, positions

    def __len__(self) -> int:
        return len(self._positions) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]  # slices are not supported
        start, stop = self._positions[index : index + 2].tolist()
        return self._source._decoded_sample(self._group, start, self._data[start - self._first : stop - self._first])

    def part(self, start: int, stop: int) -> "_Samples":
        """Return neighbours with their own memory."""
        positions = self._positions[start : stop + 1]
        first, last = int(positions[0]), int(positions[-1])
        return _Samples(
            self._source, self._group, self._data[first - self._first : last - self._first], first, positions
        )


def _listed(columns: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({encoding})" for name, encoding in columns)


def _read_index(folder: str) -> list[_Shard]:
    """Return the shards of a folder.

    Raises:
        FileNotFoundError: ``index.json``, or a shard, does not exist.
        FileError: ``index.json`` is invalid.
    """
    path = os.path.join(folder, "index.json")
    data = read_whole(path)
    try:
        content = json.loads(data)
        if content["version"] != 2:
            raise ValueError(f"version {content['version']}, expected 2")
        shards = [_shard(folder, each) for each in content["shards"]]
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        problem = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise FileError(path, None, f"it is not a valid MDS index: {problem}") from error
    if not shards:
        raise FileError(path, None, "it lists no shards")
    return shards


def _shard(folder: str, entry: dict[str, Any]) -> _Shard:
    if entry["format"] != "mds":
        raise ValueError(f"expected a shard of format 'mds', got {entry['format']!r}")
    raw = entry["raw_data"]
    path = _inside(folder, raw["basename"])
    # At a URL, use the compressed shard if there is one, without a request for a plain one, which is usually not
    # uploaded.
    if entry["zip_data"] and (is_url(folder) or not os.path.exists(path)):
        path = _inside(folder, entry["zip_data"]["basename"])
    columns = tuple(zip(entry["column_names"], entry["column_encodings"], strict=True))
    for (name, encoding), size in zip(columns, entry["column_sizes"], strict=True):
        if size != size_of(encoding):
            raise ValueError(f"the column {name!r} ({encoding}) must have size {size_of(encoding)}, got {size}")
    if not is_url(path) and not os.path.exists(path):
        raise FileNotFoundError(f"the shard {path}, which index.json lists, does not exist")
    return _Shard(path, int(entry["samples"]), int(raw["bytes"]), columns)


def _inside(folder: str, name: str) -> str:
    """Return the path of a shard, which must be inside the folder, because an index is not trusted."""
    if os.path.isabs(name) or is_url(name) or ".." in name.split("/"):
        raise ValueError(f"a shard must be inside the folder, got {name!r}")
    return os.path.join(folder, name)
