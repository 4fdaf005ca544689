"""Bytes of remote files, by range: several requests at once, tried again where they fail, and never of another file.

    a request    a range of a file, or of its neighbours, of 8 MB at most
    an answer    bytes, and what tells one version of the file from another: its size, and its ETag or its time

An answer tells of the very file that its bytes are of: by the headers of HTTP and of S3. Other systems are asked once
more *behind* each read, so a change before it or during it is seen, as with files of this machine. A file that has
changed is an error that names it.

What may pass is tried again, with growing delays: broken connections, short answers, servers that are busy or silent.
What will not pass is raised at once: a file that is not there, or must not be read.
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
from mpqueue.files.urls import file_system, is_http

MAX_READ_BYTES = 8 * 1024 * 1024
# Pieces that lie this close together are one request: an answer takes longer to come than these bytes do.
_MAX_GAP_BYTES = 64 * 1024
# So many requests wait at once in one read of many samples. A link of 100 MB/s on which an answer takes 50 ms holds 5
# MB: less than 50 images of 100 KB leave it idle.
AT_ONCE = 64
# Between tries, each up to a half longer, so that those who were refused together do not come back together.
_DELAYS_S = (0.1, 0.4, 1.6, 6.4, 12.8)
_SILENCE_S = 30.0  # without a byte: then a server is given up
_BUSY = {408, 425, 429, 500, 502, 503, 504}
# Errors of whoever asks: to try again would not help.
_FINAL = (
    FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError, ImportError,
    ValueError, TypeError, AttributeError, LookupError, AssertionError, MemoryError,
)  # fmt: skip
_dice = random.SystemRandom()  # the user's generators are the user's

Result = TypeVar("Result")
# A range of bytes: the number of a file, an offset, a length. `FileRange` has names for them, and is ten times as slow
# to make.
Piece = tuple[int, int, int]


class FileRange(NamedTuple):
    """Bytes of a file."""

    file: int  # its number
    offset: int
    length: int


class RangeAnswer(NamedTuple):
    """Bytes of a file, and what file they are of.

    Attributes:
        data: Its bytes; fewer than were asked for where it ends.
        size: Of the whole file.
        version: A number that follows from its ETag, or from its time; 0: the server tells neither.
    """

    data: bytes
    size: int
    version: int


class _Busy(Exception):
    """A server refused for now, or has answered in part."""


class RangedFile:
    """A remote file as it was when it was indexed. Nothing is open: connections are the process's.

    Args:
        url: Its name.
        size: Its bytes.
        version: As `RangeAnswer` has it.
    """

    def __init__(self, url: str, size: int, version: int) -> None:
        self._url, self._size, self._version = url, size, version

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file.

        Raises:
            FileError: They are not there, or it has changed.
            OSError: It cannot be read, also after several tries.
        """
        url = self._url
        if not 0 <= offset <= offset + length <= self._size:
            raise FileError(
                url, offset, f"{length:,} bytes are asked for, and the file had {self._size:,} when it was indexed"
            )
        if length == 0:
            return b""
        return _tried(url, lambda: self._read(offset, offset + length))

    def reads(self, pieces: Sequence[Piece], order: Sequence[int], found: list[bytes]) -> list[Callable[[], None]]:
        """Return the requests that read pieces of this file into their places in a list; they raise as `read`.

        Args:
            pieces: Some, of any files.
            order: The numbers of those of this file, in the order in which they lie.
            found: Has a place for each piece.
        """
        requests: list[Callable[[], None]] = []
        at = 0
        while at < len(order):
            stop, end = joined(pieces, order, at, _MAX_GAP_BYTES)
            requests.append(partial(self._read_joined, pieces, order[at:stop], end, found))
            at = stop
        return requests

    def _read_joined(self, pieces: Sequence[Piece], numbers: Sequence[int], end: int, found: list[bytes]) -> None:
        _, start, _ = pieces[numbers[0]]
        share_out(self.read(start, end - start), start, pieces, numbers, found)

    def _read(self, start: int, stop: int) -> bytes:
        url, system = self._url, _system(self._url)
        try:
            answer = system.read(url, start, stop)
        except FileNotFoundError:
            raise
        except OSError:  # what else would a file that has become shorter be
            self._check(system.stat(url))
            raise
        self._check(answer)
        # Before its length: what has become shorter would be asked for again, in vain, for more than 20 s.
        if len(answer.data) != stop - start:
            raise _Busy(f"{len(answer.data):,} bytes came of {stop - start:,}")
        return answer.data

    def _check(self, found: RangeAnswer) -> None:
        if found.size != self._size or found.version != self._version:
            raise FileError(
                self._url,
                None,
                f"it has changed since it was indexed: it had {self._size:,} bytes, and has {found.size:,} of another "
                "version; make the source anew",
            )


