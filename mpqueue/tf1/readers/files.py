"""read_file and matching_files: whole files, and the names that match a pattern."""

# ruff: noqa: ARG001 - `name` stands in TensorFlow's signatures

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
    """Read a whole file; return None, with at most a chunk more than that read, if it exceeds ``max_bytes``."""
    source = open_input(name)
    try:
        parts: list[bytes] = []
        num_bytes = 0
        if max_bytes is not None and source.size_hint > max_bytes:
            source.read(1)  # the error of a folder comes first
            return None
        # One byte more than expected, so that the end is seen without another read.
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
    """Return the content of a file.

    Args:
        filename: A local path, an ``os.PathLike``, or a URL (extra ``[fsspec]``).
        name: Accepted for TensorFlow's signature.

    Raises:
        TypeError: ``filename`` is no file name.
        NotFoundError: There is no such file.
        FailedPreconditionError: It is a folder, FIFO or device.
        PermissionDeniedError, ...: Other errors of the system.

    Follows: ``tf.io.read_file``.
    """
    content = read_all(file_name(filename))
    assert content is not None
    return content


def matching_files(pattern: FileName | Iterable[FileName], name: str | None = None) -> NDArray[np.object_]:
    r"""Return the names of the files and folders that match a pattern, sorted by their bytes.

    ``*`` matches anything but ``/``, also a leading dot; ``?`` one character; ``[ab0-9]`` one of these, ``[!a]`` or
    ``[^a]`` one that is none of these; ``\`` takes the next character as it is. Wildcards work in folders too; folders
    that cannot be read are skipped. Where a wildcard comes before any ``/``, names begin with ``./``. A URL is
    matched by fsspec, with its rules.

    Args:
        pattern: One pattern, or several; a name that matches twice comes twice.
        name: Accepted for TensorFlow's signature.

    Returns:
        An array of ``bytes`` objects with one dimension; empty if nothing matches.

    Raises:
        TypeError: A pattern is no text, bytes or ``os.PathLike``.
        InvalidArgumentError: ``pattern`` has two or more dimensions.
        UnavailableError, ...: Errors of a remote file system.

    Follows: ``tf.io.matching_files``.
    """
    patterns = np.asarray(pattern, object)
    if patterns.ndim > 1:
        raise InvalidArgumentError(None, None, f"pattern must be one or a list, got the shape {patterns.shape}")
    found = sorted(match for one in patterns.ravel() for match in _matches(file_name(one)))
    names = np.empty(len(found), object)
    names[:] = found
    return names


def _matches(pattern: bytes) -> list[bytes]:
    if remote_scheme(pattern):
        return _remote_matches(pattern)
    path = local_path(pattern)
    prefix = pattern[: len(pattern) - len(path)]
    return [prefix + match for match in _local_matches(path)]


def _local_matches(pattern: bytes) -> list[bytes]:
    if b"\0" in pattern:  # no name has one, and the C library would take it for the end of the pattern
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
    """Return the paths in a folder that match one part of a pattern; none if the folder cannot be read."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    start = folder if folder.endswith(b"/") else folder + b"/"
    fnmatch = _fnmatch()
    return [start + name for name in names if fnmatch(part, name, 0) == 0]


@functools.cache
def _fnmatch() -> Callable[[bytes, bytes, int], int]:
    """Return the C library's `fnmatch`, which TensorFlow calls: Python's own knows no escapes and no ``[^a]``."""
    function = ctypes.CDLL(None).fnmatch
    function.argtypes, function.restype = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int), ctypes.c_int
    matches: Callable[[bytes, bytes, int], int] = function
    return matches


def _remote_matches(pattern: bytes) -> list[bytes]:
    filesystem, path = remote_filesystem(pattern)
    scheme = pattern.partition(b"://")[0].decode("ascii")
    try:
        found: list[Any] = filesystem.glob(path)
    except Exception as problem:
        raise file_error(problem, pattern) from problem
    return [os.fsencode(match if "://" in match else f"{scheme}://{match}") for match in found]
