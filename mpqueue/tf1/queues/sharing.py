"""Makes queues accessible to other processes, through pickles, forks and shared names.

A queue is used by its own process alone until it is pickled or its process forks. Then it gets a `QueuePlace`: the
address of its owner's hub, and its number there. A pickle contains only this place. Unpickling it in another process
returns a `RemoteQueue`, which connects at its first use; in the owner process it returns the queue itself.

A fork does not pickle, so all queues get their places before it, and their copies in the child become `RemoteQueue`s.

A handle may be passed in any way: captured by a source, as an argument of `multiprocessing`, or through a pipe. A
process that has not shared a queue has no hub, and therefore no extra thread or descriptor.

Lower modules do not import this one: `copyreg` and the fork hooks call it, and a hub receives `_find_shared`.
"""

import copyreg
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.locks import RLock
from mpqueue.tf1.queues import registry
from mpqueue.tf1.queues.core import LocalDriver, QueueCore, living
from mpqueue.tf1.queues.description import Description
from mpqueue.tf1.queues.making import make_described
from mpqueue.tf1.queues.remote import RemoteQueue
from mpqueue.tf1.queues.spec import ElementSpec
from mpqueue.tf1.queues.wire import QueuePlace
from mpqueue.transport.credentials import Address
from mpqueue.worker import queue_address
from mpqueue.worker.queue_address import QueueDirectory

if TYPE_CHECKING:
    from mpqueue.tf1.queues.hub import Hub, HubDriver

_NOWHERE = Address("", 0, b"")
_lock = RLock()
_hub: "Hub | None" = None


def place_of(core: QueueCore, *, serve: bool = True) -> QueuePlace:
    """Return the place of a queue of this process, and share the queue. ``serve`` starts the hub's thread."""
    driver = _shared(core)
    if serve:
        driver.hub.serve()
    return QueuePlace(driver.hub.address, driver.number, os.getpid())


def attach(place: QueuePlace, spec: ElementSpec, name: str) -> QueueCore | RemoteQueue:
    """Return the queue at a place: the queue itself in its owner process, otherwise a `RemoteQueue`."""
    hub = _hub
    if hub is not None and hub.address == place.address:
        core = hub.find(place.number)
        if core is not None:
            return core
    return RemoteQueue(place, spec, name)


def num_entered(core: QueueCore, process_id: int) -> int:
    """Return the number of elements enqueued by a process that has exited."""
    return 0 if isinstance(core.driver, LocalDriver) else _shared(core).num_entered(process_id)


def _shared(core: QueueCore) -> "HubDriver":
    global _hub
    from mpqueue.tf1.queues.hub import Hub, HubDriver  # imported late, because most programs share no queue

    with defer_signals(), _lock:
        # A loop: the garbage collector may close the hub with its last queue before its lock is taken.
        while isinstance(core.driver, LocalDriver):
            if _hub is None or _hub.is_closed:
                _hub = Hub(_find_shared)
            with _hub.lock:
                # Again under the lock: `_find_shared` may have shared the queue since the check above.
                if not _hub.is_closed and isinstance(core.driver, LocalDriver):
                    _hub.share(core)
    assert isinstance(core.driver, HubDriver)
    return core.driver


def _find_shared(description: bytes) -> int:
    """Return the number of a queue that a worker has described. The hub calls it under its lock."""
    from mpqueue.tf1.queues.hub import HubDriver

    described = Description.decode(description)
    core = registry.own.find_or_make(described, partial(make_described, described))
    living.add(core)  # otherwise a forked child would use a copy of the queue
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
    """Return the directory for workers: this process, if it has shared queues."""
    shared = registry.own.cores()
    if shared:
        return QueueDirectory(place_of(shared[0]).address, os.getpid())
    return None if _hub is None or _hub.is_closed else QueueDirectory(_hub.address, os.getpid())


queue_address.provider = _directory_for_workers


def _before_fork() -> None:
    failure: OSError | None = None
    for core in living:
        try:
            place_of(core, serve=False)  # without a thread, because Python warns if a process with threads forks
        except OSError as error:
            failure = error  # the other queues must still get their places
    if failure is not None:
        raise failure  # Python shows it, and forks


def _after_fork() -> None:
    if _hub is not None and not _hub.is_closed:
        _hub.serve()


def _in_child() -> None:
    global _hub, _lock
    hub, _hub, _lock = _hub, None, RLock()
    if not living:
        return
    from mpqueue.tf1.queues.hub import HubDriver

    if queue_address.directory is None and hub is not None:
        queue_address.directory = QueueDirectory(hub.address, os.getppid())
    # Convert the copied queues in place, so that all references to them in the child find the remote queue.
    for core in living:
        driver = core.driver
        # A queue that could not be shared gets a place that no process can reach. As a separate copy it would lose all
        # elements without an error.
        address, number = (driver.hub.address, driver.number) if isinstance(driver, HubDriver) else (_NOWHERE, 0)
        remote = RemoteQueue(QueuePlace(address, number, os.getppid()), core.spec, core.name)
        core.__class__ = RemoteQueue  # type: ignore[assignment]
        core.__dict__ = remote.__dict__
    living.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
