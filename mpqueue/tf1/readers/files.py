"""`read_file` and `matching_files`: whole files, and file names that match a pattern."""

# ruff: noqa: ARG001 - `name` is part of TensorFlow's signatures

import ctypes
import functools
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.readers.failures import file_error
from mpqueue.tf1.readers.opening import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    FileName,
    file_name,
    local_path,
    open_input,
    remote_filesystem,
    remote_scheme,
)

_WILDCARD = re.compile(rb"[*?\[\\]")


def read_all(name: bytes, max_bytes: int | None = None) -> bytes | None:
    """Return the contents of a file, or None if the file exceeds ``max_bytes``; reads at most one chunk more."""
    source = open_input(name)
    try:
        parts: list[bytes] = []
        num_bytes = 0
        if max_bytes is not None and source.size_hint > max_bytes:
            source.read(1)  # a directory must raise its error first
            return None
        # Read one byte more than expected, so that the end of the file needs no second read.
        wanted = min(source.size_hint + 1, CHUNK_BYTES) if source.size_hint else BLOCK_BYTES
        while part := source.read(wanted):
            parts.append(part)
            num_bytes += len(part)
            if max_bytes is not None and num_bytes > max_bytes:
                return None
        return b"".join(parts)
    finally:
        source.close()


def read_file(filename: FileName, name: str | None = None) -> bytes:
    """Return the contents of a file.

    Args:
        filename: A local path, an ``os.PathLike``, or a URL (extra ``[files]``).
        name: No effect.

    Raises:
        TypeError: ``filename`` is not a file name.
        NotFoundError: The file does not exist.
        FailedPreconditionError: The path is a directory, FIFO or device.
        PermissionDeniedError, ...: Other errors of the operating system.

    Follows: ``tf.io.read_file``.
    """
    content = read_all(file_name(filename))
    assert content is not None
    return content


def matching_files(pattern: FileName | Iterable[FileName], name: str | None = None) -> NDArray[np.object_]:
    r"""Return the names of the files and directories that match a pattern, sorted as bytes.

    ``*`` matches any characters except ``/``, including a leading dot. ``?`` matches one character, ``[ab0-9]`` one of
    these, ``[!a]`` or ``[^a]`` any other one. ``\`` quotes the next character. Directories may contain wildcards;
    unreadable directories are skipped. If a wildcard precedes the first ``/``, the names start with ``./``. fsspec
    matches URLs, by its own rules.

    Args:
        pattern: One pattern, or several. A name that matches several patterns is returned several times.
        name: No effect.

    Returns:
        A one-dimensional array of ``bytes`` objects, which is empty if no name matches.

    Raises:
        TypeError: A pattern is not a string, bytes or ``os.PathLike``.
        InvalidArgumentError: ``pattern`` has two or more dimensions.
        UnavailableError, ...: Errors of a remote file system.

    Follows: ``tf.io.matching_files``.
    """
    patterns = np.asarray(pattern, object)
    if patterns.ndim > 1:
        raise InvalidArgumentError(None, None, f"pattern must be one or a list, got the shape {patterns.shape}.")
    matches = sorted(match for one in patterns.ravel() for match in _matches(file_name(one)))
    names = np.empty(len(matches), object)
    names[:] = matches
    return names


def _matches(pattern: bytes) -> list[bytes]:
    if remote_scheme(pattern):
        return _remote_matches(pattern)
    path = local_path(pattern)
    prefix = pattern[: len(pattern) - len(path)]
    return [prefix + match for match in _local_matches(path)]


def _local_matches(pattern: bytes) -> list[bytes]:
    if b"\0" in pattern:  # no file name contains it, and the C library would treat it as the end of the pattern
        return []
    first = _WILDCARD.search(pattern)
    if first is None:
        return [pattern] if os.path.exists(pattern) else []
    plain, slash, _ = pattern[: first.start()].rpartition(b"/")
    places = [plain or slash or b"."]
    for part in filter(None, pattern[len(plain) :].split(b"/")):
        places = [match for place in places for match in _inside(place, part)]
    return places


def _inside(folder: bytes, part: bytes) -> list[bytes]:
    """Return the paths in a directory that match one part of a pattern; empty if the directory is unreadable."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    start = folder if folder.endswith(b"/") else folder + b"/"
    fnmatch = _fnmatch()
    return [start + name for name in names if fnmatch(part, name, 0) == 0]


@functools.cache
def _fnmatch() -> Callable[[bytes, bytes, int], int]:
    """Return the C library's `fnmatch`, which TensorFlow uses. Python's supports neither escapes nor ``[^a]``."""
    function = ctypes.CDLL(None).fnmatch
    function.argtypes, function.restype = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int), ctypes.c_int
    matches: Callable[[bytes, bytes, int], int] = function
    return matches


def _remote_matches(pattern: bytes) -> list[bytes]:
    filesystem, path = remote_filesystem(pattern)
    scheme = pattern.partition(b"://")[0].decode("ascii")
    try:
        matches: list[Any] = filesystem.glob(path)
    except Exception as problem:
        raise file_error(problem, pattern) from problem
    return [os.fsencode(match if "://" in match else f"{scheme}://{match}") for match in matches]
