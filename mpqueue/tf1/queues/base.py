"""`QueueBase`: the public methods of all queues, local or remote; and ops that call them."""

import operator
from collections.abc import Callable
from functools import reduce
from numbers import Real
from typing import Any

import numpy as np

from mpqueue.tf1.queues.graph import default_graph
from mpqueue.tf1.queues.selection import QueueRef, Selection
from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.queues.spec import ElementSpec
from mpqueue.tf1.values.conversion import invalid
from mpqueue.tf1.values.shapes import common_shape
from mpqueue.values.dtypes import DType
from mpqueue.values.shapes import Shape, as_shape


class QueueBase:
    """A queue of elements. Each element is a tuple of arrays with fixed dtypes and, optionally, fixed shapes.

    Any number of threads and processes may use the queue at the same time. A queue that a source captures, that is
    pickled, or that a fork inherits is the same queue in the other process. Enqueues are served in FIFO order, and so
    are dequeues. Enqueued arrays are copied, dequeued arrays belong to the caller. Each element is dequeued exactly
    once.

    A killed process has enqueued each of its elements completely or not at all; it loses at most the elements of its
    last dequeue. If the process that created the queue exits, calls in other processes raise `CancelledError`. If
    that process cannot be reached, they raise `FailedPreconditionError`.

    A `QueueBase` refers to the existing queue ``queue_ref``. To create a queue, use `FIFOQueue`, `PaddingFIFOQueue` or
    `RandomShuffleQueue`.

    Each method takes a ``name``, which has no effect. A method that blocks takes a ``timeout`` in seconds; None waits
    indefinitely. On timeout it raises `DeadlineExceededError`, and if its session is closed, `CancelledError`. Ctrl-C
    interrupts it. In all three cases, dequeued elements return to their places, and elements that `enqueue_many` has
    enqueued remain in the queue.

    Example:
        A function that takes any queue::

            import mpqueue

            def drain(queue: mpqueue.train.QueueBase) -> list[int]:
                queue.close()
                return queue.dequeue_up_to(100).tolist()

            numbers = mpqueue.train.FIFOQueue(10, "int32", [()])
            numbers.enqueue_many([[1, 2, 3]])
            assert drain(numbers) == [1, 2, 3]

    Args:
        dtypes: A list of dtypes, one for each component, or a single dtype: a NumPy dtype, or ``"string"``.
        shapes: A list of shapes, one for each component. None: unknown.
        names: A list of names, one for each component, or None. With names, elements are dicts.
        queue_ref: The queue, the `QueueBase.queue_ref` of an existing object.

    Raises:
        TypeError: A dtype does not exist, or a shape is invalid.
        ValueError: The numbers of dtypes, shapes and names differ.
        InvalidArgumentError: The queue has other dtypes.

    Follows: ``tf.QueueBase``.
    """

    def __init__(self, dtypes: Any, shapes: Any, names: Any, queue_ref: QueueRef) -> None:
        self._spec = ElementSpec(dtypes, None if shapes is None else [as_shape(shape) for shape in shapes], names)
        if self._spec.dtypes != queue_ref.dtypes:
            invalid(
                f"Expected the dtypes {queue_ref.dtypes} of queue {queue_ref.name!r}, got {self._spec.dtypes}.",
            )
        self._ref = queue_ref
        self._name = queue_ref.name

    @staticmethod
    def from_list(index: Any, queues: list["QueueBase"]) -> "QueueBase":
        """Return a queue whose calls go to ``queues[index]``.

        Args:
            index: An integer, or a callable that returns one and is called at each use of the queue.
            queues: Queues with the same dtypes and names, of any class.

        Returns:
            A queue with the common shapes of all queues, where dimensions that differ are None.

        Raises:
            TypeError: ``queues`` is not a list of queues, their dtypes or names differ, or ``index`` is not an integer.
            InvalidArgumentError: At a later use: there is no queue at this index.

        Follows: ``tf.QueueBase.from_list``.
        """
        if not isinstance(queues, list) or not queues or not all(isinstance(queue, QueueBase) for queue in queues):
            raise TypeError(f"queues must be a non-empty list of queues, got {queues!r}.")
        first = queues[0]
        for other in queues[1:]:
            for what in ("dtypes", "names"):
                if getattr(other, what) != getattr(first, what):
                    raise TypeError(
                        f"All queues must have the same {what}, got {getattr(first, what)} and {getattr(other, what)}."
                    )
        shapes = [reduce(common_shape, known) for known in zip(*(queue.shapes for queue in queues), strict=True)]
        return QueueBase(first.dtypes, shapes, first.names, Selection(index, [queue.queue_ref for queue in queues]))

    @property
    def queue_ref(self) -> QueueRef:
        """The queue itself. Objects that share a queue have the same one."""
        return self._ref

    @property
    def element_spec(self) -> ElementSpec:
        """The components of the elements; for internal use."""
        return self._spec

    @property
    def name(self) -> str:
        """Name of this object."""
        return self._name

    @property
    def dtypes(self) -> list[DType]:
        """The dtype of each component: a `numpy.dtype`, or ``"string"``."""
        return list(self._spec.dtypes)

    @property
    def shapes(self) -> list[Shape]:
        """The shape of each component: a tuple with None for unknown dimensions, or None if the rank is unknown."""
        return list(self._spec.shapes)

    @property
    def names(self) -> list[str] | None:
        """The name of each component, or None."""
        return None if self._spec.names is None else list(self._spec.names)

    def enqueue(self, vals: Any, name: str | None = None, *, timeout: float | None = None) -> None:
        """Enqueue one element; block while the queue is full.

        Args:
            vals: The components in a list or tuple, a dict if they have names, or the only component by itself. A list
                is always a list of components: ``[[1, 2]]`` is one vector. Arrays are cast to the queue's dtypes as by
                ``astype``. Literals must have the kind of the dtype. Strings are encoded as UTF-8.
            name: No effect.
            timeout: Maximum time to wait in seconds, or None.

        Raises:
            CancelledError: The queue is closed, it was closed with ``cancel_pending_enqueues`` during the call, or the
                session was closed.
            InvalidArgumentError: A component has a wrong shape, or there are too few components.
            ValueError: A value is None or ragged, or keys are missing or unknown.
            TypeError: A literal has a different kind, such as 2.0 for an integer; or ``name`` is a number.
            DeadlineExceededError: The queue is still full after ``timeout`` seconds.

        Warns:
            RuntimeWarning: There are too many components. The last ones are dropped, as in TensorFlow.

        Follows: ``tf.QueueBase.enqueue``.
        """
        if name is not None:
            _refuse_number(name)
        self._ref.enqueue(self._spec.components(vals), timeout)

    def enqueue_many(self, vals: Any, name: str | None = None, *, timeout: float | None = None) -> None:
        """Enqueue many elements, the rows of the given arrays; block until all are enqueued.

        Elements are enqueued as room becomes available, so there may be more elements than the capacity. Elements of
        other calls are not enqueued in between. With zero rows, the call has no effect, even if the queue is closed.

        Args:
            vals: The components in a list or tuple, a dict if they have names, or the only component by itself. Each
                has an additional first dimension of the same size, whose rows are the elements. Arrays are cast to the
                queue's dtypes as by ``astype``. Literals must have the kind of the dtype. Strings are encoded as UTF-8.
            name: No effect.
            timeout: Maximum time to wait in seconds, or None.

        Raises:
            CancelledError: The queue is closed, it was closed with ``cancel_pending_enqueues`` during the call, or the
                session was closed. Elements that were enqueued before remain in the queue.
            InvalidArgumentError: A row has a wrong shape, there are too few components, the sizes of the first
                dimensions differ, or a component is a scalar.
            ValueError: A value is None or ragged, or keys are missing or unknown.
            TypeError: A literal has a different kind, such as 2.0 for an integer; or ``name`` is a number.
            DeadlineExceededError: Some elements are not enqueued after ``timeout`` seconds; the others remain in the
                queue. The message contains the number of enqueued elements.

        Follows: ``tf.QueueBase.enqueue_many``.
        """
        if name is not None:
            _refuse_number(name)
        self._ref.enqueue_many(self._spec.components(vals), timeout)

    def dequeue(self, name: str | None = None, *, timeout: float | None = None) -> Any:
        """Dequeue one element; block while the queue is empty.

        Args:
            name: No effect.
            timeout: Maximum time to wait in seconds, or None.

        Returns:
            A dict if the components have names, the array itself if there is one component, otherwise a list. Scalars
            are NumPy scalars or ``bytes``; arrays are writable and belong to the caller. An array of numbers of at
            least 64 KiB that another process has enqueued is a view of shared memory. The memory is not reused while
            any view of it exists, even after the queue was deleted. If you keep more than eight such arrays, further
            ones are copies.

        Raises:
            OutOfRangeError: The queue is closed and empty, and no enqueue is pending.
            CancelledError: The session was closed.
            TypeError: ``name`` is a number.
            DeadlineExceededError: The queue is still empty after ``timeout`` seconds.

        Follows: ``tf.QueueBase.dequeue``.
        """
        if name is not None:
            _refuse_number(name)
        return self._ref.dequeue(timeout, self._spec.result)

    def dequeue_many(self, n: int, name: str | None = None, *, timeout: float | None = None) -> Any:
        """Dequeue ``n`` elements, stacked along a new first dimension; block until there are enough.

        The call removes elements from the queue while it waits, so ``n`` may exceed the capacity. If it fails, they
        return in order. Later dequeues wait until it has finished.

        Args:
            n: Number of elements. 0 returns empty arrays at once, even from a closed queue.
            name: No effect.
            timeout: Maximum time to wait in seconds, or None.

        Returns:
            A dict if the components have names, the array itself if there is one component, otherwise a list. Arrays
            have the shape ``(n, *shape)`` and the queue's dtype, are writable and belong to the caller. Strings are
            arrays of ``bytes`` objects. A `PaddingFIFOQueue` pads the elements.

        Raises:
            OutOfRangeError: The queue is closed and has fewer than ``n`` elements.
            InvalidArgumentError: ``n`` is negative, or the queue has no shapes.
            TypeError: ``n`` is not an integer, or ``name`` is a number.
            CancelledError: The session was closed.
            DeadlineExceededError: There were not enough elements within ``timeout`` seconds.

        Follows: ``tf.QueueBase.dequeue_many``.
        """
        if name is not None:
            _refuse_number(name)
        return self._ref.dequeue_many(operator.index(n), timeout, self._spec.result, takes_fewer=False)

    def dequeue_up_to(self, n: int, name: str | None = None, *, timeout: float | None = None) -> Any:
        """Dequeue ``n`` elements like `dequeue_many`, or the remaining ones (at least one) if the queue is closed.

        Args:
            n: Maximum number of elements.
            name: No effect.
            timeout: Maximum time to wait in seconds, or None.

        Returns:
            A dict if the components have names, the array itself if there is one component, otherwise a list. Arrays
            have the shape ``(n, *shape)``, are writable and belong to the caller. The first dimension is smaller than
            ``n`` only if the queue is closed.

        Raises:
            OutOfRangeError: The queue is closed and empty.
            InvalidArgumentError: ``n`` is negative, or the queue has no shapes.
            TypeError: ``n`` is not an integer, or ``name`` is a number.
            CancelledError: The session was closed.
            DeadlineExceededError: The queue is open and had not enough elements within ``timeout`` seconds.

        Follows: ``tf.QueueBase.dequeue_up_to``.
        """
        if name is not None:
            _refuse_number(name)
        return self._ref.dequeue_many(operator.index(n), timeout, self._spec.result, takes_fewer=True)

    def size(self, name: str | None = None) -> np.int32:
        """Return the number of elements in the queue as a NumPy int32, not counting those held by waiting calls.

        Follows: ``tf.QueueBase.size``.
        """
        return np.int32(self._ref.size)

    def close(
        self, cancel_pending_enqueues: bool = False, name: str | None = None, *, timeout: float | None = None
    ) -> None:
        """Close the queue: no more elements will be enqueued.

        Pending enqueues still succeed, and this call waits for them. Later enqueues fail. Dequeues succeed until the
        queue is empty.

        Args:
            cancel_pending_enqueues: Close at once and cancel pending enqueues and pending closes.
            name: No effect.
            timeout: Maximum time to wait for pending enqueues in seconds, or None.

        Raises:
            CancelledError: The queue is closed already (never with ``cancel_pending_enqueues``), it was closed with
                ``cancel_pending_enqueues`` during the call, or the session was closed.
            DeadlineExceededError: Enqueues are still pending after ``timeout`` seconds. The queue remains open.

        Follows: ``tf.QueueBase.close``.
        """
        self._ref.close(bool(cancel_pending_enqueues), timeout)

    def is_closed(self, name: str | None = None) -> bool:
        """Return whether the queue is closed. While a close waits for pending enqueues, the queue is still open.

        Follows: ``tf.QueueBase.is_closed``.
        """
        return self._ref.is_closed

    def enqueue_op(self, source: Callable[[], Any], name: str | None = None) -> "EnqueueOp":
        """Create an op that enqueues the next example of a source at each call.

        Args:
            source: A `Source`, or any callable that returns one element per call and raises `OutOfRangeError` or
                `StopIteration` at the end.
            name: Name of the op, ``"<name of the queue>_enqueue"`` if None. A suffix ``_1``, ``_2`` makes it unique.

        Returns:
            A callable without arguments, for `QueueRunner` or ``Session.run``.

        Raises:
            TypeError: ``source`` is not callable.
            ValueError: The source's dtypes or shapes do not match the queue's.

        Follows: The op that ``tf.QueueBase.enqueue`` returns.
        """
        return EnqueueOp(self, source, name, many=False)

    def enqueue_many_op(self, source: Callable[[], Any], name: str | None = None) -> "EnqueueOp":
        """Create an op that enqueues all rows of the next example of a source at each call.

        Args:
            source: A `Source`, or any callable that returns the rows of several elements per call and raises
                `OutOfRangeError` or `StopIteration` at the end. Its shapes include the additional first dimension.
            name: Name of the op, ``"<name of the queue>_EnqueueMany"`` if None. A suffix ``_1`` makes it unique.

        Returns:
            A callable without arguments, for `QueueRunner` or ``Session.run``.

        Raises:
            TypeError: ``source`` is not callable.
            ValueError: The source's dtypes or shapes do not match the queue's.

        Follows: The op that ``tf.QueueBase.enqueue_many`` returns.
        """
        return EnqueueOp(self, source, name, many=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._ref!r}>"


