"""Creates the queue of a `FIFOQueue`, `PaddingFIFOQueue` or `RandomShuffleQueue`, or finds it by its shared name."""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

from mpqueue.errors import FailedPreconditionError
from mpqueue.tf1.queues import registry
from mpqueue.tf1.queues.core import QueueCore, living
from mpqueue.tf1.queues.description import Description, Signature
from mpqueue.tf1.queues.machine import ElementOrder, FirstInFirstOut, QueueMachine, RandomOrder
from mpqueue.tf1.queues.remote import RemoteQueue, connection
from mpqueue.tf1.queues.selection import QueueRef
from mpqueue.tf1.queues.spec import ElementSpec
from mpqueue.tf1.queues.storage import PlainStorage
from mpqueue.tf1.queues.wire import QueuePlace
from mpqueue.worker import queue_address
from mpqueue.worker.queue_address import QueueDirectory

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
        InvalidArgumentError: The queue with this shared name has other properties.
        FailedPreconditionError: This is a worker, and its trainer had no queue to share when it started the worker.
    """
    bound = max(as_integer(capacity, "capacity"), -1)  # all negative capacities mean unbounded, and must compare equal
    shapes = tuple(spec.shapes) if spec.has_shapes else None
    signature = Signature(class_name, tuple(spec.dtypes), shapes, bound, min_after_dequeue, seed)
    if shared_name is not None and not isinstance(shared_name, str):
        raise TypeError(f"shared_name must be a string or None, got {shared_name!r}.")
    if not shared_name:
        return _new(name, signature, spec)
    description = Description(shared_name, signature)
    if queue_address.directory is not None:
        return _find(queue_address.directory, description, spec)
    return registry.own.find_or_make(description, partial(_new, shared_name, signature, spec))


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


def _find(directory: QueueDirectory, description: Description, spec: ElementSpec) -> RemoteQueue:
    """Return the queue with this description in another process."""
    # A worker without the trainer's address would create its own queue, and its elements would never be dequeued.
    if not directory.address:
        raise FailedPreconditionError(
            None,
            None,
            f"Shared queue {description.shared_name!r} must be created in the trainer before the workers start. "
            "Otherwise each worker would have a separate queue.",
        )
    place = QueuePlace(directory.address, 0, directory.process_id)
    return RemoteQueue(
        place._replace(number=connection(place).find(description.encode())), spec, description.shared_name
    )


def as_integer(value: Any, what: str) -> int:
    """Return ``value`` as an int; raise `TypeError` if it is not an integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be an integer, got {value!r}.") from None
