"""Files that this package writes and reads back. One rule decides whether their contents are used.

*Who has written a file*, see `open_own`: the file is a regular one, not a symbolic link, and has no second name (hard
link). It belongs to this user or root, and no other user may write to it. Root is trusted, because it can do anything
anyway. The rule is checked on the open descriptor: a path that is checked first may lead to another file when it is
opened. A file that breaks the rule raises an error, and no byte of it is read. A file that is written and never read
may have any owner, see `open_output`: only a link could lead to another file.

*The contents*, see `seal` and `unseal`: files begin with a sealed block, which has the kind of the file, the
version of its format, and a checksum. The checksum also covers a name, so a file that was copied to the name of a
different file counts as damaged. A file of a different version, or a damaged one, is created again, or rejected with a
clear error::

    mark     16 bytes: the kind, and the version in the last byte
    length   uint64: the number of bytes of the body
    check    uint32: the CRC of the name, the mark, the length and the body
    body
"""

import errno
import os
import stat
import struct
import zlib
from collections.abc import Callable

from mpqueue.system.descriptors.held_descriptors import HeldDescriptor

_MARK_BYTES = 16
_HEAD = struct.Struct(f"<{_MARK_BYTES}sQ")
_CHECK = struct.Struct("<I")
SEAL_BYTES = _HEAD.size + _CHECK.size
# Without O_NONBLOCK, opening a named pipe would block until it has a writer.
_AS_IT_IS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE = {errno.ENXIO, errno.EISDIR, errno.ENODEV}  # a socket, a folder, a device without a driver
_UNKNOWN = 65534  # the kernel shows it in place of an owner without a uid in this container; so do network file systems


class DamagedFile(Exception):
    """The contents of a file differ from the written ones; the message contains the difference."""


class OtherVersion(Exception):
    """The file has another version of its format.

    Attributes:
        version: The version.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"version {version}")
        self.version = version


def open_own(
    path: str, flags: int, remedy: str, error: type[Exception] = PermissionError, kind: str = "", mode: int = 0o600
) -> HeldDescriptor:
    """Open a file that only this user or root can have written; see the module's docstring.

    Args:
        path: The path.
        flags: Flags of `os.open`. O_CLOEXEC is added.
        remedy: Advice to the user about a file that breaks the rule; part of the error.
        error: The exception to raise for such a file.
        kind: The kind of file, for the error, such as ``"the journal "``.
        mode: The permissions of a new file.

    Raises:
        Exception: ``error``, if another user may have written the file.
        OSError: The file does not exist, or cannot be opened.
    """
    return _open(path, flags, remedy, error, kind, mode, _problem_of_writers)


def open_output(path: str, flags: int, remedy: str, mode: int = 0o600) -> HeldDescriptor:
    """Open a file to write to it, and not a file that a link leads to. See `open_own`.

    Raises:
        PermissionError: The file is a link, or has a second name.
        OSError: The file cannot be opened.
    """
    return _open(path, flags, remedy, PermissionError, "", mode, _problem_of_links)


def _open(
    path: str,
    flags: int,
    remedy: str,
    error: type[Exception],
    kind: str,
    mode: int,
    problem_of: Callable[[os.stat_result, str, str], str],
) -> HeldDescriptor:
    """Open a file without following a link, and check it."""
    what = f"{kind}{path}"
    try:
        held = HeldDescriptor(os.open, path, flags | _AS_IT_IS, mode)
    except OSError as refused:
        if refused.errno == errno.ELOOP and os.path.islink(path):  # otherwise, the links of its folder form a loop
            raise error(f"{what} is a symbolic link, expected a file: {remedy}") from refused
        if refused.errno in _NO_FILE:
            raise error(f"{what} is not a regular file: {remedy}") from refused
        raise
    problem = problem_of(os.fstat(held.fd), what, path)
    if problem:
        held.close()  # the traceback refers to it
        raise error(problem + remedy)
    return held


def _problem_of_links(status: os.stat_result, what: str, path: str) -> str:  # noqa: ARG001 - as `_problem_of_writers`
    """Return why a file may belong to a different name, for the remedy to follow; empty if it is not."""
    # None at all: another process has just replaced the file.
    if status.st_nlink > 1:
        return f"{what} has {status.st_nlink} names (hard links), expected one: "
    return ""


def _problem_of_writers(status: os.stat_result, what: str, path: str) -> str:
    """Return why another user may have written a file, for the remedy to follow; empty if none can have done it."""
    if not stat.S_ISREG(status.st_mode):
        return f"{what} is not a regular file: "
    if status.st_uid not in {os.geteuid(), 0}:
        owner = f"{what} belongs to uid {status.st_uid}, but this process runs as uid {os.geteuid()}"
        if status.st_uid == _UNKNOWN:
            owner += (
                f" (uid {_UNKNOWN} may be an owner that a container or a network file system does not know; if it is "
                "you, use a local folder)"
            )
        return f"{owner}: "
    if status.st_mode & 0o022:
        mode = stat.S_IMODE(status.st_mode)
        trust = f"if you trust its contents, run chmod go-w {path}"
        return f"other users may write to {what} (mode {mode:04o}): {trust}, otherwise "
    return _problem_of_links(status, what, path)


def seal(mark: bytes, body: bytes, name: str = "") -> bytes:
    """Return a block of bytes with a mark and a checksum.

    Args:
        mark: The kind of file and the version of its format, 16 bytes.
        body: The contents.
        name: The name that the checksum covers.
    """
    assert len(mark) == _MARK_BYTES
    head = _HEAD.pack(mark, len(body))
    return head + _CHECK.pack(_crc(name, head, body)) + body


def unseal(mark: bytes, read: Callable[[int, int], bytes], size: int, name: str = "") -> bytes:
    """Return the body of the block at the beginning of a file.

    Args:
        mark: See `seal`.
        read: Returns bytes for an offset and a length; fewer at the end of the file.
        size: The size of the file in bytes.
        name: See `seal`.

    Raises:
        DamagedFile: The file is of a different kind, truncated or damaged.
        OtherVersion: The file is of this kind and has another version.
    """
    head = read(0, SEAL_BYTES)
    found = head[:_MARK_BYTES]
    if len(found) == _MARK_BYTES and found[:-1] == mark[:-1] and found != mark:
        raise OtherVersion(found[-1])
    if found != mark:
        raise DamagedFile("it is a file of another kind" if found else "it is empty")
    if len(head) < SEAL_BYTES:
        raise DamagedFile("it is truncated")
    _, length = _HEAD.unpack_from(head)
    # Compare before reading: a damaged length must not allocate memory.
    if SEAL_BYTES + length > size:
        raise DamagedFile("it is truncated, or the length in its header is wrong")
    body = read(SEAL_BYTES, length)
    if _CHECK.unpack_from(head, _HEAD.size)[0] != _crc(name, head[: _HEAD.size], body):
        raise DamagedFile("the checksum of its header is wrong")
    return body


def _crc(name: str, head: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(head, zlib.crc32(os.fsencode(name))))
