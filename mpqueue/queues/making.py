"""How the three classes of queues make the queue that they stand for, or find the one of their shared name."""

import operator
from collections.abc import Callable
from typing import Any

from mpqueue.queues.core import QueueCore
from mpqueue.queues.machine import QueueMachine
from mpqueue.queues.order import Order
from mpqueue.queues.registry import Signature, find_or_make
from mpqueue.queues.spec import ElementSpec
from mpqueue.queues.storage import PlainStorage


def make_queue(
    class_name: str,
    name: str,
    capacity: Any,
    spec: ElementSpec,
    shared_name: str | None,
    order: Callable[[], Order],
    min_after_dequeue: int = 0,
    seed: int | None = None,
) -> QueueCore:
    """A new queue, or the one that has this shared name already.

    Raises:
        TypeError: ``capacity`` is no integer.
        InvalidArgumentError: The queue of this shared name is another one.
    """
    bound = as_integer(capacity, "capacity")
    bound = max(bound, -1)  # every negative one means: no bound
    shapes = tuple(spec.shapes) if spec.has_shapes else None
    signature = Signature(class_name, tuple(spec.dtypes), shapes, bound, min_after_dequeue, seed)

    def make() -> QueueCore:
        return QueueCore(QueueMachine(name, bound, order(), min_after_dequeue), PlainStorage(spec), spec)

    return find_or_make(shared_name, signature, make)


def as_integer(value: Any, what: str) -> int:
    """``value`` as an int; `TypeError` if it is none."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be an integer, got {value!r}") from None
