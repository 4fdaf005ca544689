"""The server at which queues with shared names are looked up, where it is not this process.

    at(...)           this thread's innermost one, and that of every thread that has entered none
    here(...)         this thread's only
    neither           a worker looks at its trainer's; any other process has its own

Threads that start inside of ``with mpqueue.train.connect(...)`` are connected, too, as with sessions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from mpqueue.engine import queue_address
from mpqueue.engine.queue_address import QueueDirectory
from mpqueue.tf1.coordination.cancellation import remove_last


class Lookup(NamedTuple):
    """A place to look names up.

    Attributes:
        directory: The process that has the queues.
        container: The group of names.
    """

    directory: QueueDirectory
    container: str = ""


_of_this_thread: ContextVar[Lookup | None] = ContextVar("mpqueue_lookup", default=None)
_of_the_process: list[Lookup] = []


def connected() -> Lookup | None:
    """Return the server that this thread is connected to, None if there is none."""
    return _of_this_thread.get() or (_of_the_process[-1] if _of_the_process else None)


def current() -> Lookup | None:
    """Return where shared names are looked up, None for this process itself."""
    found = connected()
    if found is None and queue_address.directory is not None:
        return Lookup(queue_address.directory)
    return found


@contextmanager
def here(lookup: Lookup) -> Iterator[None]:
    """Look names up there while the body runs, in this thread."""
    token = _of_this_thread.set(lookup)
    try:
        yield
    finally:
        _of_this_thread.reset(token)


@contextmanager
def at(lookup: Lookup) -> Iterator[None]:
    """Look names up there while the body runs, in this thread and in those that have entered none."""
    with here(lookup):
        _of_the_process.append(lookup)
        try:
            yield
        finally:
            remove_last(_of_the_process, lookup)
