"""Ops of queues: callables without arguments that do one thing to one queue, and have a name.

TensorFlow's ops are nodes of a graph that a session runs again and again; here each is an object that may be called
again and again, from any thread. What a queue runner runs, and what `QueueRunner.to_proto` names, is one of these.
"""

from collections.abc import Callable
from typing import Any, Protocol

from mpqueue.tf1.queues.graph import default_graph
from mpqueue.tf1.queues.selection import QueueRef
from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.queues.spec import ElementSpec


class OpQueue(Protocol):
    """The queue of an op: `QueueBase`, which makes ops and so stands above this module."""

    @property
    def name(self) -> str:
        """See `QueueBase.name`."""

    @property
    def names(self) -> list[str] | None:
        """See `QueueBase.names`."""

    @property
    def queue_ref(self) -> QueueRef:
        """See `QueueBase.queue_ref`."""

    @property
    def element_spec(self) -> ElementSpec:
        """See `QueueBase.element_spec`."""

    def enqueue(self, vals: Any) -> None:
        """See `QueueBase.enqueue`."""

    def enqueue_many(self, vals: Any) -> None:
        """See `QueueBase.enqueue_many`."""

    def close(self, cancel_pending_enqueues: bool) -> None:
        """See `QueueBase.close`."""


class QueueOp:
    """One thing to be done to one queue.

    Attributes:
        queue: The queue.
        name: The name it was given, made unique within the default graph by ``_1``, ``_2`` and so on.
    """

    def __init__(self, queue: OpQueue, name: str) -> None:
        self.queue = queue
        self.name = default_graph().add(self, name)
        default_graph().add(queue, queue.name)  # found by the same `from_proto` that finds this op

    def __call__(self) -> None:
        """Do it once."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class EnqueueOp(QueueOp):
    """Calls a source once and enqueues what it gives, as one element or, with ``many``, as a batch of elements.

    The source's end, `OutOfRangeError`, passes through: it tells a queue runner that this op is done.

    Attributes:
        source: The `Source`.
        many: True if each example of the source is a batch of elements.
    """

    def __init__(self, queue: OpQueue, source: Callable[[], Any], name: str | None, *, many: bool) -> None:
        self.source = source if isinstance(source, Source) else Source(source)
        self.many = many
        _check_fit(queue, self.source, many)
        self._enqueue = queue.enqueue_many if many else queue.enqueue
        super().__init__(queue, name or f"{queue.name}_{'EnqueueMany' if many else 'enqueue'}")

    def __call__(self) -> None:
        """Enqueue what the source gives next; blocks while the queue is full.

        Raises:
            OutOfRangeError: The source has ended.
            CancelledError: The queue is closed, or the session was closed while the op was blocked.
            Exception: Whatever the source or `QueueBase.enqueue` raises.
        """
        self._enqueue(self.source())

    def guarded(self, guard: Callable[[Callable[[], Any]], Callable[[], Any]]) -> Callable[[], None]:
        """Return the op for who runs it again and again, with what a guard makes of its source."""
        source = guard(self.source)
        return lambda: self._enqueue(source())


class CloseOp(QueueOp):
    """Closes the queue; with ``cancel``, enqueues that wait are cancelled, else they are let in first.

    Attributes:
        cancel: True if waiting enqueues are cancelled.
    """

    def __init__(self, queue: OpQueue, *, cancel: bool) -> None:
        self.cancel = cancel
        super().__init__(queue, f"{queue.name}_Close")

    def __call__(self) -> None:
        """Close it.

        Raises:
            CancelledError: It is closed already.
        """
        self.queue.close(cancel_pending_enqueues=self.cancel)


def _check_fit(queue: OpQueue, source: Source, many: bool) -> None:
    """Raise now, as far as it can be known now, what enqueueing an example would raise."""
    names, dtypes, shapes = source.names, source.dtypes, source.shapes
    if names is not None and sorted(names) != sorted(queue.names or ()):
        raise ValueError(f"the source has the names {names}, the queue {queue.names}: make them the same")
    if dtypes is None or shapes is None:
        return
    if names is not None and queue.names is not None:
        order = [names.index(name) for name in queue.names]
        dtypes, shapes = [dtypes[place] for place in order], [shapes[place] for place in order]
    queue.element_spec.check_types(dtypes, shapes, many=many)
