"""Byte ranges of remote files: concurrent requests with retries, and detection of changed files.

    request   a range of a file, or several adjacent ranges, of at most 8 MB
    answer    bytes, and the size and the version of the file: its ETag, or its modification time

fsspec's own `cat_ranges` is as fast, but it returns the bytes of a file that has changed without an error. With a
request for the version of each range, it has half the rate: 21 MB/s, where it has 41 MB/s alone and this module 36
(100 KB ranges over HTTP with a latency of 20 ms, medians of 5 interleaved rounds). obstore can compare versions at such
a rate, too (49 MB/s), but has no `hf://` or `memory://`, and does not read the configuration of fsspec.

Each answer must identify the file that its bytes belong to. The headers of HTTP and S3 do so. Other systems are queried
again *after* each read, so a change before or during the read is detected, as for local files. A file that has changed
raises an error with its name.

Temporary failures are retried with increasing delays: broken connections, short answers, busy or silent servers.
Permanent failures are raised at once: a file that does not exist, or without read permission.
"""

import errno
import hashlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

from mpqueue.errors import FileError
from mpqueue.files.access.urls import file_system, is_http
from mpqueue.system.signals.interrupts import is_of_handler, not_of_handler

MAX_READ_BYTES = 8 * 1024 * 1024
# Pieces with smaller gaps are read in one request, because the latency of an answer exceeds the time for these bytes.
_MAX_GAP_BYTES = 64 * 1024
# The maximum number of concurrent requests in one read of many samples. A link of 100 MB/s with a latency of 50 ms
# holds 5 MB, so fewer than 50 images of 100 KB would leave it idle.
AT_ONCE = 64
# Delays between attempts. Each is extended by up to a half, so that clients rejected together do not return together.
_DELAYS_S = (0.1, 0.4, 1.6, 6.4, 12.8)
_SILENCE_S = 30.0  # without a byte; then the request fails
_BUSY = {408, 425, 429, 500, 502, 503, 504}
# Errors of the request itself: a retry would not help.
_OF_FILES = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_OF_CODE = (NotImplementedError, ImportError, ValueError, TypeError, AttributeError, LookupError, AssertionError)
_FINAL = (*_OF_FILES, *_OF_CODE, MemoryError)
_dice = random.SystemRandom()  # does not affect the user's random generators

Result = TypeVar("Result")
# A range of bytes: the index of a file, an offset, a length. A `FileRange` also names these fields, but takes ten
# times as long to create.
Piece = tuple[int, int, int]


class FileRange(NamedTuple):
    """A range of bytes of a file."""

    file: int  # the index of the file
    offset: int
    length: int


class RangeAnswer(NamedTuple):
    """Bytes of a file, with the identity of the file.

    Attributes:
        data: The bytes; fewer than requested at the end of the file.
        size: The size of the whole file.
        version: A number derived from its ETag, or from its modification time; 0 if the server sends neither.
    """

    data: bytes
    size: int
    version: int


class _Busy(Exception):
    """A server is temporarily unavailable, or has sent a partial answer."""


