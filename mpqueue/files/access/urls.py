"""Remote files by URL: the file systems of fsspec, one of each kind per process.

Their options, such as keys and addresses, are set in fsspec: the environment (``FSSPEC_S3='{"anon": true}'``), its
configuration, or the library of the service. A source thus contains only names, and its pickle no secrets.

Each process has separate file systems and connections, because two processes that write to one connection would mix
their requests. Children keep the file systems of their parent in memory forever: destroying one closes connections, and
the event loop that watches them belongs to the parent.
"""

import os
import re
from typing import Any

from mpqueue.system.signals.locks import Lock
from mpqueue.system.user_code.extras import import_extra

_URL = re.compile(r"(?:[A-Za-z][\w+.-]*::)*[A-Za-z][\w+.-]*://")
_MAGIC = re.compile(r"[*?[]")


class _Systems:
    """The file systems of one process."""

    def __init__(self) -> None:
        self.pid, self.lock = os.getpid(), Lock()
        self.by_key: dict[Any, tuple[Any, str]] = {}


_systems = _Systems()
_of_parents: list[_Systems] = []


def is_url(name: str) -> bool:
    """Return whether a name is an fsspec URL, which may be a chain: ``simplecache::s3://bucket/name``."""
    return _URL.match(name) is not None


def is_http(url: str) -> bool:
    """Return whether a URL uses HTTP."""
    return url.startswith(("http://", "https://"))


def has_magic(url: str) -> bool:
    """Return whether a URL is a pattern."""
    path = url.partition("://")[2].partition("/")[2] if is_http(url) else url  # brackets may be an IPv6 address
    return _MAGIC.search(path.partition("?")[0] if is_http(url) else path) is not None  # a query may follow the path


def file_system(url: str) -> tuple[Any, str]:
    """Return this process's file system for a URL, and the path in it.

    Raises:
        ImportError: fsspec, or the package that it needs for this scheme, is not installed.
        ValueError: The scheme is unknown.
    """
    global _systems
    message = f'{url} is a URL, which needs fsspec: pip install "mpqueue[files]"'
    core, registry = import_extra("fsspec.core", message), import_extra("fsspec.registry", message)
    systems = _systems
    if systems.pid != os.getpid():
        _of_parents.append(systems)
        systems = _systems = _Systems()
    scheme = url.partition("://")[0]
    is_chain = "::" in url  # the outer file system may be specific to one archive
    key = url if is_chain else (scheme, repr(registry.get_filesystem_class(scheme)._get_kwargs_from_urls(url)))
    with systems.lock:
        entry = systems.by_key.get(key)
        if entry is None:
            # Not from fsspec's own cache, which is separate for each thread.
            entry = systems.by_key[key] = core.url_to_fs(url, skip_instance_cache=True)
        system, path = entry
    return system, path if is_chain else system._strip_protocol(url)


def matching(pattern: str) -> list[str]:
    """Return the URLs that match a pattern, sorted.

    Raises:
        ImportError, ValueError: See `file_system`.
        OSError: The file system cannot be read.
    """
    system, path = file_system(pattern)
    before, _, after = pattern.rpartition(path)
    return sorted(f"{before}{name}{after}" for name in system.glob(path))


def found_under(folder: str) -> list[str]:
    """Return the names of all files in a folder and its subfolders, relative to the folder; raises as `matching`."""
    system, path = file_system(folder)
    root = path.rstrip("/")
    system.invalidate_cache()
    return [name.removeprefix(root).lstrip("/") for name in system.find(f"{root}/" if is_http(folder) else root)]
