"""Remote files by their URLs: the file systems of fsspec, one of each kind in a process.

Their options, such as keys and addresses, are fsspec's own: the environment (``FSSPEC_S3='{"anon": true}'``), its
configuration, or those of the service's library. So a source has names only, and its pickle no secrets.

A process has its own file systems, and with them its own connections: two processes that wrote into one would mix their
requests. Those of a parent are kept in its children for ever: what ends one closes connections, and the loop of events
that watches them is the parent's.
"""

import os
import re
from typing import Any

from mpqueue.system.locks import Lock

_URL = re.compile(r"(?:[A-Za-z][\w+.-]*::)*[A-Za-z][\w+.-]*://")
_MAGIC = re.compile(r"[*?[]")


class _Systems:
    """The file systems of one process."""

    def __init__(self) -> None:
        self.pid, self.lock = os.getpid(), Lock()
        self.found: dict[Any, tuple[Any, str]] = {}


_systems = _Systems()
_of_parents: list[_Systems] = []


def is_url(name: str) -> bool:
    """Return whether a name is a URL of fsspec, which may be a chain: ``simplecache::s3://bucket/name``."""
    return _URL.match(name) is not None


def is_http(url: str) -> bool:
    """Return whether a name is one of HTTP, of which no parts are cached by fsspec."""
    return url.startswith(("http://", "https://"))


def has_magic(url: str) -> bool:
    """Return whether a URL is a pattern."""
    path = url.partition("://")[2].partition("/")[2] if is_http(url) else url  # brackets may be an address of IPv6
    return _MAGIC.search(path.partition("?")[0] if is_http(url) else path) is not None  # behind it is a query


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, that of this process, and the path in it.

    Raises:
        ImportError: fsspec, or the package that it needs for this scheme, is not installed.
        ValueError: It knows no such scheme.
    """
    global _systems
    try:
        from fsspec.core import url_to_fs
        from fsspec.registry import get_filesystem_class
    except ImportError as missing:
        raise ImportError(f'{url} is a URL, which needs fsspec: pip install "mpqueue[files]"') from missing
    systems = _systems
    if systems.pid != os.getpid():
        _of_parents.append(systems)
        systems = _systems = _Systems()
    scheme = url.partition("://")[0]
    is_chain = "::" in url  # whose outer system may be that of a single archive
    key = url if is_chain else (scheme, repr(get_filesystem_class(scheme)._get_kwargs_from_urls(url)))
    with systems.lock:
        found = systems.found.get(key)
        if found is None:
            # Not from fsspec's own cache, which has one for each thread.
            found = systems.found[key] = url_to_fs(url, skip_instance_cache=True)
    system, path = found
    return system, path if is_chain else system._strip_protocol(url)


def matching(pattern: str) -> list[str]:
    """Return the URLs that match a pattern, sorted.

    Raises:
        ImportError, ValueError: As `file_system`.
        OSError: Of the file system.
    """
    system, path = file_system(pattern)
    before, _, after = pattern.rpartition(path)
    return sorted(f"{before}{name}{after}" for name in system.glob(path))


def found_under(folder: str) -> list[str]:
    """Return the names of all files in a folder and those inside of it, relative to it; raises as `matching`."""
    system, path = file_system(folder)
    root = path.rstrip("/")
    system.invalidate_cache()
    return [name.removeprefix(root).lstrip("/") for name in system.find(f"{root}/" if is_http(folder) else root)]