class RangedFile:
    """A remote file at the time of indexing. It is not open; connections belong to the process.

    Args:
        url: The URL.
        size: The size in bytes.
        version: See `RangeAnswer`.
    """

    def __init__(self, url: str, size: int, version: int) -> None:
        self._url, self._size, self._version = url, size, version

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file.

        Raises:
            FileError: The bytes do not exist, or the file has changed.
            OSError: The file cannot be read, even after several attempts.
        """
        url = self._url
        if not 0 <= offset <= offset + length <= self._size:
            raise FileError(
                url, offset, f"cannot read {length:,} bytes: the file had {self._size:,} bytes when it was indexed"
            )
        if length == 0:
            return b""
        return _tried(url, lambda: self._read(offset, offset + length))

    def reads(self, pieces: Sequence[Piece], order: Sequence[int], found: list[bytes]) -> list[Callable[[], None]]:
        """Return the requests that read pieces of this file into a list; they raise as `read`.

        Args:
            pieces: Pieces of any files.
            order: The indices of the pieces of this file, sorted by position.
            found: A list with an entry for each piece, to which the bytes are written.
        """
        requests: list[Callable[[], None]] = []
        at = 0
        while at < len(order):
            stop, end = joined(pieces, order, at, _MAX_GAP_BYTES)
            requests.append(partial(self._read_joined, pieces, order[at:stop], end, found))
            at = stop
        return requests

    def _read_joined(self, pieces: Sequence[Piece], indices: Sequence[int], end: int, found: list[bytes]) -> None:
        _, start, _ = pieces[indices[0]]
        share_out(self.read(start, end - start), start, pieces, indices, found)

    def _read(self, start: int, stop: int) -> bytes:
        url, system = self._url, _system(self._url)
        try:
            answer = system.read(url, start, stop)
        except FileNotFoundError:
            raise
        except OSError:  # probably because the file was truncated
            self._check(system.stat(url))
            raise
        self._check(answer)
        # Before the length: otherwise a truncated file would be requested again, in vain, for more than 20 s.
        if len(answer.data) != stop - start:
            raise _Busy(f"the server sent {len(answer.data):,} of {stop - start:,} bytes")
        return answer.data

    def _check(self, answer: RangeAnswer) -> None:
        if answer.size != self._size or answer.version != self._version:
            raise FileError(
                self._url,
                None,
                f"it has changed since it was indexed: it had {self._size:,} bytes, and now has {answer.size:,} in "
                "another version; create the source again",
            )


def joined(
    pieces: Sequence[Piece], order: Sequence[int], at: int, max_gap_bytes: int, max_piece_bytes: int = MAX_READ_BYTES
) -> tuple[int, int]:
    """Return the end index, in ``order``, of pieces of one file that are read together, and the end of their bytes."""
    _, start, length = pieces[order[at]]
    end = start + length
    stop = at + 1
    while stop < len(order):
        _, offset, length = pieces[order[stop]]
        if length > max_piece_bytes or offset - end > max_gap_bytes or offset + length - start > MAX_READ_BYTES:
            break
        end = max(end, offset + length)  # a piece may be contained in the previous one
        stop += 1
    return stop, end


def share_out(data: bytes, start: int, pieces: Sequence[Piece], indices: Sequence[int], found: list[bytes]) -> None:
    """Store the bytes of pieces that were read together, beginning at ``start``, in a list."""
    for index in indices:
        _, offset, length = pieces[index]
        found[index] = data[offset - start : offset - start + length]


def stat(url: str) -> tuple[int, int]:
    """Return size and version of a remote file.

    Raises:
        FileNotFoundError: The file does not exist.
        FileError: It is a folder, or the server does not support range requests.
        OSError: The file cannot be read, even after several attempts.
        ImportError: fsspec, or the package that it needs for this scheme, is not installed.
    """
    answer = _tried(url, lambda: _system(url).stat(url))
    return answer.size, answer.version


def read_whole(url: str) -> bytes:
    """Return the bytes of a remote file; raises as `stat`."""
    return _tried(url, lambda: _system(url).read_whole(url))


def at_once(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Return the results of calls that wait for a network, running up to `AT_ONCE` of them concurrently.

    The threads end with the calls. A request takes a thousand times longer than starting a thread, and no threads are
    left that would complicate a fork.
    """
    if len(calls) < 2:
        return [call() for call in calls]
    with ThreadPoolExecutor(min(len(calls), AT_ONCE), "mpqueue-ranges") as pool:
        futures = [pool.submit(call) for call in calls]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # do not wait for calls that have not started
            raise


def _tried(url: str, call: Callable[[], Result]) -> Result:
    for delay in (*_DELAYS_S, None):
        try:
            return call()
        except _FINAL as error:
            if isinstance(error, OSError) and error.filename is None and not is_of_handler(error):
                raise type(error)(error.errno or errno.EIO, str(error), url) from error
            raise
        except not_of_handler(Exception) as error:  # such as a reset connection, not a time limit of the user
            if delay is None:
                reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                raise OSError(
                    errno.EIO,
                    f"it could not be read in {len(_DELAYS_S) + 1} attempts; the last error was {reason}",
                    url,
                ) from error
            time.sleep(delay * (1 + _dice.random() / 2))
    raise AssertionError("unreachable")


def _system(url: str) -> "_Http | _Other":
    if is_http(url):
        return _Http()
    system, _ = file_system(url)
    return _S3() if hasattr(system, "_call_s3") else _Other()


def _version(*marks: object) -> int:
    """Return a number of 63 bits derived from version attributes; 0 if there are none."""
    if not any(marks):
        return 0
    return int.from_bytes(hashlib.sha256(repr(marks).encode()).digest()[:8], "little") >> 1


