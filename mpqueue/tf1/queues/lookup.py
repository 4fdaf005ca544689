"""The server that resolves the shared names of queues, if it is not this process.

    at(...)           for this thread, and for each thread that has entered no other lookup
    here(...)         for this thread only
    neither           a worker uses its trainer's queues; any other process uses its own

As with sessions, this includes threads that are started inside ``with mpqueue.train.connect(...)``.
"""

from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

from mpqueue.engine import queue_address
from mpqueue.engine.queue_address import QueueDirectory
from mpqueue.system.contexts import context_manager
from mpqueue.tf1.coordination.cancellation import remove_last


class Lookup(NamedTuple):
    """A place that resolves shared names.

    Attributes:
        directory: The process that owns the queues.
        container: The group of names.
    """

    directory: QueueDirectory
    container: str = ""


_of_this_thread: ContextVar[Lookup | None] = ContextVar("mpqueue_lookup", default=None)
_of_the_process: list[Lookup] = []


def connected() -> Lookup | None:
    """Return the server that this thread is connected to, or None."""
    return _of_this_thread.get() or (_of_the_process[-1] if _of_the_process else None)


def current() -> Lookup | None:
    """Return the place that resolves shared names in this thread, or None for this process."""
    lookup = connected()
    if lookup is None and queue_address.directory is not None:
        return Lookup(queue_address.directory)
    return lookup


@context_manager
def here(lookup: Lookup) -> Iterator[None]:
    """Resolve names at ``lookup`` in this thread while the body runs."""
    token = _of_this_thread.set(lookup)
    try:
        yield
    finally:
        _of_this_thread.reset(token)


@context_manager
def at(lookup: Lookup) -> Iterator[None]:
    """Resolve names at ``lookup`` while the body runs, in this thread and in threads that have entered none."""
    with here(lookup):
        _of_the_process.append(lookup)
        try:
            yield
        finally:
            remove_last(_of_the_process, lookup)
