"""Compressed files, decompressed once into a cache file that is read by position.

A compressed file can only be decompressed from its beginning. The name of the cache file is derived from path, size and
version of the compressed file, so that new content gets a new file. It is created atomically. One process of a host
creates it, and the others wait.
"""

import bz2
import hashlib
import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mpqueue.errors import FileError
from mpqueue.files.index import found_or_made
from mpqueue.files.index_file import whole_or_absent
from mpqueue.files.kept import cache_errors, note_use
from mpqueue.files.opened import IndexedFile
from mpqueue.files.window import ScanWindow, open_window
from mpqueue.system import log
from mpqueue.system.extras import import_extra
from mpqueue.system.interrupts import not_of_handler

_MARKS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
# A block must be small: a block of zeros, which zstd compresses by a factor of 30,000, must fit into memory
# decompressed.
_BLOCK_BYTES = 16 * 1024


def compression_of(window: ScanWindow) -> str | None:
    """Return the compression of a file, detected from its first bytes, or None if it is not a known one."""
    first = window.read(0, 6)
    return next((name for mark, name in _MARKS.items() if first.startswith(mark)), None)


def has_zlib_mark(window: ScanWindow) -> bool:
    """Return whether a file may be a zlib stream. Its magic number matches one of 500 other files."""
    head = window.read(0, 2)
    return len(head) == 2 and head[0] & 15 == 8 and int.from_bytes(head, "big") % 31 == 0


def path_of(file: IndexedFile, folder: str, made: str = "unpacked") -> str:
    """Return the path of the cache file made from a file."""
    # Without the inode, which some network file systems change.
    key = hashlib.sha256(json.dumps([file.path, file.size, file.version, file.ctime]).encode()).hexdigest()
    return os.path.join(folder, f"{key}.{made}")


def unpack(file: IndexedFile, folder: str, compression: str | None = None, damaged_inode: int | None = None) -> str:
    """Decompress a file into a folder if the result is missing or damaged, and return its path.

    Args:
        file: The file.
        folder: The folder.
        compression: The compression; None for the result of `compression_of`.
        damaged_inode: The inode of damaged content. It is replaced, unless another thread or process has already done
            that.

    Raises:
        FileError: The file is damaged or truncated.
        OSError: The disk is full, for example.
        ImportError: The package for this compression is not installed.
    """
    path = path_of(file, folder)

    def blocks() -> Iterable[bytes]:
        if os.path.exists(path):
            log.warn(
                f"the decompressed content of {file.path} in {path} is damaged and is created again",
                "Read tar, TFRecord, Parquet and image files",
                "The index",
            )
        return _blocks(file.path, compression)

    return made_once(path, blocks, damaged_inode)


def _blocks(path: str, compression: str | None) -> Iterator[bytes]:
    with open_window(path) as window:
        yield from unpacked_blocks(window, compression)


def made_once(path: str, blocks: Callable[[], Iterable[bytes]], damaged_inode: int | None = None) -> str:
    """Write a cache file if it is missing. One process of a host writes it, and the others wait.

    Args:
        path: The path, which identifies the content.
        blocks: A function that returns the content; called only if the file is missing or damaged.
        damaged_inode: The inode of a damaged file, which counts as missing.

    Raises:
        OSError: The disk is full, for example.
        Exception: ``blocks`` or its iterator raised. No file is left.
    """

    def write() -> None:
        with whole_or_absent(path) as file:
            for block in blocks():
                with cache_errors(path):  # only errors of writing, not of reading the compressed file
                    file.write(block)

    def find() -> str | None:
        return path if os.path.exists(path) and os.stat(path).st_ino != damaged_inode else None

    found_or_made(path, find, write)
    note_use(path)
    return path


def unpacked_blocks(window: ScanWindow, compression: str | None = None) -> Iterator[bytes]:
    """Yield the content of a compressed file in blocks.

    Args:
        window: The file.
        compression: See `unpack`.

    Raises:
        FileError: The file is damaged or truncated.
        OSError: The file cannot be read.
        ImportError: The package for this compression is not installed.
    """
    path = window.path
    compression = compression or compression_of(window)
    assert compression is not None
    begin = _beginner(path, compression)
    frame: Any = None
    for at in range(0, window.size, _BLOCK_BYTES):
        data = window.read(at, _BLOCK_BYTES)
        while data:
            if frame is None:
                data = data.lstrip(b"\0")  # frames may be padded
                if not data:
                    break
                frame = begin()
            try:
                yield frame.decompress(data)
            except not_of_handler(Exception) as error:  # each library raises other errors
                raise FileError(path, at, f"it cannot be decompressed ({compression}): {error}") from error
            data = b""
            if frame.eof:
                data, frame = frame.unused_data, None
    if frame is not None:
        raise FileError(path, window.size, f"it ends before the end of its {compression} stream: it is truncated")


def _beginner(path: str, compression: str) -> Callable[[], Any]:
    """Return a factory of objects that decompress one frame."""
    if compression == "gzip":
        return lambda: zlib.decompressobj(wbits=31)
    if compression == "zlib":
        return zlib.decompressobj
    if compression == "bzip2":
        return bz2.BZ2Decompressor
    if compression == "xz":
        return lzma.LZMADecompressor
    zstandard = import_extra(
        "zstandard", f'{path} is compressed with zstd, which needs zstandard: pip install "mpqueue[files]"'
    )
    return lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