class QueueOp:
    """An operation on one queue, called without arguments.

    Like an op of a TensorFlow graph, it may be called repeatedly and from any thread. Queue runners run such ops, and
    `QueueRunner.to_proto` refers to them by name.

    Attributes:
        queue: The queue.
        name: Name of the op, with a suffix ``_1``, ``_2`` that makes it unique in the default graph.
    """

    def __init__(self, queue: QueueBase, name: str) -> None:
        self.queue = queue
        self.name = default_graph().add(self, name)
        # `from_proto` finds the op and its queue by their names.
        default_graph().add(queue, queue.name)

    def __call__(self) -> None:
        """Run the op once."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class EnqueueOp(QueueOp):
    """An op that calls a source once and enqueues the result, as one element or, with ``many``, as several.

    It raises the source's `OutOfRangeError`, after which a queue runner does not call it again.

    Attributes:
        source: The `Source`.
        many: True if each example of the source contains several elements.
    """

    def __init__(self, queue: QueueBase, source: Callable[[], Any], name: str | None, *, many: bool) -> None:
        self.source = source if isinstance(source, Source) else Source(source)
        self.many = many
        _check_fit(queue, self.source, many)
        self._enqueue = queue.enqueue_many if many else queue.enqueue
        super().__init__(queue, name or f"{queue.name}_{'EnqueueMany' if many else 'enqueue'}")

    def __call__(self) -> None:
        """Enqueue the next example of the source; block while the queue is full.

        Raises:
            OutOfRangeError: The source has no more examples.
            CancelledError: The queue is closed, or the session was closed while the op was blocked.
            Exception: Any exception of the source or of `QueueBase.enqueue`.
        """
        self._enqueue(self.source())

    def guarded(self, guard: Callable[[Callable[[], Any]], Callable[[], Any]]) -> Callable[[], None]:
        """Return a callable that runs the op with ``guard(source)`` instead of the source, for repeated use."""
        source = guard(self.source)
        return lambda: self._enqueue(source())


class CloseOp(QueueOp):
    """An op that closes the queue, after pending enqueues or by cancelling them.

    Attributes:
        cancel: True to cancel pending enqueues.
    """

    def __init__(self, queue: QueueBase, *, cancel: bool) -> None:
        self.cancel = cancel
        super().__init__(queue, f"{queue.name}_Close")

    def __call__(self) -> None:
        """Close the queue.

        Raises:
            CancelledError: The queue is closed already.
        """
        self.queue.close(cancel_pending_enqueues=self.cancel)


def _check_fit(queue: QueueBase, source: Source, many: bool) -> None:
    """Raise errors of enqueueing an example that can be detected before the source is called."""
    names, dtypes, shapes = source.names, source.dtypes, source.shapes
    if names is not None and sorted(names) != sorted(queue.names or ()):
        raise ValueError(f"The source must have the names of the queue, {queue.names}, got {names}.")
    if dtypes is None or shapes is None:
        return
    if names is not None and queue.names is not None:
        order = [names.index(name) for name in queue.names]
        dtypes, shapes = [dtypes[place] for place in order], [shapes[place] for place in order]
    queue.element_spec.check_types(dtypes, shapes, many=many)


def _refuse_number(name: Any) -> None:
    """Raise `TypeError` if ``name`` is a number: it was meant as a timeout, and the call would block indefinitely."""
    if isinstance(name, Real):
        raise TypeError(f"name must be a string or None, got {name!r}. Pass the seconds to wait as timeout={name!r}.")
