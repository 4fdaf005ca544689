"""Makes the queue that an object of one of the three classes stands for, or finds the one of its shared name."""

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
    """A new queue, or the one that has this shared name already: by that its errors call it, as TensorFlow's do.

    Raises:
        TypeError: ``capacity`` is no integer.
        InvalidArgumentError: The queue of this shared name is another one, or the name begins with ``_`` at a server.
        FailedPreconditionError: This is a worker, and its trainer had no queue to share when it started.
        UnavailableError: The server at which shared names are looked up is gone.
    """
    bound = max(as_integer(capacity, "capacity"), -1)  # every negative one means: no bound
    shapes = tuple(spec.shapes) if spec.has_shapes else None
    signature = Signature(class_name, tuple(spec.dtypes), shapes, bound, min_after_dequeue, seed)
    if not shared_name:
        return _new(name, signature, spec)
    found = lookup.current()
    if found is not None:
        return _find(found, Description(shared_name, found.container, signature), spec)
    return registry.own.find_or_make(
        Description(shared_name, "", signature), partial(_new, shared_name, signature, spec)
    )


def reset_containers(directory: QueueDirectory, containers: Iterable[str]) -> None:
    """Have a server forget the queues in these containers, without any all of its queues; who uses one, may go on.

    Raises:
        UnavailableError: The server is gone.
    """
    connection(_place_in(directory)).find(encode_reset(containers))


def make_described(wanted: Description) -> QueueCore:
    """A new queue for others, of which only the description is known."""
    signature = wanted.signature
    return _core(wanted.shared_name, signature, ElementSpec(list(signature.dtypes), signature.shapes))


def _core(name: str, signature: Signature, spec: ElementSpec) -> QueueCore:
    order = _ORDERS[signature.class_name](signature.seed)
    machine = QueueMachine(name, signature.capacity, order, signature.min_after_dequeue)
    return QueueCore(machine, PlainStorage(spec), spec)


def _new(name: str, signature: Signature, spec: ElementSpec) -> QueueCore:
    core = _core(name, signature, spec)
    living.add(core)
    return core


def _find(where: Lookup, wanted: Description, spec: ElementSpec) -> RemoteQueue:
    """The queue of this description in another process."""
    directory = where.directory
    if not directory.address:
        raise FailedPreconditionError(
            None,
            None,
            f"the shared queue {wanted.shared_name!r} would be another one in each worker: make it in the trainer "
            "before the workers start",
        )
    if directory.server and wanted.shared_name.startswith("_"):  # TensorFlow's servers keep these for themselves
        raise InvalidArgumentError(None, None, f"shared_name cannot start with '_': {wanted.shared_name!r}")
    place = _place_in(directory)
    return RemoteQueue(place._replace(number=connection(place).find(wanted.encode())), spec, wanted.shared_name)


def _place_in(directory: QueueDirectory) -> QueuePlace:
    assert directory.address is not None
    return QueuePlace(directory.address, 0, directory.process_id, directory.server)


def as_integer(value: Any, what: str) -> int:
    """``value`` as an int; `TypeError` if it is none."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be an integer, got {value!r}") from None
