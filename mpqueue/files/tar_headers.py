"""The members of a tar archive: their names and where their bytes lie, from the headers alone.

POSIX ustar and pax, GNU's long names and large sizes, and the old form without a mark. It is a parser of its own:
`tarfile` takes two to five times as long for a member, and believes what a header says of sizes before it allocates.
The tests compare the two. Nothing is ever extracted: links, devices and folders are passed over, and a name is only
text.
"""

import os
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from mpqueue.errors import FileError
from mpqueue.files.unpacked import compression_of
from mpqueue.files.window import ScanWindow, open_window

_BLOCK = 512
# A name longer than this is no name, whatever the header of a long name, or of pax records, says.
_MAX_EXTENSION_BYTES = 1 << 20
_UNPACKERS = {"gzip": "gunzip -k", "bzip2": "bunzip2 -k", "xz": "unxz -k", "zstd": "unzstd"}
_ZEROS = bytes(_BLOCK)
_PLAIN = (b"0", b"\0", b"7")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, FIFOs


SPARSE = -1
TarSample = dict[str, str | bytes]


class TarMember(NamedTuple):
    """A regular file of an archive.

    Attributes:
        name: Its name.
        offset: Where its bytes begin.
        size: The number of its bytes; `SPARSE` for a sparse file, whose bytes are not in one piece.
    """

    name: bytes
    offset: int
    size: int


def sparse_text(name: str) -> str:
    """Return the text of the error for a sparse member."""
    return f"member {name!r} is a sparse file, which cannot be read: write the archive without `tar --sparse`"


def members(path: str) -> Iterator[TarMember]:
    """Yield the regular files of an archive.

    Raises:
        FileError: The file is not a tar archive, or is compressed, truncated or damaged; the error has the place.
    """
    with open_window(path) as window:
        yield from _Headers(window)


def members_in(window: ScanWindow) -> Iterator[TarMember]:
    """Yield the regular files of an archive that is open; raises as `members`.

    Only bytes from the last member on are read, so that the window can be one that only goes forward.
    """
    return iter(_Headers(window))


def split_name(name: bytes) -> tuple[bytes, bytes] | None:
    """Return the key of a member's sample and the member's suffix, in lower case; None if it belongs to no sample."""
    folder, slash, base = name.rpartition(b"/")
    stem, dot, suffix = base.partition(b".")
    return (folder + slash + stem, suffix.lower()) if stem and dot else None


