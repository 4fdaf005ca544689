"""Remote files, fetched whole into a file of the cache: for a library that opens files of this machine only.

The file of the cache follows from URL, size and version of the remote one, so that one of other content has another. It
is whole or absent; one process of a host fetches it, others wait.
"""

import contextlib
from collections.abc import Iterator

from mpqueue.files.opened import IndexedFile, OpenFiles
from mpqueue.files.unpacked import made_once, path_of

# Requests that are waited for at once, and the bytes of each: what they bring lies in memory until it is written.
_REQUESTS, _REQUEST_BYTES = 8, 8 * 1024 * 1024


def fetch(file: IndexedFile, folder: str) -> str:
    """Fetch a file into a folder, if it is not there; return its path.

    Raises:
        FileError: It has changed.
        OSError: It cannot be read, also after several tries; or the system's: the disk is full, say.
    """
    return made_once(path_of(file, folder, "fetched"), lambda: _blocks(file))


def _blocks(file: IndexedFile) -> Iterator[bytes]:
    requests = [(0, start, min(_REQUEST_BYTES, file.size - start)) for start in range(0, file.size, _REQUEST_BYTES)]
    with contextlib.closing(OpenFiles([file])) as opened:
        for at in range(0, len(requests), _REQUESTS):
            yield from opened.read_all(requests[at : at + _REQUESTS])
