"""Which queue runners a batch depends on: those that fill the queues from which its sources draw, and so on upwards.

In TensorFlow the graph knows. Here a source is a function, and what it draws from is what it holds.
"""

from collections.abc import Callable, Iterable
from typing import Any

from mpqueue.queues.base import QueueBase
from mpqueue.queues.ops import EnqueueOp
from mpqueue.queues.selection import Selection
from mpqueue.train.holding import held_in
from mpqueue.train.queue_runner import QueueRunner


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
    for queue in held_in(thing, QueueBase):
        ref = queue.queue_ref
        refs += ref._queues if isinstance(ref, Selection) else [ref]
    return refs


def _source_of(op: Callable[[], Any]) -> Any:
    """What an op draws from; of a foreign callable, all that it holds, the queue that it fills among it."""
    return op.source if isinstance(op, EnqueueOp) else op