class _Headers:
    """One pass over the headers of an archive."""

    def __init__(self, window: ScanWindow) -> None:
        self._window, self._at = window, 0

    def __iter__(self) -> Iterator[TarMember]:
        window = self._window
        name: bytes | None = None
        size: int | None = None
        is_sparse = False
        while True:
            head, at = window.read(self._at, _BLOCK), self._at
            if len(head) < _BLOCK:
                raise self._cut(at)
            if head == _ZEROS:
                return
            own_size = self._check(head)
            kind, start = head[156:157], at + _BLOCK
            if kind in b"LKxXg":
                extension = self._extension(start, own_size)
                if kind == b"L":
                    name = extension.partition(b"\0")[0]
                elif kind != b"K":
                    records = self._pax(extension, at)
                    of_sparse = {key for key in records if key.startswith(b"GNU.sparse.")}
                    if kind == b"g" and (of_sparse or records.keys() & {b"path", b"size"}):
                        raise self._error(at, "a pax header gives one name or one size to all that follow it")
                    if kind != b"g":
                        name = records.get(b"GNU.sparse.name", records.get(b"path", name))
                        is_sparse = bool(of_sparse)
                        size = self._number(records[b"size"], 10, at) if b"size" in records else size
                self._at = start + _padded(own_size)
                continue
            own_name = _name(head) if name is None else name
            size = own_size if size is None else size
            is_file = kind in _PLAIN and not (kind == b"\0" and own_name.endswith(b"/"))
            if kind == b"S":
                is_file = is_sparse = True
                start = self._after_sparse_map(head, start)
            length = 0 if kind in _WITHOUT_DATA else size
            if start + length > window.size:
                raise self._error(
                    at,
                    f"{_shown(own_name)} has {size:,} bytes, and the file has {max(0, window.size - start):,} more: it "
                    "is cut short, or the header is wrong",
                )
            if is_file:
                yield TarMember(own_name, start, SPARSE if is_sparse else size)
            self._at = start + _padded(length)
            name, size, is_sparse = None, None, False

    def _error(self, at: int, what: str) -> FileError:
        return self._window.error(at, what)

    def _bad_header(self, at: int, what: str) -> FileError:
        """Return the error of a header that is not one; if it is the first, the file may be compressed."""
        compression = None if at else compression_of(self._window)
        if compression is None:
            return self._error(at, what)
        command = f"{_UNPACKERS[compression]} {shlex.quote(os.path.basename(self._window.path))}"
        return self._error(
            at,
            f"the archive is compressed ({compression}), so it has no access by index: unpack it with `{command}`, or "
            "read it from front to back with mpqueue.files.TarStream",
        )

    def _cut(self, at: int) -> FileError:
        if at == 0 and not self._window.read(0, 1):
            return self._error(at, "it is empty, and no tar archive")
        return self._bad_header(at, "the archive ends without the mark of its end: it was cut short")

    def _check(self, head: bytes) -> int:
        """Return the size that a header says.

        Raises:
            FileError: The header is damaged, or none.
        """
        at = self._at
        told = self._number(head[148:156].partition(b"\0")[0], 8, at) if head[148] < 128 else -1
        unsigned = sum(head) - sum(head[148:156]) + 8 * 32
        # Some old programs added bytes above 127 as negative numbers.
        if told != unsigned and told != unsigned - 256 * sum(byte > 127 for byte in head[:148] + head[156:]):
            raise self._bad_header(at, "the header's checksum is wrong")
        field = head[124:136]
        if field[0] == 0x80:
            return int.from_bytes(field[1:], "big")
        return self._number(field.partition(b"\0")[0], 8, at)

    def _number(self, field: bytes, base: int, at: int) -> int:
        digits = field.strip() or b"0"
        # int() takes signs and underscores, too.
        if digits.isdigit():
            try:
                return int(digits, base)
            except ValueError:
                pass
        if at == 0:
            raise self._bad_header(at, "it is no tar archive")
        raise self._error(at, f"the header has {field!r} where a number should be")

    def _after_sparse_map(self, head: bytes, start: int) -> int:
        """Return where the data of an old GNU sparse file begins: after the blocks that continue its map."""
        at, continues = start - _BLOCK, head[482]
        while continues:
            block = self._window.read(start, _BLOCK)
            if len(block) < _BLOCK:
                raise self._cut(at)
            continues, start = block[504], start + _BLOCK
        return start

    def _extension(self, start: int, length: int) -> bytes:
        at = start - _BLOCK
        if length > _MAX_EXTENSION_BYTES:
            raise self._error(at, f"a header of {length:,} bytes, more than {_MAX_EXTENSION_BYTES:,}, is no header")
        data = self._window.read(start, length)
        if len(data) < length:
            raise self._cut(at)
        return data

    def _pax(self, data: bytes, at: int) -> dict[bytes, bytes]:
        """Return the records of a pax header, ``length key=value``, each with a line feed at its end."""
        records = {}
        place = 0
        while place < len(data) and data[place]:
            space = data.find(b" ", place, place + 20)
            digits = data[place:space] if space > 0 else b""
            end = place + int(digits) if digits.isdigit() else 0
            key, equals, value = data[space + 1 : end - 1].partition(b"=")
            if end > len(data) or end <= space + 1 or data[end - 1 : end] != b"\n" or not equals:
                raise self._error(at, "a record of a pax header is damaged")
            records[key] = value
            place = end
        return records


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _name(head: bytes) -> bytes:
    name = head[:100].partition(b"\0")[0]
    # GNU's mark ends in spaces, and there are times where POSIX has the first part of a long name.
    if head[257:263] == b"ustar\0" and head[345]:
        name = head[345:500].partition(b"\0")[0] + b"/" + name
    return name


def _shown(name: bytes) -> str:
    return repr(os.fsdecode(name[:200]))
