"""The file of an index: named arrays, written once and mapped by all readers.

::

    header    a sealed block (`mpqueue.system.paths.own_files`) of JSON: the size of the whole file, and
              {name: [dtype, count, offset, CRC of the array], ...}
    arrays    little endian, each at a multiple of 64 bytes

A process that opens the file verifies all checksums, at 1.3 GB/s. A process that receives a pickle from a process that
has verified them does not verify them again: both map the same memory.

The writer renames the file to its final name (`os.replace`) when all bytes are on the disk, so a file with that name is
complete. A killed writer leaves at most a file with a temporary name, which the next writer removes. The file belongs
to mpqueue and never changes, so mapping it is safe, and all processes share its memory.

Arrays are written in parts, one per indexed file, to unnamed files in the folder, which vanish with their process. An
index can therefore be larger than the memory.
"""

import contextlib
import functools
import glob
import json
import mmap
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from mpqueue.files.access.positioned import read_at
from mpqueue.files.indexing.kept import cache_errors, note_use, open_kept
from mpqueue.system.descriptors import descriptors
from mpqueue.system.paths.own_files import SEAL_BYTES, DamagedFile, OtherVersion, seal, unseal

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

_VERSION = 6
_MARK = b"mpqueue index\n\x00" + bytes([_VERSION])
_DIGITS = 20  # of the largest offset
_ALIGNED = 64


# The identity of a file: device, inode, size, modification time.
Identity = tuple[int, int, int, int]


class IndexArrays(dict[str, Array]):
    """The arrays of an index file, mapped, read-only.

    Args:
        arrays: The arrays, by name.
        identity: The identity of the file.
        content: A checksum of the arrays, except for machine-specific ones.
    """

    def __init__(self, arrays: dict[str, Array], identity: Identity, content: int) -> None:
        super().__init__(arrays)
        self.identity, self.content = identity, content


class _Spool:
    """The parts of one array, in an unnamed file."""

    def __init__(self, folder: str, dtype: np.dtype[Any]) -> None:
        self.dtype, self.count, self.crc = dtype, 0, 0
        self.folder = folder
        with cache_errors(folder), descriptors.apart_from_standard():
            self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by the writer

    def add(self, part: Array) -> None:
        self.count += len(part)
        data = np.ascontiguousarray(part).view(np.uint8).data
        self.crc = zlib.crc32(data, self.crc)
        with cache_errors(self.folder):
            self.file.write(data)


class IndexWriter:
    """A context manager that collects arrays and writes them to one file. Temporary files are removed on exit.

    Args:
        path: The path of the file. The caller must hold a lock on it.
    """

    def __init__(self, path: str) -> None:
        self._path, self._spools = path, dict[str, _Spool]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for spool in self._spools.values():
            # The unwritten data is not needed. On a full disk, flushing it would raise another error.
            with contextlib.suppress(OSError):
                spool.file.close()

    def add(self, name: str, part: Array) -> int:
        """Append to an array, and return its length."""
        part = part.astype(part.dtype.newbyteorder("<"), copy=False)
        spool = self._spools.get(name)
        if spool is None:
            spool = self._spools[name] = _Spool(os.path.dirname(self._path), part.dtype)
        assert spool.dtype == part.dtype, f"expected {spool.dtype} for {name}, got {part.dtype}"
        spool.add(part)
        return spool.count

    def finish(self) -> None:
        """Write the file.

        Raises:
            OSError: The disk is full, for example. No file is left.
        """
        with whole_or_absent(self._path) as file, cache_errors(self._path):
            self._write(file)

    def _write(self, file: IO[bytes]) -> None:
        table: dict[str, list[Any]] = {
            name: [spool.dtype.str, spool.count, 0, spool.crc] for name, spool in self._spools.items()
        }
        # The length of the header depends on the offsets in it, and the offsets on its length, so reserve the maximum.
        end = SEAL_BYTES + len(json.dumps([0, table])) + _DIGITS * (1 + len(table))
        for name, spool in self._spools.items():
            table[name][2] = end = end + -end % _ALIGNED
            end += spool.count * spool.dtype.itemsize
        file.write(seal(_MARK, json.dumps([end, table]).encode(), os.path.basename(self._path)))
        for name, spool in self._spools.items():
            file.write(bytes(table[name][2] - file.tell()))
            spool.file.seek(0)
            shutil.copyfileobj(spool.file, file, 1 << 20)


@contextlib.contextmanager
def whole_or_absent(path: str) -> Iterator[IO[bytes]]:
    """Open a file for writing that is renamed to its final name at the end of the context, when it is on the disk.

    The caller must hold a lock on the path.

    Raises:
        OSError: The disk is full, for example. No file is left.
    """
    folder = os.path.dirname(path)
    with cache_errors(path):
        for stale in glob.glob(f"{glob.escape(path)}.*.tmp"):  # left by a killed writer
            with contextlib.suppress(OSError):  # in a shared folder, a file or folder that a different user owns
                os.unlink(stale)
        fd, name = tempfile.mkstemp(prefix=f"{os.path.basename(path)}.", suffix=".tmp", dir=folder)
    file = open(fd, "wb")  # noqa: SIM115  # closing may fail, and that error must name the path, too
    try:
        try:
            yield file
            with cache_errors(path):
                file.flush()
                os.fsync(fd)
        finally:
            with contextlib.suppress(OSError):  # after a failed write, the write's error is raised
                file.close()
        with cache_errors(path):
            os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    with cache_errors(path):
        _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Sync the folder, so that the new name is on the disk, too."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read(
    path: str, compared: Identity | None = None, of_this_machine: frozenset[str] = frozenset()
) -> IndexArrays | None:
    """Return the arrays of a file, or None if the file does not exist or has another version.

    Args:
        path: The file.
        compared: The file that was verified before. Its checksums are not verified again.
        of_this_machine: The names of machine-specific arrays, which differ on another machine with the same files.

    Raises:
        DamagedFile: The file is truncated or damaged.
        PermissionError: Another user may have written the file; see `mpqueue.system.paths.own_files`.
        OSError: The file cannot be read.
    """
    with cache_errors(path):
        try:
            held = open_kept(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        with held:
            status = os.fstat(held.fd)
            identity = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
            try:
                table = _table(held.fd, os.path.basename(path), status.st_size)
            except OtherVersion:
                return None
            except DamagedFile as error:
                raise DamagedFile(f"{path}: {error}") from None
            note_use(held.fd)
            mapped = mmap.mmap(held.fd, status.st_size, prot=mmap.PROT_READ)
    arrays = {
        name: np.frombuffer(mapped, np.dtype(dtype), count, offset) for name, (dtype, count, offset, _) in table.items()
    }
    if identity != compared:
        for name, array in arrays.items():
            if zlib.crc32(array.view(np.uint8).data) != table[name][-1]:
                raise DamagedFile(f"{path}: the checksum of {name!r} is wrong")
    known = {name: [dtype, count, crc] for name, (dtype, count, _, crc) in table.items() if name not in of_this_machine}
    return IndexArrays(arrays, identity, zlib.crc32(json.dumps(known, sort_keys=True).encode()))


def _table(fd: int, name: str, size: int) -> dict[str, list[Any]]:
    """Return the table in the header."""
    total, table = json.loads(unseal(_MARK, functools.partial(read_at, fd), size, name))
    if total != size:
        raise DamagedFile(f"expected {total:,} bytes, got {size:,}")
    checked: dict[str, list[Any]] = table
    return checked
