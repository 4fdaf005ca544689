"""Creates the queue of a `FIFOQueue`, `PaddingFIFOQueue` or `RandomShuffleQueue`, or finds it by its shared name."""

import operator
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from mpqueue.engine.queue_address import QueueDirectory
from mpqueue.errors import FailedPreconditionError, InvalidArgumentError
from mpqueue.tf1.queues import lookup, registry
from mpqueue.tf1.queues.core import QueueCore, living
from mpqueue.tf1.queues.description import Description, Signature, encode_reset
from mpqueue.tf1.queues.lookup import Lookup
from mpqueue.tf1.queues.machine import ElementOrder, FirstInFirstOut, QueueMachine, RandomOrder
from mpqueue.tf1.queues.remote import RemoteQueue, connection
from mpqueue.tf1.queues.selection import QueueRef
from mpqueue.tf1.queues.spec import ElementSpec
from mpqueue.tf1.queues.storage import PlainStorage
from mpqueue.tf1.queues.wire import QueuePlace

_ORDERS: dict[str, Callable[[int | None], ElementOrder]] = {
    "FIFOQueue": lambda _seed: FirstInFirstOut(),
    "PaddingFIFOQueue": lambda _seed: FirstInFirstOut(),
    "RandomShuffleQueue": RandomOrder,
}


def make_queue(
    class_name: str,
    name: str,
    capacity: Any,
    spec: ElementSpec,
    shared_name: str | None,
    min_after_dequeue: int = 0,
    seed: int | None = None,
) -> QueueRef:
    """Return a new queue, or the existing one with this shared name.

    Error messages of a shared queue use its shared name, as in TensorFlow.

    Raises:
        TypeError: ``capacity`` is not an integer, or ``shared_name`` is not a string.
        InvalidArgumentError: The queue with this shared name has other properties, or the name starts with ``_`` and
            is looked up at a server.
        FailedPreconditionError: This is a worker, and its trainer had no queue to share when it started the worker.
        UnavailableError: The server that resolves shared names has exited.
    """
    bound = max(as_integer(capacity, "capacity"), -1)  # all negative capacities mean unbounded, and must compare equal
    shapes = tuple(spec.shapes) if spec.has_shapes else None
    signature = Signature(class_name, tuple(spec.dtypes), shapes, bound, min_after_dequeue, seed)
    if shared_name is not None and not isinstance(shared_name, str):
        raise TypeError(f"shared_name must be a string or None, got {shared_name!r}.")
    if not shared_name:
        return _new(name, signature, spec)
    place = lookup.current()
    if place is not None:
        return _find(place, Description(shared_name, place.container, signature), spec)
    return registry.own.find_or_make(
        Description(shared_name, "", signature), partial(_new, shared_name, signature, spec)
    )


def reset_containers(directory: QueueDirectory, containers: Iterable[str]) -> None:
    """Make a server remove the queues in these containers, or all of its queues. Existing objects remain usable.

    Raises:
        UnavailableError: The server has exited.
    """
    connection(_place_in(directory)).find(encode_reset(containers))


def make_described(description: Description) -> QueueCore:
    """Return a new queue, which another process has described."""
    signature = description.signature
    return _core(description.shared_name, signature, ElementSpec(list(signature.dtypes), signature.shapes))


def _core(name: str, signature: Signature, spec: ElementSpec) -> QueueCore:
    order = _ORDERS[signature.class_name](signature.seed)
    machine = QueueMachine(name, signature.capacity, order, signature.min_after_dequeue)
    return QueueCore(machine, PlainStorage(spec), spec)


def _new(name: str, signature: Signature, spec: ElementSpec) -> QueueCore:
    core = _core(name, signature, spec)
    living.add(core)
    return core


def _find(where: Lookup, description: Description, spec: ElementSpec) -> RemoteQueue:
    """Return the queue with this description in another process."""
    directory = where.directory
    # A worker without the trainer's address would create its own queue, and its elements would never be dequeued.
    if not directory.address:
        raise FailedPreconditionError(
            None,
            None,
            f"Shared queue {description.shared_name!r} must be created in the trainer before the workers start. "
            "Otherwise each worker would have a separate queue.",
        )
    if directory.server and description.shared_name.startswith("_"):  # reserved, as in TensorFlow's servers
        raise InvalidArgumentError(None, None, f"shared_name must not start with '_', got {description.shared_name!r}.")
    place = _place_in(directory)
    return RemoteQueue(
        place._replace(number=connection(place).find(description.encode())), spec, description.shared_name
    )


def _place_in(directory: QueueDirectory) -> QueuePlace:
    assert directory.address is not None
    return QueuePlace(directory.address, 0, directory.process_id, directory.server)


def as_integer(value: Any, what: str) -> int:
    """Return ``value`` as an int; raise `TypeError` if it is not an integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be an integer, got {value!r}.") from None
