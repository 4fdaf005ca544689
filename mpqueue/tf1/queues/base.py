"""`QueueBase`: the public methods of a queue, of whatever kind and wherever it lives; and ops that call them."""

# ruff: noqa: ARG002 - every method takes TensorFlow's ``name``, which means nothing without a graph

import operator
from collections.abc import Callable
from functools import reduce
from numbers import Real
from typing import Any

import numpy as np

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.queues.graph import default_graph
from mpqueue.tf1.queues.selection import QueueRef, Selection
from mpqueue.tf1.queues.source import Source
from mpqueue.tf1.queues.spec import ElementSpec
from mpqueue.tf1.values.shapes import common_shape
from mpqueue.values.dtypes import DType
from mpqueue.values.shapes import Shape, as_shape


class QueueBase:
    """A queue of elements, each a tuple of arrays whose dtypes, and perhaps shapes, are fixed.

    Any number of threads may use it, and any number of other processes: a queue that a source captures, that is
    pickled, or that a fork inherits, is the same queue there. Calls that wait are served strictly in the order in
    which they came, those that enqueue and those that dequeue each among themselves. What is enqueued is copied; what
    is dequeued is an array that nobody else sees, see `dequeue`. Each element comes out exactly once. A process that is
    killed leaves each of its elements in the queue wholly or not at all, and takes with it at most what its last
    dequeue gave. When the process that made the queue is gone, calls elsewhere raise `CancelledError`; for a queue that
    lives in a server, `UnavailableError`. `FailedPreconditionError` says that there is no way to that process.

    This class is the face of a queue that exists, given by ``queue_ref``; `FIFOQueue`, `PaddingFIFOQueue` and
    `RandomShuffleQueue` make one.

    Every method takes a ``name``, which has no effect. A call that blocks takes a ``timeout`` in seconds, None for
    ever; it ends with `DeadlineExceededError`, and with `CancelledError` if its session is closed. Ctrl-C interrupts
    it. In all three cases what it had taken out of the queue goes back in its place, and what an `enqueue_many` has
    put in stays in.

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
        dtypes: A list of dtypes, one for each component; or a single one. NumPy's, or ``"string"`` for text.
        shapes: A list of shapes, one for each component, or None: then nothing is known of them.
        names: A list of names, one for each component, or None. With names, elements are dictionaries.
        queue_ref: The queue: `QueueBase.queue_ref` of another object.

    Raises:
        TypeError: A dtype does not exist, or a shape is none.
        ValueError: The numbers of dtypes, shapes and names differ.
        InvalidArgumentError: The queue has other dtypes.

    Follows: ``tf.QueueBase``.
    """

    def __init__(self, dtypes: Any, shapes: Any, names: Any, queue_ref: QueueRef) -> None:
        self._spec = ElementSpec(dtypes, None if shapes is None else [as_shape(shape) for shape in shapes], names)
        if self._spec.dtypes != queue_ref.dtypes:
            raise InvalidArgumentError(
                None, None, f"queue {queue_ref.name!r} has the dtypes {queue_ref.dtypes}, not {self._spec.dtypes}"
            )
        self._ref = queue_ref
        self._name = queue_ref.name

    @staticmethod
    def from_list(index: Any, queues: list["QueueBase"]) -> "QueueBase":
        """A queue that is ``queues[index]``.

        Args:
            index: An integer, or a callable that gives one and is called again for every use of the queue.
            queues: Queues of the same dtypes and names, of any class.

        Returns:
            A queue whose shapes are what is known of all: dimensions that differ are None.

        Raises:
            TypeError: ``queues`` is no list of queues, or their dtypes or names differ, or ``index`` is no integer.
            InvalidArgumentError: When it is used: there is no queue at that index.

        Follows: ``tf.QueueBase.from_list``.
        """
        if not isinstance(queues, list) or not queues or not all(isinstance(queue, QueueBase) for queue in queues):
            raise TypeError(f"expected a list of queues, got {queues!r}")
        first = queues[0]
        for other in queues[1:]:
            for what in ("dtypes", "names"):
                if getattr(other, what) != getattr(first, what):
                    raise TypeError(f"{what} differ: {getattr(first, what)} and {getattr(other, what)}")
        shapes = [reduce(common_shape, known) for known in zip(*(queue.shapes for queue in queues), strict=True)]
        return QueueBase(first.dtypes, shapes, first.names, Selection(index, [queue.queue_ref for queue in queues]))

    @property
    def queue_ref(self) -> QueueRef:
        """The queue itself: the same object for all that share it."""
        return self._ref

    @property
    def element_spec(self) -> ElementSpec:
        """The components of its elements; for the library itself."""
        return self._spec

    @property
    def name(self) -> str:
        """The name given to this object."""
        return self._name

    @property
    def dtypes(self) -> list[DType]:
        """The dtype of each component: a `numpy.dtype`, or ``"string"``."""
        return list(self._spec.dtypes)

    @property
    def shapes(self) -> list[Shape]:
        """The shape of each component: a tuple in which None is an unknown dimension, or None if nothing is known."""
        return list(self._spec.shapes)

    @property
    def names(self) -> list[str] | None:
        """The name of each component, or None."""
        return None if self._spec.names is None else list(self._spec.names)

    def enqueue(self, vals: Any, name: str | None = None, *, timeout: float | None = None) -> None:
        """Put one element in; block while the queue is full.

        Args:
            vals: The components in a list or tuple, a dictionary if they have names, or the only component by itself.
                A list is always a list of components: ``[[1, 2]]`` is one vector. Arrays are cast to the dtypes of
                the queue as by ``astype``, literals must fit in kind, text becomes UTF-8.
            name: Without effect.
            timeout: Seconds to wait, or None.

        Raises:
            CancelledError: The queue is closed, or was closed with ``cancel_pending_enqueues`` meanwhile, or the
                session was closed.
            InvalidArgumentError: A component has another shape than the queue's, or there are too few components.
            ValueError: A value is None or ragged, keys are missing or unknown.
            TypeError: A literal is of another kind, such as 2.0 for an integer; or ``name`` is a number, such as a
                timeout without its name.
            DeadlineExceededError: Still full after ``timeout`` seconds.

        Warns:
            RuntimeWarning: There are too many components; the last ones are dropped, as TensorFlow does.

        Follows: ``tf.QueueBase.enqueue``.
        """
        if name is not None:
            _refuse_number(name)
        self._ref.enqueue(self._spec.components(vals), timeout)

    def enqueue_many(self, vals: Any, name: str | None = None, *, timeout: float | None = None) -> None:
        """Put many elements in, the rows of the given arrays; block until the last one is in.

        They go in one by one as there is room, so there may be more of them than the capacity; nobody else's get
        between. No rows at all are fine, even with a closed queue.

        Args:
            vals: The components in a list or tuple, a dictionary if they have names, or the only component by itself;
                each with one more dimension in front, of the same size for all, whose rows are the elements. Arrays are
                cast to the dtypes of the queue as by ``astype``, literals must fit in kind, text becomes UTF-8.
            name: Without effect.
            timeout: Seconds to wait, or None. What is in by then stays in.

        Raises:
            CancelledError: The queue is closed, or was closed with ``cancel_pending_enqueues`` meanwhile, or the
                session was closed; what was in by then stays in.
            InvalidArgumentError: A row has another shape than the queue's, there are too few components, the sizes of
                the first dimension differ, or a component is a scalar.
            ValueError: A value is None or ragged, keys are missing or unknown.
            TypeError: A literal is of another kind, such as 2.0 for an integer; or ``name`` is a number, such as a
                timeout without its name.
            DeadlineExceededError: Some are not in after ``timeout`` seconds; the message says how many are.

        Follows: ``tf.QueueBase.enqueue_many``.
        """
        if name is not None:
            _refuse_number(name)
        self._ref.enqueue_many(self._spec.components(vals), timeout)

    def dequeue(self, name: str | None = None, *, timeout: float | None = None) -> Any:
        """Take one element out; block while there is none.

        Args:
            name: Without effect.
            timeout: Seconds to wait, or None.

        Returns:
            A dictionary if the components have names, the bare component if there is one, else a list. Scalars are
            NumPy scalars, text scalars ``bytes``; arrays are writable and the caller's own. An array of numbers of 64
            KiB or more that another process enqueued is a view of shared memory, which is its own until the last view
            is gone, also after the queue has ended; who keeps more than eight of them gets copies.

        Raises:
            OutOfRangeError: The queue is closed and empty, and no waiting enqueue will change that.
            CancelledError: The session was closed.
            TypeError: ``name`` is a number, such as a timeout without its name.
            DeadlineExceededError: Nothing came within ``timeout`` seconds.

        Follows: ``tf.QueueBase.dequeue``.
        """
        if name is not None:
            _refuse_number(name)
        return self._ref.dequeue(timeout, self._spec.result)

    def dequeue_many(self, n: int, name: str | None = None, *, timeout: float | None = None) -> Any:
        """Take ``n`` elements out, stacked along a new first dimension; block until there are as many.

        It takes elements out of the queue while it waits, so ``n`` may exceed the capacity; if it fails, they go back
        in their order. Later dequeues wait behind it.

        Args:
            n: Number of elements. 0 gives empty arrays at once, even from a closed queue.
            name: Without effect.
            timeout: Seconds to wait, or None.

        Returns:
            A dictionary if the components have names, the bare component if there is one, else a list: arrays of shape
            ``(n, *shape)`` and of the queue's dtype, writable and the caller's own; text in arrays of ``bytes``
            objects. A `PaddingFIFOQueue` pads them.

        Raises:
            OutOfRangeError: The queue is closed and will not have ``n`` elements.
            InvalidArgumentError: ``n`` is negative, or the queue was made without shapes.
            TypeError: ``n`` is no integer, or ``name`` is a number, such as a timeout without its name.
            CancelledError: The session was closed.
            DeadlineExceededError: Not enough came within ``timeout`` seconds.

        Follows: ``tf.QueueBase.dequeue_many``.
        """
        if name is not None:
            _refuse_number(name)
        return self._ref.dequeue_many(operator.index(n), timeout, self._spec.result, takes_fewer=False)

    def dequeue_up_to(self, n: int, name: str | None = None, *, timeout: float | None = None) -> Any:
        """Take ``n`` elements out as `dequeue_many` does, or from a closed queue what is left, if anything is.

        Args:
            n: Number of elements.
            name: Without effect.
            timeout: Seconds to wait, or None.

        Returns:
            A dictionary if the components have names, the bare component if there is one, else a list: arrays of shape
            ``(n, *shape)``, writable and the caller's own. The first dimension is smaller than ``n`` only if the queue
            is closed.

        Raises:
            OutOfRangeError: The queue is closed and empty.
            InvalidArgumentError: ``n`` is negative, or the queue was made without shapes.
            TypeError: ``n`` is no integer, or ``name`` is a number, such as a timeout without its name.
            CancelledError: The session was closed.
            DeadlineExceededError: Not enough came within ``timeout`` seconds, and the queue is open.

        Follows: ``tf.QueueBase.dequeue_up_to``.
        """
        if name is not None:
            _refuse_number(name)
        return self._ref.dequeue_many(operator.index(n), timeout, self._spec.result, takes_fewer=True)

    def size(self, name: str | None = None) -> np.int32:
        """The number of elements in the queue, as a NumPy int32 scalar; those that a waiting call holds are not in it.

        Follows: ``tf.QueueBase.size``.
        """
        return np.int32(self._ref.size)

    def close(
        self, cancel_pending_enqueues: bool = False, name: str | None = None, *, timeout: float | None = None
    ) -> None:
        """Say that nothing more will be enqueued.

        Enqueues that wait still go in, and this call waits until they are; those that come later fail. Dequeues go on
        until the queue is empty.

        Args:
            cancel_pending_enqueues: Close at once instead: enqueues that wait fail, and so does a close that waits.
            name: Without effect.
            timeout: Seconds to wait for pending enqueues, or None.

        Raises:
            CancelledError: The queue is closed already (never with ``cancel_pending_enqueues``), or it was closed with
                ``cancel_pending_enqueues`` meanwhile, or the session was closed.
            DeadlineExceededError: Enqueues are still waiting after ``timeout`` seconds; the queue is not closed.

        Follows: ``tf.QueueBase.close``.
        """
        self._ref.close(bool(cancel_pending_enqueues), timeout)

    def is_closed(self, name: str | None = None) -> bool:
        """True once a close was processed: not yet while it waits behind pending enqueues.

        Follows: ``tf.QueueBase.is_closed``.
        """
        return self._ref.is_closed

    def enqueue_op(self, source: Callable[[], Any], name: str | None = None) -> "EnqueueOp":
        """Make an op that enqueues the next example of a source at each call.

        Args:
            source: A `Source`, or any callable that gives one element per call and raises `OutOfRangeError` or
                StopIteration at the end.
            name: Name of the op, ``"<name of the queue>_enqueue"`` if None; made unique by ``_1``, ``_2`` and so on.

        Returns:
            A callable without arguments, for `QueueRunner` or ``Session.run``.

        Raises:
            TypeError: ``source`` is not callable.
            ValueError: The source's dtypes and shapes do not fit the queue.

        Follows: The op that ``tf.QueueBase.enqueue`` returns.
        """
        return EnqueueOp(self, source, name, many=False)

    def enqueue_many_op(self, source: Callable[[], Any], name: str | None = None) -> "EnqueueOp":
        """Make an op that enqueues, at each call, all rows of the next example of a source.

        Args:
            source: A `Source`, or any callable that gives the rows of some elements per call and raises
                `OutOfRangeError` or StopIteration at the end; known shapes have one more dimension in front, too.
            name: Name of the op, ``"<name of the queue>_EnqueueMany"`` if None; made unique by ``_1``, ``_2``, ...

        Returns:
            A callable without arguments, for `QueueRunner` or ``Session.run``.

        Raises:
            TypeError: ``source`` is not callable.
            ValueError: The source's dtypes and shapes do not fit the queue.

        Follows: The op that ``tf.QueueBase.enqueue_many`` returns.
        """
        return EnqueueOp(self, source, name, many=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._ref!r}>"


