"""Compressed files, decompressed once into a cache file that is read by position.

A compressed file can only be decompressed from its beginning. The name of the cache file is derived from path, size and
version of the compressed file, so that new content gets a new file. It is created atomically. One process of a host
creates it, and the others wait.

Next to the cache file is a second file, ``*.check``, with the size and checksum of the content. So damaged content is
found without the index, too. Content without a valid ``*.check`` is created again.
"""

import bz2
import contextlib
import functools
import hashlib
import json
import lzma
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mpqueue.errors import FileError
from mpqueue.files.access.opened import IndexedFile
from mpqueue.files.access.positioned import read_at
from mpqueue.files.access.window import ScanWindow, open_window
from mpqueue.files.indexing.index import found_or_made
from mpqueue.files.indexing.index_file import whole_or_absent
from mpqueue.files.indexing.kept import cache_errors, note_use, open_kept
from mpqueue.system import log
from mpqueue.system.descriptors.held_descriptors import HeldDescriptor
from mpqueue.system.paths.own_files import DamagedFile, OtherVersion, seal, unseal
from mpqueue.system.signals.interrupts import not_of_handler
from mpqueue.system.user_code.extras import import_extra

_MARKS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
# A block must be small: a block of zeros, which zstd compresses by a factor of 30,000, must fit into memory
# decompressed.
_BLOCK_BYTES = 16 * 1024
_READ_BYTES = 4 * 1024 * 1024
# The most zeros after an archive or a frame: an end mark of two blocks, and the other 19 blocks of a record of GNU tar.
MAX_PADDING_BYTES = 21 * 512
_CHECK_MARK = b"mpqueue content" + bytes([1])
_CHECK = struct.Struct("<QI")  # size and CRC of the content


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
    return made_once(path_of(file, folder), lambda: _blocks(file.path, compression), file.path, damaged_inode)


def _blocks(path: str, compression: str | None) -> Iterator[bytes]:
    with open_window(path) as window:
        yield from unpacked_blocks(window, compression)


class KeptFile(IndexedFile):
    """A file of the index folder; its owner is checked whenever it is opened."""

    __slots__ = ()

    def open(self) -> HeldDescriptor:
        """Open the file for reading.

        Raises:
            PermissionError: Another user may have written the file.
            OSError: The file cannot be opened.
        """
        return open_kept(self.path, os.O_RDONLY)

    @classmethod
    def of(cls, path: str) -> "KeptFile":
        """Return the current state of a file, and note its use. Raises as `open`."""
        with open_kept(path, os.O_RDONLY) as held:
            note_use(held.fd)
            status = os.fstat(held.fd)
        return cls(path, 0, 0).at(status)

    def is_same(self, other: IndexedFile) -> bool:
        """Return whether a file is the same. Its content has checksums, and `note_use` changes its ctime."""
        names = self.path, self.size, self.version, self.inode
        return names == (other.path, other.size, other.version, other.inode)


def has_size(fd: int, size: int, crc: int) -> bool:  # noqa: ARG001 - as `has_content`
    """Return whether an open file has a size."""
    return os.fstat(fd).st_size == size


def has_content(fd: int, size: int, crc: int) -> bool:
    """Return whether an open file has a size and a checksum."""
    found = 0
    for at in range(0, size, _READ_BYTES):
        found = zlib.crc32(read_at(fd, at, _READ_BYTES), found)
    return found == crc and has_size(fd, size, crc)


def made_once(
    path: str,
    blocks: Callable[[], Iterable[bytes]],
    origin: str,
    damaged_inode: int | None = None,
    is_intact: Callable[[int, int, int], bool] = has_content,
) -> str:
    """Write a cache file if it is missing or damaged. One process of a host writes it, and the others wait.

    Args:
        path: The path, which identifies the content.
        blocks: A function that returns the content; called only if the file is missing or damaged.
        origin: The file that the content is made of, for the warning about a damaged file.
        damaged_inode: The inode of a damaged file, which counts as missing.
        is_intact: A function of a descriptor, a size and a checksum: `has_content`, or `has_size`, which takes less
            time.

    Raises:
        PermissionError: Another user may have written the file.
        OSError: The disk is full, for example.
        Exception: ``blocks`` or its iterator raised. No file is left.
    """
    check, basename, is_made = f"{path}.check", os.path.basename(path), False

    def write() -> None:
        nonlocal is_made
        if os.path.lexists(path):
            log.warn(
                f"the content of {origin} in {path} is damaged, or its checksum is missing: it is created again",
                "Files",
                "The index",
            )
        with cache_errors(check), contextlib.suppress(FileNotFoundError):
            os.unlink(check)  # it must never be next to other content
        size = crc = 0
        with whole_or_absent(path) as file:
            for block in blocks():
                with cache_errors(path):  # only errors of writing, not of reading the compressed file
                    file.write(block)
                size, crc = size + len(block), zlib.crc32(block, crc)
        with whole_or_absent(check) as file, cache_errors(check):
            file.write(seal(_CHECK_MARK, _CHECK.pack(size, crc), basename))
        is_made = True

    def find() -> str | None:
        if is_made:
            return path
        with cache_errors(path), contextlib.ExitStack() as opened:
            try:
                fd, check_fd = (opened.enter_context(_opened(name)).fd for name in (path, check))
                body = unseal(_CHECK_MARK, functools.partial(read_at, check_fd), os.fstat(check_fd).st_size, basename)
                size, crc = _CHECK.unpack(body)
            except (FileNotFoundError, DamagedFile, OtherVersion, struct.error):
                return None
            is_valid = os.fstat(fd).st_ino != damaged_inode and is_intact(fd, size, crc)
        return path if is_valid else None

    return found_or_made(path, find, write)


def _opened(path: str) -> HeldDescriptor:
    held = open_kept(path, os.O_RDONLY)
    note_use(held.fd)
    return held


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
    padding = 0
    for at in range(0, window.size, _BLOCK_BYTES):
        data = window.read(at, _BLOCK_BYTES)
        while data:
            if frame is None:
                size, data = len(data), data.lstrip(b"\0")  # frames may be padded
                padding += size - len(data)
                if padding > MAX_PADDING_BYTES:
                    raise FileError(
                        path,
                        at,
                        f"more than {MAX_PADDING_BYTES:,} zeros follow a {compression} stream, expected at most "
                        "padding: the download or copy is incomplete",
                    )
                if not data:
                    break
                frame, padding = begin(), 0
            try:
                content = frame.decompress(data)
            except not_of_handler(Exception) as error:  # each library raises other errors
                raise FileError(path, at, f"it cannot be decompressed ({compression}): {error}") from error
            yield content  # outside of the `try`, so that the end of an unfinished generator runs no code
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
