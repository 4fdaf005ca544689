"""Queues that are found again by their ``shared_name``.

A shared queue lives until `reset`, also while no object stands for it, as a resource of a TensorFlow server does: a
program may fill it in one function and read it in another.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple

from mpqueue.errors import InvalidArgumentError
from mpqueue.queues.core import QueueCore
from mpqueue.values.dtypes import DType
from mpqueue.values.shapes import Shape


class Signature(NamedTuple):
    """The properties that two queues of one shared name must agree in."""

    class_name: str
    dtypes: tuple[DType, ...]
    shapes: tuple[Shape, ...] | None
    capacity: int
    min_after_dequeue: int = 0
    seed: int | None = None


_lock = threading.Lock()
_shared: dict[str, tuple[Signature, QueueCore]] = {}


def find_or_make(shared_name: str | None, signature: Signature, make: Callable[[], QueueCore]) -> QueueCore:
    """The queue of this name, made now if there is none; always a new one without a name.

    Raises:
        InvalidArgumentError: There is a queue of this name with another signature.
    """
    if not shared_name:
        return make()
    with _lock:
        known = _shared.get(shared_name)
        if known is None:
            core = make()
            _shared[shared_name] = signature, core
            return core
    for field, expected, got in zip(signature._fields, known[0], signature, strict=True):
        if got != expected:
            raise InvalidArgumentError(
                None, None, f"the shared queue {shared_name!r} exists with {field} {expected}, not {got}"
            )
    return known[1]


def reset() -> None:
    """Forget all shared names; objects that stand for the queues go on working."""
    with _lock:
        _shared.clear()


def all_shared() -> list[QueueCore]:
    """All queues that have a shared name."""
    with _lock:
        return [core for _, core in _shared.values()]
