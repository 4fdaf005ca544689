"""How a queue is found from other processes.

A queue is used by its own process alone until a handle of it leaves: it is pickled, or its process forks. Then it gets
a *place*: the address at which its owner's hub listens, and its number there. That is all that travels. Whoever
unpickles it elsewhere gets a `RemoteQueue`, which connects when it is used for the first time; in the owner's process
it is the queue itself again. A queue that a fork has copied turns into a `RemoteQueue`, too: nothing is pickled then,
so that all queues get their places before any fork.

So a handle may travel in any way: captured by a source, as an argument of `multiprocessing`, through a pipe. A queue
that no handle has left, and a program that only has such queues, has no hub: no thread, no descriptor.
"""

import os
import pickle
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from mpqueue.control import queue_address

if TYPE_CHECKING:
    from mpqueue.queues.core import QueueCore
    from mpqueue.queues.hub import Hub
    from mpqueue.queues.share import Share
    from mpqueue.queues.spec import ElementSpec


class Place(NamedTuple):
    """Where a queue is.

    Attributes:
        address: Where its owner's hub listens.
        number: What it is called there.
        process_id: The owner's.
    """

    address: str
    number: int
    process_id: int


_live: "weakref.WeakSet[QueueCore]" = weakref.WeakSet()
_lock = threading.RLock()
_hub: "Hub | None" = None


def register(core: "QueueCore") -> None:
    """A new queue of this process."""
    _live.add(core)


def place_of(core: "QueueCore", *, serve: bool = True) -> Place:
    """The place of a queue of this process, which is shared from now on; with ``serve``, it answers at once."""
    share = _share(core)
    if serve:
        share.hub.serve()
    return Place(share.hub.address, share.number, os.getpid())


def attach(place: Place, spec: "ElementSpec", name: str) -> Any:
    """What stands for the queue of a place in this process."""
    from mpqueue.queues.remote import RemoteQueue

    hub = _hub
    if hub is not None and hub.address == place.address:
        core = hub.find(place.number)
        if core is not None:
            return core
    return RemoteQueue(place, spec, name)


def address() -> str | None:
    """Where this process listens, if it does."""
    return None if _hub is None or _hub.is_closed else _hub.address


def _share(core: "QueueCore") -> "Share":
    global _hub
    from mpqueue.queues.hub import Hub

    if core.shared_as is not None:
        return core.shared_as
    with _lock:
        while True:
            if _hub is None or _hub.is_closed:
                _hub = Hub(_find_shared)
            with _hub.lock:
                if not _hub.is_closed:
                    return core.share(_hub.share)


def _find_shared(description: bytes) -> "QueueCore":
    from mpqueue.queues.core import QueueCore
    from mpqueue.queues.making import make_queue

    core = make_queue(*pickle.loads(description))
    assert isinstance(core, QueueCore)
    return core


def _before_fork() -> None:
    for core in list(_live):
        place_of(core, serve=False)  # without its thread: Python warns of forks that have threads


def _after_fork() -> None:
    if _hub is not None and not _hub.is_closed:
        _hub.serve()


def _in_child() -> None:
    global _hub, _lock
    from mpqueue.queues.remote import RemoteQueue

    hub, _hub, _lock = _hub, None, threading.RLock()
    if hub is None:
        return
    if queue_address.address is None and len(_live):
        queue_address.set_address(hub.address)
    for core in list(_live):
        share = core.shared_as
        if share is not None:
            remote = RemoteQueue(Place(share.hub.address, share.number, os.getppid()), core.spec, core.name)
            core.__class__ = RemoteQueue  # type: ignore[assignment]  # all that refers to it is to have the other one
            core.__dict__ = remote.__dict__
    _live.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