def joined(
    pieces: Sequence[Piece], order: Sequence[int], at: int, max_gap_bytes: int, max_piece_bytes: int = MAX_READ_BYTES
) -> tuple[int, int]:
    """Return the end, in the order, of pieces of one file that are read at once, and where their bytes end."""
    _, start, length = pieces[order[at]]
    end = start + length
    stop = at + 1
    while stop < len(order):
        _, offset, length = pieces[order[stop]]
        if length > max_piece_bytes or offset - end > max_gap_bytes or offset + length - start > MAX_READ_BYTES:
            break
        end = max(end, offset + length)  # a piece may lie inside of the one before it
        stop += 1
    return stop, end


def share_out(data: bytes, start: int, pieces: Sequence[Piece], numbers: Sequence[int], found: list[bytes]) -> None:
    """Put the bytes of pieces that were read at once, from ``start`` on, into their places in a list."""
    for number in numbers:
        _, offset, length = pieces[number]
        found[number] = data[offset - start : offset - start + length]


def stat(url: str) -> tuple[int, int]:
    """Return size and version of a remote file.

    Raises:
        FileNotFoundError: It is not there.
        FileError: It is a folder, or its server does not give parts of it.
        OSError: It cannot be read, also after several tries.
        ImportError: fsspec, or the package that it needs for this scheme, is not installed.
    """
    found = _tried(url, lambda: _system(url).stat(url))
    return found.size, found.version


def read_whole(url: str) -> bytes:
    """Return the bytes of a remote file; raises as `stat`."""
    return _tried(url, lambda: _system(url).read_whole(url))


def at_once(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Return the results of calls that wait for networks, up to `AT_ONCE` of them at the same time.

    The threads last as long as these calls: a request costs a thousand times what a thread does, and nothing is left
    that a fork would have to mind.
    """
    if len(calls) < 2:
        return [call() for call in calls]
    with ThreadPoolExecutor(min(len(calls), AT_ONCE), "mpqueue-ranges") as pool:
        futures = [pool.submit(call) for call in calls]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what has not begun is not to be waited for
            raise


def _tried(url: str, ask: Callable[[], Result]) -> Result:
    for delay in (*_DELAYS_S, None):
        try:
            return ask()
        except _FINAL as error:
            if isinstance(error, OSError) and error.filename is None:
                raise type(error)(error.errno or errno.EIO, str(error), url) from error
            raise
        except Exception as error:
            if delay is None:
                told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                raise OSError(
                    errno.EIO, f"it could not be read, {len(_DELAYS_S) + 1} times; at last {told}", url
                ) from error
            time.sleep(delay * (1 + _dice.random() / 2))
    raise AssertionError("unreachable")


def _system(url: str) -> "_Http | _Other":
    if is_http(url):
        return _Http()
    system, _ = file_system(url)
    return _S3() if hasattr(system, "_call_s3") else _Other()


def _version(*marks: object) -> int:
    """Return a number of 63 bits that follows from what tells versions apart; 0 for nothing."""
    if not any(marks):
        return 0
    return int.from_bytes(hashlib.sha256(repr(marks).encode()).digest()[:8], "little") >> 1


class _Http:
    """HTTP, by the session of fsspec's file system: its own functions do not tell of what file an answer is."""

    def stat(self, url: str) -> RangeAnswer:
        _, headers, _ = self._get(url, {"Range": "bytes=0-0"})
        return RangeAnswer(b"", self._size(url, headers), self._version(headers))

    def read(self, url: str, start: int, stop: int) -> RangeAnswer:
        status, headers, data = self._get(url, {"Range": f"bytes={start}-{stop - 1}"})
        size, version = self._size(url, headers), self._version(headers)
        # Other bytes would be taken for those that were asked for.
        if status == 206 and not headers["Content-Range"].startswith(f"bytes {start}-"):
            raise FileError(url, start, f"its server answered with other bytes: {headers['Content-Range']}")
        return RangeAnswer(data, size, version)

    def read_whole(self, url: str) -> bytes:
        return self._get(url, {}, whole=True)[2]

    def _get(
        self, url: str, headers: Mapping[str, str], *, whole: bool = False
    ) -> tuple[int, Mapping[str, str], bytes]:
        from fsspec.asyn import sync

        system, path = file_system(url)
        status, told, data = sync(system.loop, self._ask, system, path, headers, whole)
        if status == 404:
            raise FileNotFoundError(errno.ENOENT, "its server has no such file", url)
        if status in (401, 403, 407):
            raise PermissionError(errno.EACCES, f"its server refuses, with status {status}", url)
        if status in _BUSY:
            raise _Busy(f"status {status}")
        # The whole file was sent, and `_ask` has not read it.
        if status == 200 and not whole:
            raise FileError(
                url, None, f"its server gives whole files only, no ranges of bytes: copy it, or try simplecache::{url}"
            )
        if status not in ((200,) if whole else (206, 416)):
            raise FileError(url, None, f"its server answered with status {status}")
        return status, told, data

    @staticmethod
    async def _ask(system: Any, path: str, headers: Mapping[str, str], whole: bool) -> Any:
        import aiohttp

        options = dict(system.kwargs)
        # What is compressed on its way has other places.
        asked = {**options.pop("headers", {}), "Accept-Encoding": "identity", **headers}
        options.setdefault("timeout", aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S))
        session = await system.set_session()
        async with session.get(system.encode_url(path), headers=asked, **options) as answer:
            # The rest of a file of terabytes is not to be waited for.
            data = await answer.read() if answer.status == (200 if whole else 206) else b""
            return answer.status, answer.headers, data

    @staticmethod
    def _size(url: str, headers: Mapping[str, str]) -> int:
        size = headers.get("Content-Range", "").rpartition("/")[2]
        if not size.isdigit():
            raise FileError(url, None, "its server does not tell how large it is: copy it")
        return int(size)

    @staticmethod
    def _version(headers: Mapping[str, str]) -> int:
        return _version(headers.get("ETag", "").removeprefix("W/") or headers.get("Last-Modified", ""))


