"""Remote files, downloaded completely into a cache file, for a library that opens only local files.

The name of the cache file depends on URL, size and version of the remote file, so that new content gets a new file. It
is created atomically. One process of a host downloads it, and the others wait.
"""

import contextlib
from collections.abc import Iterator

from mpqueue.files.opened import IndexedFile, OpenFiles
from mpqueue.files.unpacked import made_once, path_of

# The number of concurrent requests, and the bytes of each. Their results are in memory until they are written.
_REQUESTS, _REQUEST_BYTES = 8, 8 * 1024 * 1024


def fetch(file: IndexedFile, folder: str) -> str:
    """Download a file into a folder if it is missing, and return its path.

    Raises:
        FileError: The file has changed.
        OSError: The file cannot be read, even after several attempts, or cannot be written.
    """
    return made_once(path_of(file, folder, "fetched"), lambda: _blocks(file))


def _blocks(file: IndexedFile) -> Iterator[bytes]:
    requests = [(0, start, min(_REQUEST_BYTES, file.size - start)) for start in range(0, file.size, _REQUEST_BYTES)]
    with contextlib.closing(OpenFiles([file])) as opened:
        for at in range(0, len(requests), _REQUESTS):
            yield from opened.read_all(requests[at : at + _REQUESTS])