class QueueOp:
    """One thing to be done to one queue, by a call without arguments.

    TensorFlow's ops are nodes of a graph that a session runs again and again; an object of this class may be called
    again and again, from any thread. What a queue runner runs, and what `QueueRunner.to_proto` names, is one of these.

    Attributes:
        queue: The queue.
        name: The name it was given, made unique within the default graph by ``_1``, ``_2`` and so on.
    """

    def __init__(self, queue: QueueBase, name: str) -> None:
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

    def __init__(self, queue: QueueBase, source: Callable[[], Any], name: str | None, *, many: bool) -> None:
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

    def __init__(self, queue: QueueBase, *, cancel: bool) -> None:
        self.cancel = cancel
        super().__init__(queue, f"{queue.name}_Close")

    def __call__(self) -> None:
        """Close it.

        Raises:
            CancelledError: It is closed already.
        """
        self.queue.close(cancel_pending_enqueues=self.cancel)


def _check_fit(queue: QueueBase, source: Source, many: bool) -> None:
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


def _refuse_number(name: Any) -> None:
    """Raise a `TypeError` for a number in the place of a name, which has no effect: the call would wait for ever."""
    if isinstance(name, Real):
        raise TypeError(f"name must be text or None, got {name!r}: seconds to wait are passed as timeout={name!r}")
