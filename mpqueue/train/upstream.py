"""Which queue runners a batch depends on: those that fill the queues from which its sources draw, and so on upwards.

In TensorFlow the graph knows. Here a source is a function, and what it draws from is what it holds: attributes of
objects, arguments of partials, variables that a closure has captured, globals that the code names. These are followed,
through containers, Sources, readers and a user's own objects, as far as a queue is found. Modules, classes and arrays
are not entered.
"""

import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from mpqueue.queues.base import QueueBase
from mpqueue.queues.ops import EnqueueOp
from mpqueue.queues.selection import Selection
from mpqueue.train.queue_runner import QueueRunner

# Whoever holds more than this in what a source captures holds data, not queues.
_MAX_THINGS = 20_000
_CLOSED = (types.ModuleType, type, np.ndarray, np.generic, str, bytes, int, float, complex, bool, type(None))


def runners_before(runner: QueueRunner, runners: Iterable[QueueRunner]) -> list[QueueRunner]:
    """The runners among ``runners`` that fill what ``runner`` draws from, directly or not; furthest ones first."""
    found: list[QueueRunner] = []
    entered = [runner]

    def enter(one: QueueRunner) -> None:
        drawn_from = {id(ref) for op in one.enqueue_ops for ref in queues_in(_source_of(op))}
        for other in known:
            if id(other.queue.queue_ref) in drawn_from and not any(other is seen for seen in entered):
                entered.append(other)
                enter(other)
                found.append(other)

    known = list(runners)
    enter(runner)
    return found


def queues_in(thing: Any) -> list[Any]:
    """The ``queue_ref`` of each queue that something holds or captures."""
    refs: list[Any] = []
    seen: set[int] = set()
    left = [thing]
    keep = []  # an object made on the way must not free its id for another one
    while left and len(seen) < _MAX_THINGS:
        one = left.pop()
        if id(one) in seen or isinstance(one, _CLOSED):
            continue
        seen.add(id(one))
        keep.append(one)
        if isinstance(one, QueueBase):
            ref = one.queue_ref
            refs += ref._queues if isinstance(ref, Selection) else [ref]
        else:
            left += _held_by(one)
    return refs


def _source_of(op: Callable[[], Any]) -> Any:
    """What an op draws from; of a foreign callable, all that it holds, the queue that it fills among it."""
    return op.source if isinstance(op, EnqueueOp) else op


def _held_by(one: Any) -> Iterator[Any]:
    if isinstance(one, dict):
        yield from one.values()
    elif isinstance(one, list | tuple | set | frozenset):
        yield from one
    elif isinstance(one, types.FunctionType):
        yield from _captured(one.__code__, one.__globals__)
        yield from (cell.cell_contents for cell in one.__closure__ or () if _is_filled(cell))
        yield from one.__defaults__ or ()
        yield from (one.__kwdefaults__ or {}).values()
    elif isinstance(one, types.GeneratorType):
        if one.gi_frame is not None:
            yield from one.gi_frame.f_locals.values()
            yield from _captured(one.gi_code, one.gi_frame.f_globals)
    else:
        yield from (getattr(one, name, None) for name in ("__self__", "__func__", "func", "args", "keywords"))
        yield from getattr(one, "__dict__", {}).values()


def _captured(code: types.CodeType, variables: dict[str, Any]) -> Iterator[Any]:
    """The globals that some code names, the functions inside it included."""
    yield from (variables[name] for name in code.co_names if name in variables)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _captured(constant, variables)


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - asking is how it is found out
    except ValueError:
        return False
    return True
