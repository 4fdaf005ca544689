"""Makes the queue that an object of one of the three classes stands for, or finds the one of its shared name."""

import operator
import os
import pickle
from collections.abc import Callable
from typing import Any

from mpqueue.control import queue_address
from mpqueue.errors import FailedPreconditionError
from mpqueue.queues.connection import connection
from mpqueue.queues.core import QueueCore
from mpqueue.queues.machine import QueueMachine
from mpqueue.queues.order import Order
from mpqueue.queues.registry import Signature, find_or_make
from mpqueue.queues.remote import RemoteQueue
from mpqueue.queues.selection import QueueRef
from mpqueue.queues.spec import ElementSpec
from mpqueue.queues.storage import PlainStorage
from mpqueue.queues.wire import Place


def make_queue(
    class_name: str,
    name: str,
    capacity: Any,
    spec: ElementSpec,
    shared_name: str | None,
    order: Callable[[], Order],
    min_after_dequeue: int = 0,
    seed: int | None = None,
) -> QueueRef:
    """A new queue, or the one that has this shared name already.

    Raises:
        TypeError: ``capacity`` is no integer.
        InvalidArgumentError: The queue of this shared name is another one.
        FailedPreconditionError: This is a worker, and its trainer had no queue to share when it started.
    """
    address = queue_address.address
    if shared_name and address is not None:
        return _of_trainer(address, (class_name, name, capacity, spec, shared_name, order, min_after_dequeue, seed))
    bound = as_integer(capacity, "capacity")
    bound = max(bound, -1)  # every negative one means: no bound
    shapes = tuple(spec.shapes) if spec.has_shapes else None
    signature = Signature(class_name, tuple(spec.dtypes), shapes, bound, min_after_dequeue, seed)

    def make() -> QueueCore:
        return QueueCore(QueueMachine(name, bound, order(), min_after_dequeue), PlainStorage(spec), spec)

    return find_or_make(shared_name, signature, make)


def _of_trainer(address: str, arguments: tuple[Any, ...]) -> QueueRef:
    """The queue that `make_queue` gives with these arguments in the trainer of this worker."""
    _class_name, name, capacity, spec, shared_name, *_ = arguments
    as_integer(capacity, "capacity")
    if not address:
        raise FailedPreconditionError(
            None,
            None,
            f"the shared queue {shared_name!r} would be another one in each worker: make it in the trainer before "
            "the workers start",
        )
    found = connection(Place(address, 0, os.getppid())).find(pickle.dumps(arguments))
    return RemoteQueue(Place(address, found, os.getppid()), spec, name)


def as_integer(value: Any, what: str) -> int:
    """``value`` as an int; `TypeError` if it is none."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be an integer, got {value!r}") from None
