"""The file of an index: named arrays, written once, mapped by all who read it.

::

    mark      16 bytes, which tell the version of this form, too
    header    uint64: its bytes; uint64: the bytes of the whole file; then JSON: {name: [dtype, count, offset], ...}
    arrays    little endian, each at a multiple of 64 bytes

Who writes it gives the whole file its name at the very end (`os.replace`), when its bytes are on the disk. So a file
of that name is whole, and a writer that is killed leaves at most one of another name, which the next one removes. It is
our own file, and never changed: to map it is safe, and what many processes map is in memory once.

Arrays come in parts, one of each for each file that was indexed, and go through nameless files of the folder, which are
gone with their process: an index may be larger than the memory.
"""

import contextlib
import glob
import json
import mmap
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from mpqueue.files.kept import note_use
from mpqueue.system import descriptors

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

_MARK = b"mpqueue index\n\x00\x02"
_HEAD = struct.Struct("<16sQQ")
_ALIGNED = 64


class _Spool:
    """The parts of one array."""

    def __init__(self, folder: str, dtype: np.dtype[Any]) -> None:
        self.dtype, self.count = dtype, 0
        with descriptors.apart_from_standard():
            self.file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # the writer closes it

    def add(self, part: Array) -> None:
        self.count += len(part)
        self.file.write(np.ascontiguousarray(part).view(np.uint8).data)


class IndexWriter:
    """Collects arrays, and writes them into one file; a context, at whose end nothing of it is left but that file.

    Args:
        path: Of the file. Nobody else may write one of this name meanwhile.
    """

    def __init__(self, path: str) -> None:
        self._path, self._spools = path, dict[str, _Spool]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for spool in self._spools.values():
            spool.file.close()

    def add(self, name: str, part: Array) -> int:
        """Add to the end of an array; return its length."""
        part = part.astype(part.dtype.newbyteorder("<"), copy=False)
        spool = self._spools.get(name)
        if spool is None:
            spool = self._spools[name] = _Spool(os.path.dirname(self._path), part.dtype)
        assert spool.dtype == part.dtype, f"{name} is {part.dtype}, and was {spool.dtype}"
        spool.add(part)
        return spool.count

    def finish(self) -> None:
        """Write the file.

        Raises:
            OSError: The system's; the disk is full, say. Nothing is left.
        """
        with whole_or_absent(self._path) as file:
            self._write(file)

    def _write(self, file: IO[bytes]) -> None:
        table: dict[str, list[Any]] = {name: [spool.dtype.str, spool.count, 0] for name, spool in self._spools.items()}
        # How long the header is depends on the offsets in it, and these on its length: so room is left for any.
        room = _HEAD.size + len(json.dumps(table)) + 20 * len(table)  # offsets have 20 digits at most
        end = room
        for name, spool in self._spools.items():
            table[name][2] = end = end + -end % _ALIGNED
            end += spool.count * spool.dtype.itemsize
        header = json.dumps(table).encode()
        file.write(_HEAD.pack(_MARK, len(header), end) + header)
        for name, spool in self._spools.items():
            file.write(bytes(table[name][2] - file.tell()))
            spool.file.seek(0)
            shutil.copyfileobj(spool.file, file, 1 << 20)


@contextlib.contextmanager
def whole_or_absent(path: str) -> Iterator[IO[bytes]]:
    """Open a file for writing that gets its name at the end of this context, when it is on the disk.

    Nobody else may write one of this name meanwhile.

    Raises:
        OSError: The system's; the disk is full, say. Nothing is left.
    """
    folder = os.path.dirname(path)
    for stale in glob.glob(f"{glob.escape(path)}.*.tmp"):
        os.unlink(stale)  # of a writer that was killed
    fd, name = tempfile.mkstemp(prefix=f"{os.path.basename(path)}.", suffix=".tmp", dir=folder)
    try:
        with open(fd, "wb") as file:
            yield file
            file.flush()
            os.fsync(fd)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Have the new name on the disk, too."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read(path: str) -> Mapping[str, Array] | None:
    """Return the arrays of a file, read-only; None: there is none, or none of this form.

    Raises:
        OSError: The system's.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(fd).st_size
        head = os.pread(fd, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            return None
        mark, length, total = _HEAD.unpack(head)
        # One that was cut, by a copy or a damaged disk, is as good as none: it is made again.
        if mark != _MARK or total != size:
            return None
        header = os.pread(fd, length, _HEAD.size)
        mapped = mmap.mmap(fd, size, prot=mmap.PROT_READ)
    finally:
        os.close(fd)
    note_use(path)
    return {
        name: np.frombuffer(mapped, np.dtype(dtype), count, offset)
        for name, (dtype, count, offset) in json.loads(header).items()
    }
