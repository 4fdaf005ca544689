"""`TFRecord`: records of TFRecord files; see `mpqueue.examples.record_frame`.

A scan reads only the lengths and verifies their checksums, because the positions of all later records depend on them.
The checksum of a payload is verified when it is read.
"""

import functools
import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mpqueue.errors import FileError, InvalidArgumentError
from mpqueue.examples.example_plan import ExamplePlan, plan
from mpqueue.examples.features import as_feature
from mpqueue.examples.reading import parse_apart, parse_one
from mpqueue.examples.record_frame import CHECK, HEADER, crc32c, masked
from mpqueue.files.access.names import Names, expand
from mpqueue.files.access.ranges import FileRange
from mpqueue.files.access.window import ScanWindow, content_error
from mpqueue.files.indexing.index import ERROR, error_array
from mpqueue.files.indexing.index_file import Arrays
from mpqueue.files.sources.unpacked import compression_of, has_zlib_mark
from mpqueue.files.sources.unpacked_source import UnpackedSource
from mpqueue.system.user_code.keywords import suggests_keywords


@suggests_keywords
class TFRecord(UnpackedSource):
    """Records of TFRecord files, as `bytes`, or parsed as ``tf.train.Example``.

    Without ``features``, a sample is the record itself. With ``features`` it is a `dict` with these keys, and records
    that are read together are parsed together. TensorFlow is not needed.

    Compressed files (TensorFlow's GZIP and ZLIB, also zstd, bzip2 and xz) are decompressed once, into the index folder,
    which must have space for the decompressed records.

    Args:
        paths: A path, or a list of them; ``*`` and ``?`` match existing files, and ``{000..099}`` expands
            to a hundred names.
        features: Features to parse, by key: `mpqueue.files.FixedLenFeature`, `mpqueue.files.VarLenFeature`,
            `mpqueue.files.FixedLenSequenceFeature`, or TensorFlow's classes with these names. A value is an array of
            the shape of its feature (a NumPy scalar or `bytes` for ``[]``); for a `VarLenFeature`, the array of its
            values. Strings are `bytes`. If None, records are not parsed.
        check_crc: Verify the checksums; needs the extra ``files``.
        exclude: A pattern of files to exclude, or a list of patterns. A pattern without a slash is compared with the
            file's name.
        on_error: What to do if a file is truncated or damaged when the source is created. ``"raise"`` raises a
            `FileError`. ``"skip"`` reads the records before the damage, and logs a warning that names the position; see
            `file_errors`. A file without such records is skipped, and also a damaged compressed file.
        index: The folder for the index, which is created once. If None, ``$XDG_CACHE_HOME/mpqueue``.

    Raises:
        FileNotFoundError: A file does not exist, no file matches, or ``exclude`` excludes all of them.
        FileError: A file is not a TFRecord file, is truncated or damaged, or the checksum of a length is wrong. When
            reading: the checksum of a record is wrong, or the record is not an Example with these features.
        ValueError: ``features`` is empty, or contains an object that is not a feature. Or ``on_error`` is unknown.
        TypeError: ``features`` is not a mapping, or a feature has a dtype that Examples do not support.
        ImportError: ``check_crc`` is True and google-crc32c is not installed; or a file is compressed with zstd, and
            zstandard is not installed (extra ``files``).

    Follows: TensorFlow's TFRecord files, and ``tf.io.parse_single_example``. A partial header at the end of a file is
        an error here.

    Example:
        >>> import mpqueue, pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> with mpqueue.python_io.TFRecordWriter(str(folder / "a.tfrecord")) as writer:
        ...     for record in (b"one", b"two", b"three"):
        ...         writer.write(record)
        >>> records = mpqueue.files.TFRecord(folder / "*.tfrecord", index=folder)
        >>> len(records), records[2]
        (3, b'three')
    """

    def __init__(
        self,
        paths: Names,
        *,
        features: Mapping[str, Any] | None = None,
        check_crc: bool = True,
        exclude: Names | None = None,
        on_error: str = "raise",
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        if features is not None:
            plan(features)  # raises for wrong features now, not in a worker
        self._features = None if features is None else {key: as_feature(value) for key, value in features.items()}
        find = functools.partial(_records_to_error if on_error == "skip" else _records, check_crc)
        # The checksum of a record follows it, and is read with it.
        self._check_bytes = CHECK.size if check_crc else 0
        form = f"tfrecord, check_crc={check_crc}"
        files = expand(paths, exclude)
        super().__init__(form, 3, files, find, _compression, index, self._check_bytes, on_error=on_error)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return samples by index; raises as ``[i]``."""
        records = super().__getitems__(indices)
        if self._features is None or not records:
            return records
        try:
            parsed = parse_apart(records, plan(self._features))
        except InvalidArgumentError:
            self._raise_for_bad(indices, records, plan(self._features))
            raise
        # Each row gets separate memory, so that keeping one sample does not keep the others.
        columns = [column if _has_own_rows(column) else [row.copy() for row in column] for column in parsed.values()]
        return [dict(zip(parsed, values, strict=True)) for values in zip(*columns, strict=True)]

    def _raise_for_bad(self, indices: Sequence[int], records: list[bytes], features: ExamplePlan) -> None:
        for index, record in zip(indices, records, strict=True):
            try:
                parse_one(record, features.by_key, None)
            except InvalidArgumentError as error:
                raise self._error(self._ranges(*self._position(index))[0], str(error)) from error

    def _ranges(self, index: int, file: int) -> list[FileRange]:
        offset, length = int(self._index["offsets"][index]), int(self._index["lengths"][index])
        return [FileRange(file, offset, length + self._check_bytes)]

    def _span(self, index: int, file: int) -> tuple[int | None, int | None]:
        start, stop = super()._span(index, file)
        return start, None if stop is None else stop - self._check_bytes

    def _sample(self, index: int, ranges: list[FileRange], parts: list[bytes]) -> bytes:
        (record,) = parts
        if not self._check_bytes:
            return record
        payload = record[: -CHECK.size]
        if masked(_crc32c()(payload)) != CHECK.unpack_from(record, len(payload))[0]:
            raise self._error(ranges[0], "the checksum of the record is wrong")
        return payload


def _has_own_rows(column: Any) -> bool:
    """Return whether the items of a column are not views: lists of arrays, and arrays of scalars."""
    return isinstance(column, list) or column.ndim == 1


def _compression(window: ScanWindow) -> str | None:
    compression = compression_of(window) or ("zlib" if has_zlib_mark(window) else None)
    if compression is None:
        return None
    # The length of a first record can look like a magic number. Its checksum is then correct.
    header = window.read(0, HEADER.size)
    is_record = len(header) == HEADER.size and masked(_slow_crc32c(header[:8])) == HEADER.unpack(header)[1]
    # zlib does not write four zero bytes there, unlike the upper half of a length. The checksum may be missing.
    return None if is_record or (compression == "zlib" and header[4:8] == bytes(4)) else compression


def _records(check_crc: bool, window: ScanWindow, path: str) -> Arrays:
    """Return the positions of the payloads.

    Raises:
        FileError: The file is not a TFRecord file, or is truncated or damaged.
    """
    arrays, error = _scanned(check_crc, window, path)
    if error is not None:
        raise error
    return arrays


def _records_to_error(check_crc: bool, window: ScanWindow, path: str) -> Arrays:
    """Return the same for the records before an error, and the error.

    Raises:
        FileError: No such record exists.
    """
    arrays, error = _scanned(check_crc, window, path)
    if error is None:
        return arrays
    if error.offset is None or not len(arrays["offsets"]):
        raise error
    shown = error if window.path == path else content_error(path, error.offset, error.what)
    return arrays | {ERROR: error_array(f"{shown}; only the records before it are read")}


def _scanned(check_crc: bool, window: ScanWindow, path: str) -> tuple[Arrays, FileError | None]:
    """Return the positions of the payloads up to the first error, and the error."""
    offsets, lengths = array("q"), array("q")
    error: FileError | None = None
    try:
        for offset, length in _payloads(check_crc, window, path):
            offsets.append(offset)
            lengths.append(length)
    except FileError as damaged:
        error = damaged
    return {"offsets": np.frombuffer(offsets, np.int64), "lengths": np.frombuffer(lengths, np.int64)}, error


def _payloads(check_crc: bool, window: ScanWindow, path: str) -> Iterator[tuple[int, int]]:
    """Yield the position and length of each payload; raises as `_records`."""
    crc_of = _crc32c() if check_crc else None
    at = 0
    while at < window.size:
        header = window.read(at, HEADER.size)
        if len(header) < HEADER.size:
            raise FileError(path, at, "the file ends in the header of a record: it is truncated")
        length, check = HEADER.unpack(header)
        # The positions of all later records depend on this length.
        if crc_of is not None and masked(crc_of(header[:8])) != check:
            raise FileError(
                path, at, "the checksum of a record's length is wrong" if at else "it is not a TFRecord file"
            )
        start = at + HEADER.size
        at = start + length + CHECK.size
        if at > window.size:
            raise FileError(
                path,
                start - HEADER.size,
                f"a record and its checksum have {length + CHECK.size:,} bytes, but only {window.size - start:,} "
                "bytes follow: the file is truncated, or not a TFRecord file",
            )
        yield start, length


def _slow_crc32c(data: bytes) -> int:
    """Return the checksum of a few bytes without google-crc32c."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def _crc32c() -> Callable[[bytes], int]:
    return crc32c(
        'the checksums of TFRecord files need google-crc32c: pip install "mpqueue[files]"; or check_crc=False'
    )