class _Http:
    """HTTP, with the session of fsspec's file system: fsspec's own functions do not return response headers."""

    def stat(self, url: str) -> RangeAnswer:
        _, headers, _ = self._get(url, {"Range": "bytes=0-0"})
        return RangeAnswer(b"", self._size(url, headers), self._version(headers))

    def read(self, url: str, start: int, stop: int) -> RangeAnswer:
        status, headers, data = self._get(url, {"Range": f"bytes={start}-{stop - 1}"})
        size, version = self._size(url, headers), self._version(headers)
        # Other bytes would be mistaken for the requested ones.
        if status == 206 and not headers["Content-Range"].startswith(f"bytes {start}-"):
            raise FileError(
                url, start, f"the server must answer with the requested bytes, got {headers['Content-Range']}"
            )
        return RangeAnswer(data, size, version)

    def read_whole(self, url: str) -> bytes:
        return self._get(url, {}, whole=True)[2]

    def _get(
        self, url: str, headers: Mapping[str, str], *, whole: bool = False
    ) -> tuple[int, Mapping[str, str], bytes]:
        from fsspec.asyn import sync

        system, path = file_system(url)
        status, answer_headers, data = sync(system.loop, self._request, system, path, headers, whole)
        if status == 404:
            raise FileNotFoundError(errno.ENOENT, "the server has no such file", url)
        if status in (401, 403, 407):
            raise PermissionError(errno.EACCES, f"the server denied access with status {status}", url)
        if status in _BUSY:
            raise _Busy(f"status {status}")
        # The server sent the whole file, which `_request` has not read.
        if status == 200 and not whole:
            raise FileError(
                url, None, f"the server must support range requests: copy the file, or try simplecache::{url}"
            )
        if status not in ((200,) if whole else (206, 416)):
            raise FileError(url, None, f"expected a successful answer from the server, got status {status}")
        return status, answer_headers, data

    @staticmethod
    async def _request(system: Any, path: str, headers: Mapping[str, str], whole: bool) -> Any:
        import aiohttp

        options = dict(system.kwargs)
        # Offsets refer to the uncompressed content, so request it without transfer compression.
        all_headers = {**options.pop("headers", {}), "Accept-Encoding": "identity", **headers}
        options.setdefault("timeout", aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S))
        session = await system.set_session()
        async with session.get(system.encode_url(path), headers=all_headers, **options) as answer:
            # Do not read the body of other answers, which may be a file of terabytes.
            data = await answer.read() if answer.status == (200 if whole else 206) else b""
            return answer.status, answer.headers, data

    @staticmethod
    def _size(url: str, headers: Mapping[str, str]) -> int:
        size = headers.get("Content-Range", "").rpartition("/")[2]
        if not size.isdigit():
            raise FileError(url, None, "the server does not report the size of the file: copy the file")
        return int(size)

    @staticmethod
    def _version(headers: Mapping[str, str]) -> int:
        return _version(headers.get("ETag", "").removeprefix("W/") or headers.get("Last-Modified", ""))


class _Other:
    """Any other file system of fsspec."""

    # Version attributes, by the names that the file systems use: digests of the content, otherwise times.
    _OF_CONTENT = (
        "ETag",
        "etag",
        "e_tag",
        "md5Hash",
        "md5",
        "checksum",
        "crc32c",
        "generation",
        "VersionId",
        "blob_id",
    )
    _TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")

    def stat(self, url: str) -> RangeAnswer:
        file_system(url)[0].invalidate_cache()  # cached listings
        info = self._info(url)
        if info["size"] is None:
            raise FileError(url, None, "the server does not report the size of the file: copy the file")
        marks = [str(info[name]) for name in self._OF_CONTENT if info.get(name)]
        marks = marks or [str(info[name]) for name in self._TIMES if info.get(name)]
        return RangeAnswer(b"", info["size"], _version(*marks))

    def read(self, url: str, start: int, stop: int) -> RangeAnswer:
        system, path = file_system(url)
        data = system.cat_file(path, start=start, end=stop)
        # After the read: a file that changed before or during the read has another version by now.
        return self.stat(url)._replace(data=data)

    @staticmethod
    def _info(url: str, **options: Any) -> Any:
        system, path = file_system(url)
        info = system.info(path, **options)
        if info["type"] != "file":
            raise FileError(url, None, f"it is a folder, expected a file; name the files in it, such as {url}/*")
        return info

    def read_whole(self, url: str) -> bytes:
        system, path = file_system(url)
        data: bytes = system.cat_file(path)
        return data


class _S3(_Other):
    """S3, with the calls of s3fs: their responses contain the object's ETag."""

    def stat(self, url: str) -> RangeAnswer:
        info = self._info(url, refresh=True)
        return RangeAnswer(b"", info["size"], _version(info["ETag"]))

    def read(self, url: str, start: int, stop: int) -> RangeAnswer:
        from fsspec.asyn import sync

        system, path = file_system(url)
        answer: RangeAnswer = sync(system.loop, self._request, system, path, start, stop)
        return answer

    @staticmethod
    async def _request(system: Any, path: str, start: int, stop: int) -> RangeAnswer:
        bucket, key, version = system.split_path(path)
        of_version = {"VersionId": version} if version else {}
        answer = await system._call_s3(
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}", **of_version
        )
        async with answer["Body"] as body:
            data = await body.read()
        return RangeAnswer(data, int(answer["ContentRange"].rpartition("/")[2]), _version(answer["ETag"]))
