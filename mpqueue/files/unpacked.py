"""Compressed files, unpacked once into a file of the cache, from which they are read by position.

Nothing of a compressed file can be read before all that lies in front of it is unpacked. The file of the cache follows
from path, size and version of the compressed one, so that one of other content has another. It is whole or absent; one
process of a host makes it, others wait.
"""

import bz2
import hashlib
import json
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from mpqueue.errors import FileError
from mpqueue.files.index import locked
from mpqueue.files.index_file import whole_or_absent
from mpqueue.files.kept import cache_errors, note_use
from mpqueue.files.opened import IndexedFile
from mpqueue.files.window import ScanWindow, open_window
from mpqueue.system import log

_MARKS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
# What a block makes of zeros alone, 30,000 times as much with zstd, still fits into memory.
_BLOCK_BYTES = 16 * 1024


def compression_of(window: ScanWindow) -> str | None:
    """Return what a file is compressed by, from its first bytes; None: nothing that is known."""
    first = window.read(0, 6)
    return next((name for mark, name in _MARKS.items() if first.startswith(mark)), None)


def has_zlib_mark(window: ScanWindow) -> bool:
    """Return whether a file may be a zlib stream. The mark has two bytes only: one of 500 other files has it, too."""
    head = window.read(0, 2)
    return len(head) == 2 and head[0] & 15 == 8 and int.from_bytes(head, "big") % 31 == 0


def path_of(file: IndexedFile, folder: str, made: str = "unpacked") -> str:
    """Return the path in the cache of what is made of a file."""
    # Not from the inode, which some network file systems change.
    key = hashlib.sha256(json.dumps([file.path, file.size, file.version, file.ctime]).encode()).hexdigest()
    return os.path.join(folder, f"{key}.{made}")


def unpack(file: IndexedFile, folder: str, compression: str | None = None) -> str:
    """Unpack a file into a folder, if it is not there; return its path.

    Args:
        file: The file.
        folder: The folder.
        compression: How it is compressed; None: what `compression_of` returns.

    Raises:
        FileError: It is damaged or cut short.
        OSError: The system's; the disk is full, say.
        ImportError: What unpacks it is not installed.
    """
    return made_once(path_of(file, folder), lambda: _blocks(file.path, compression))


def unpack_again(file: IndexedFile, folder: str, compression: str | None, damaged_inode: int) -> None:
    """Replace damaged content of a file of the cache; nothing if another process has replaced it.

    Args:
        file: The compressed file.
        folder: See `unpack`.
        compression: See `unpack`.
        damaged_inode: The inode of the content.

    Raises:
        FileError, OSError, ImportError: As `unpack`.
    """
    path = path_of(file, folder)
    with locked(f"{path}.lock"):
        if os.path.exists(path):
            if os.stat(path).st_ino != damaged_inode:
                return
            log.warn(
                f"the unpacked content of {file.path} in {path} is damaged, and is made again",
                "Your files",
                "The index",
            )
        with whole_or_absent(path) as content:
            _write(path, content, _blocks(file.path, compression))


def _blocks(path: str, compression: str | None) -> Iterator[bytes]:
    with open_window(path) as window:
        yield from unpacked_blocks(window, compression)


def made_once(path: str, blocks: Callable[[], Iterable[bytes]]) -> str:
    """Write a file of the cache if it is not there: by one process of a host, while others wait.

    Args:
        path: Its name, which says what is in it.
        blocks: Returns what it has; not called if it is there.

    Raises:
        OSError: The system's; the disk is full, say.
        Exception: What ``blocks`` or its iterator raises; nothing is left then.
    """
    if not os.path.exists(path):
        with cache_errors(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with locked(f"{path}.lock"):
            if not os.path.exists(path):
                with whole_or_absent(path) as file:
                    _write(path, file, blocks())
    note_use(path)
    return path


def _write(path: str, file: IO[bytes], blocks: Iterable[bytes]) -> None:
    for block in blocks:
        with cache_errors(path):  # and not those of the file that is unpacked
            file.write(block)


def unpacked_blocks(window: ScanWindow, compression: str | None = None) -> Iterator[bytes]:
    """Yield the content of a compressed file, a block at a time.

    Args:
        window: The file.
        compression: See `unpack`.

    Raises:
        FileError: The file is damaged or truncated.
        OSError: The file cannot be read.
        ImportError: The package that unpacks it is not installed.
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
            except FileError:
                raise
            except Exception as error:  # each library has its own
                raise FileError(path, at, f"it cannot be unpacked ({compression}): {error}") from error
            data = b""
            if frame.eof:
                data, frame = frame.unused_data, None
    if frame is not None:
        raise FileError(path, window.size, f"it ends before what is compressed in it ({compression}): it was cut short")


def _beginner(path: str, compression: str) -> Callable[[], Any]:
    """Return what makes an object that unpacks one frame."""
    if compression == "gzip":
        return lambda: zlib.decompressobj(wbits=31)
    if compression == "zlib":
        return zlib.decompressobj
    if compression == "bzip2":
        return bz2.BZ2Decompressor
    if compression == "xz":
        return lzma.LZMADecompressor
    try:
        import zstandard
    except ImportError as missing:
        raise ImportError(
            f'{path} is compressed by zstd, which needs zstandard: pip install "mpqueue[files]"'
        ) from missing
    return lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