class _Other:
    """Any other system of fsspec."""

    # What tells versions apart, by the names that the systems have for it: of its content, and if there is none, times.
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
        file_system(url)[0].invalidate_cache()  # of listings
        found = self._info(url)
        if found["size"] is None:
            raise FileError(url, None, "its server does not tell how large it is: copy it")
        marks = [str(found[name]) for name in self._OF_CONTENT if found.get(name)]
        marks = marks or [str(found[name]) for name in self._TIMES if found.get(name)]
        return RangeAnswer(b"", found["size"], _version(*marks))

    def read(self, url: str, start: int, stop: int) -> RangeAnswer:
        system, path = file_system(url)
        data = system.cat_file(path, start=start, end=stop)
        # Behind the read: a file that was changed before it, or meanwhile, has another version by now.
        return self.stat(url)._replace(data=data)

    @staticmethod
    def _info(url: str, **options: Any) -> Any:
        system, path = file_system(url)
        found = system.info(path, **options)
        if found["type"] != "file":
            raise FileError(url, None, f"it is a folder, expected a file; name the files in it, such as {url}/*")
        return found

    def read_whole(self, url: str) -> bytes:
        system, path = file_system(url)
        data: bytes = system.cat_file(path)
        return data


class _S3(_Other):
    """S3, by the calls of s3fs: an answer has the object's ETag."""

    def stat(self, url: str) -> RangeAnswer:
        found = self._info(url, refresh=True)
        return RangeAnswer(b"", found["size"], _version(found["ETag"]))

    def read(self, url: str, start: int, stop: int) -> RangeAnswer:
        from fsspec.asyn import sync

        system, path = file_system(url)
        answer: RangeAnswer = sync(system.loop, self._ask, system, path, start, stop)
        return answer

    @staticmethod
    async def _ask(system: Any, path: str, start: int, stop: int) -> RangeAnswer:
        bucket, key, version = system.split_path(path)
        of_version = {"VersionId": version} if version else {}
        found = await system._call_s3(
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{stop - 1}", **of_version
        )
        async with found["Body"] as body:
            data = await body.read()
        return RangeAnswer(data, int(found["ContentRange"].rpartition("/")[2]), _version(found["ETag"]))
