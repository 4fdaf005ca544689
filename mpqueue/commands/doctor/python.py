"""Checks of Python, of packages, of the start of a worker, and of the folder of servers."""

import os
import platform
import sys
import time

from mpqueue.commands.doctor.findings import Finding
from mpqueue.errors import ServiceError
from mpqueue.system.paths.folders import base_of

_OLDEST, _NEWEST = (3, 11), (3, 14)  # versions of Python that are tested
_SLOW_START_S = 5.0


def python() -> Finding:
    """Report the interpreter."""
    found = f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        found += ", without the GIL"
    if sys.version_info[:2] > _NEWEST or platform.python_implementation() != "CPython":
        wanted = f"CPython {_OLDEST[0]}.{_OLDEST[1]} to {_NEWEST[0]}.{_NEWEST[1]}"
        return Finding("note", f"{found}: mpqueue is tested with {wanted}", f"use {wanted}")
    return Finding("ok", found)


class _One:
    """The smallest source."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return index


def workers() -> Finding:
    """Start a worker process, and take a batch from it."""
    from mpqueue.loader.loader import Loader

    started = time.perf_counter()
    try:
        # With a timeout: the check must end on a machine where workers hang.
        with Loader(_One(), workers=1, batch_timeout=60) as loader:
            list(loader)
            took = time.perf_counter() - started
    except Exception as error:
        return Finding(
            "problem",
            f"a worker process returns no batch: {type(error).__name__}: {error}",
            "see the other checks; backend='thread' needs no processes",
        )
    found = f"the first batch of a worker process arrived after {1000 * took:.0f} ms"
    if took > _SLOW_START_S:
        return Finding("note", found, "check whether the machine is busy, or Python is on a slow (network) disk")
    return Finding("ok", found)


def folder() -> Finding:
    """Create the folder of servers, and a socket in it."""
    from mpqueue.service.protocol.server_directory import ServerDirectory

    name = f"doctor-{os.getpid()}"
    chosen = os.environ.get("MPQUEUE_HOME")
    place = chosen or base_of(os.geteuid())
    try:
        ServerDirectory.of(name).claim(is_open_to_others=False).close()  # removes the created files
    except (ServiceError, ValueError, OSError) as error:
        return Finding("problem", f"{place}: {error}", "set MPQUEUE_HOME to one of your folders on a local disk")
    return Finding("ok", f"{place}{' (MPQUEUE_HOME)' if chosen else ''}: sockets can be created")
