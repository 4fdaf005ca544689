"""Attaches queues to the service that other processes use them by: in pickles, at forks, and by shared names.

A queue is used by its own process alone until a handle of it leaves: it is pickled, or its process forks. Then it gets
a `QueuePlace`: the address at which its owner's hub listens, and its number there. That is all that travels. A
process that unpickles it elsewhere gets a `RemoteQueue`, which connects when it is used for the first time; in the
owner's process it is the queue itself again. A queue that a fork has copied turns into a `RemoteQueue`, too: nothing is
pickled then, so that all queues get their places before any fork.

So a handle may travel in any way: captured by a source, as an argument of `multiprocessing`, through a pipe. A process
whose queues no handle has left has no hub: no thread, no descriptor.

The modules below know nothing of this one: `copyreg` and the fork hooks call it, and a hub gets `_find_shared`.
"""

import copyreg
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from mpqueue.engine import queue_address
from mpqueue.engine.queue_address import QueueDirectory
from mpqueue.system.interrupts import defer_signals
from mpqueue.system.locks import RLock
from mpqueue.tf1.queues import lookup, registry
from mpqueue.tf1.queues.core import LocalDriver, QueueCore, living
from mpqueue.tf1.queues.description import Description
from mpqueue.tf1.queues.making import make_described
from mpqueue.tf1.queues.remote import RemoteQueue
from mpqueue.tf1.queues.spec import ElementSpec
from mpqueue.tf1.queues.wire import QueuePlace

if TYPE_CHECKING:
    from mpqueue.tf1.queues.hub import Hub, HubDriver

_lock = RLock()
_hub: "Hub | None" = None


def place_of(core: QueueCore, *, serve: bool = True) -> QueuePlace:
    """The place of a queue of this process, which is shared from now on; with ``serve``, it answers at once."""
    driver = _shared(core)
    if serve:
        driver.hub.serve()
    return QueuePlace(driver.hub.address, driver.number, os.getpid())


def attach(place: QueuePlace, spec: ElementSpec, name: str) -> QueueCore | RemoteQueue:
    """The queue of a place, as this process uses it."""
    hub = _hub
    if hub is not None and hub.address == place.address:
        core = hub.find(place.number)
        if core is not None:
            return core
    return RemoteQueue(place, spec, name)


def num_entered(core: QueueCore, process_id: int) -> int:
    """Number of elements that a process, which is gone, has enqueued."""
    return 0 if isinstance(core.driver, LocalDriver) else _shared(core).num_entered(process_id)


def _shared(core: QueueCore) -> "HubDriver":
    global _hub
    from mpqueue.tf1.queues.hub import Hub, HubDriver  # only now: most programs share no queue

    with defer_signals(), _lock:
        while isinstance(core.driver, LocalDriver):
            if _hub is None or _hub.is_closed:
                _hub = Hub(_find_shared)
            with _hub.lock:
                if not _hub.is_closed:
                    _hub.share(core)
    assert isinstance(core.driver, HubDriver)
    return core.driver


def _find_shared(description: bytes) -> int:
    """The number of the queue that a worker has described to the hub, under the hub's lock."""
    from mpqueue.tf1.queues.hub import HubDriver

    wanted = Description.decode(description)
    core = registry.own.find_or_make(wanted, partial(make_described, wanted))
    living.add(core)  # or a fork would have a copy of it
    assert _hub is not None
    if isinstance(core.driver, LocalDriver):
        _hub.share(core)
    assert isinstance(core.driver, HubDriver)
    return core.driver.number


def _reduce_core(core: QueueCore) -> tuple[Any, ...]:
    return attach, (place_of(core), core.spec, core.name)


def _reduce_remote(queue: RemoteQueue) -> tuple[Any, ...]:
    return attach, (queue.place, queue.spec, queue.name)


copyreg.pickle(QueueCore, _reduce_core)
copyreg.pickle(RemoteQueue, _reduce_remote)


def _directory_for_workers() -> QueueDirectory | None:
    """The directory of queues for workers: this process's own, which listens from now on if it has shared ones."""
    found = lookup.connected()
    if found is not None:
        return found.directory
    shared = registry.own.cores()
    if shared:
        return QueueDirectory(place_of(shared[0]).address, os.getpid())
    return None if _hub is None or _hub.is_closed else QueueDirectory(_hub.address, os.getpid())


queue_address.provider = _directory_for_workers


def _before_fork() -> None:
    for core in living:
        place_of(core, serve=False)  # without its thread: Python warns of forks that have threads


def _after_fork() -> None:
    if _hub is not None and not _hub.is_closed:
        _hub.serve()


def _in_child() -> None:
    global _hub, _lock
    hub, _hub, _lock = _hub, None, RLock()
    if hub is None:
        return
    from mpqueue.tf1.queues.hub import HubDriver

    if queue_address.directory is None and living:
        queue_address.directory = QueueDirectory(hub.address, os.getppid())
    for core in living:
        driver = core.driver
        if isinstance(driver, HubDriver):
            place = QueuePlace(driver.hub.address, driver.number, os.getppid())
            remote = RemoteQueue(place, core.spec, core.name)
            core.__class__ = RemoteQueue  # type: ignore[assignment]  # all that refers to it is to have the other one
            core.__dict__ = remote.__dict__
    living.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
