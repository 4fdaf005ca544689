"""The three kinds of queues: first in first out, the same with padding, and in random order."""

from typing import Any

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.queues.base import QueueBase
from mpqueue.tf1.queues.making import as_integer, make_queue
from mpqueue.tf1.queues.spec import ElementSpec, as_list
from mpqueue.tf1.values.shapes import as_known_shapes, as_shapes


class FIFOQueue(QueueBase):
    """A queue that gives its elements out in the order in which they were put in.

    What comes out is the caller's own, writable and of the queue's dtypes: from `dequeue` arrays of the element's shape
    (NumPy scalars, ``bytes``), from `dequeue_many` arrays of shape ``(n, *shape)``. Any number of threads and processes
    may use it at once.

    Example:
        Elements of two components, filled by a thread::

            import threading
            import mpqueue

            queue = mpqueue.train.FIFOQueue(10, ["float32", "int32"], shapes=[(2,), ()])

            def fill():
                for number in range(4):
                    queue.enqueue([[number, number / 2], number])
                queue.close()

            thread = threading.Thread(target=fill)
            thread.start()
            vectors, numbers = queue.dequeue_many(3)
            assert vectors.shape == (3, 2) and numbers.tolist() == [0, 1, 2]
            thread.join()

    Args:
        capacity: Most elements that it is filled to. 0: every enqueue blocks; negative: no bound.
        dtypes: A list of dtypes, one for each component; or a single one. NumPy's, or ``"string"`` for text.
        shapes: A list of fully known shapes, one for each component, or a single shape. None: elements may have any
            shapes, each its own, and are dequeued one by one only.
        names: A list of names, one for each component: elements are then dictionaries.
        shared_name: Queues of one shared name are one queue in this process and its workers, until
            `reset_default_graph`; inside of `mpqueue.train.connect`, in all programs that are connected to the server.
        name: Kept as `name`, and named in errors.

    Raises:
        TypeError: A dtype does not exist, or ``capacity`` is no integer.
        ValueError: The numbers of dtypes, shapes and names differ, or a shape is not fully known.
        InvalidArgumentError: The queue of this shared name has other dtypes, shapes, capacity or class.
        FailedPreconditionError: With ``shared_name``, in a worker: its trainer had no queue to share when it started.
        UnavailableError: With ``shared_name``, inside of `mpqueue.train.connect`: the server is gone.

    Follows: ``tf.FIFOQueue``.
    """

    def __init__(
        self,
        capacity: int,
        dtypes: Any,
        shapes: Any = None,
        names: Any = None,
        shared_name: str | None = None,
        name: str | None = "fifo_queue",
    ) -> None:
        known = as_known_shapes(shapes, len(as_list(dtypes)), "FIFOQueue")
        spec = ElementSpec(dtypes, known, names)
        name = name or "fifo_queue"
        queue_ref = make_queue("FIFOQueue", name, capacity, spec, shared_name)
        super().__init__(dtypes, known, names, queue_ref)
        self._name = name


class PaddingFIFOQueue(QueueBase):
    """A FIFO queue whose elements may differ in size along unknown dimensions, and are padded when they are stacked.

    `dequeue_many` and `dequeue_up_to` fill every unknown dimension at its end up to the longest element of the batch:
    numbers with 0, booleans with False, text with ``b""``. `dequeue` gives the bare element. What comes out is the
    caller's own, writable and of the queue's dtypes. Any number of threads and processes may use it at once.

    Example:
        Vectors of different lengths in one batch::

            import mpqueue

            queue = mpqueue.train.PaddingFIFOQueue(10, "int32", shapes=[[None]])
            queue.enqueue([[1, 2, 3]])
            queue.enqueue([[4]])
            assert queue.dequeue_many(2).tolist() == [[1, 2, 3], [4, 0, 0]]

    Args:
        capacity: Most elements that it is filled to. 0: every enqueue blocks; negative: no bound.
        dtypes: A list of dtypes, one for each component; or a single one. NumPy's, or ``"string"`` for text.
        shapes: A list of shapes, one for each component. Dimensions that vary are None; the rank must be known. A
            single shape whose sizes are all known may stand for a list of one.
        names: A list of names, one for each component: elements are then dictionaries.
        shared_name: Queues of one shared name are one queue in this process and its workers, until
            `reset_default_graph`; inside of `mpqueue.train.connect`, in all programs that are connected to the server.
        name: Kept as `name`, and named in errors.

    Raises:
        TypeError: A dtype does not exist, or ``capacity`` is no integer.
        ValueError: The numbers of dtypes, shapes and names differ, or a rank is unknown.
        InvalidArgumentError: The queue of this shared name has other dtypes, shapes, capacity or class.
        FailedPreconditionError: With ``shared_name``, in a worker: its trainer had no queue to share when it started.
        UnavailableError: With ``shared_name``, inside of `mpqueue.train.connect`: the server is gone.

    Follows: ``tf.PaddingFIFOQueue``.
    """

    def __init__(
        self,
        capacity: int,
        dtypes: Any,
        shapes: Any,
        names: Any = None,
        shared_name: str | None = None,
        name: str | None = "padding_fifo_queue",
    ) -> None:
        if shapes is None:
            raise ValueError("a PaddingFIFOQueue needs shapes: give one for each component, with None where it varies")
        # A list of nothing but None would be read as one shape: who means "no shape is known" would lose the rank.
        if isinstance(shapes, list | tuple) and None in shapes:
            raise ValueError(
                f"a PaddingFIFOQueue needs the rank of every component, got the shapes {shapes}: give one shape for "
                "each component, such as [[None]] for a vector of any length"
            )
        known = as_shapes(shapes, len(as_list(dtypes)))
        spec = ElementSpec(dtypes, known, names)
        name = name or "padding_fifo_queue"
        queue_ref = make_queue("PaddingFIFOQueue", name, capacity, spec, shared_name)
        super().__init__(dtypes, known, names, queue_ref)
        self._name = name


class RandomShuffleQueue(QueueBase):
    """A queue that gives out any of its elements, each as likely as the others, at a cost that does not grow with it.

    What comes out is the caller's own, writable and of the queue's dtypes: from `dequeue` arrays of the element's shape
    (NumPy scalars, ``bytes``), from `dequeue_many` arrays of shape ``(n, *shape)``. Any number of threads and processes
    may use it at once.

    Example:
        All elements, in random order::

            import mpqueue

            queue = mpqueue.train.RandomShuffleQueue(100, min_after_dequeue=10, dtypes="int32", shapes=[()], seed=1)
            queue.enqueue_many([range(20)])
            queue.close()
            assert sorted(queue.dequeue_many(20).tolist()) == list(range(20))

    Args:
        capacity: Most elements that it is filled to. Negative: no bound.
        min_after_dequeue: Elements that stay in the queue as long as it is open, so that there is always something to
            choose from: more of them shuffle better, fewer are there sooner. At least 0, below ``capacity``.
        dtypes: A list of dtypes, one for each component; or a single one. NumPy's, or ``"string"`` for text.
        shapes: A list of fully known shapes, one for each component, or a single shape. None: elements may have any
            shapes, each its own, and are dequeued one by one only.
        names: A list of names, one for each component: elements are then dictionaries.
        seed: Makes the order a function of the calls in the order in which they came; None: a new one every time.
        shared_name: Queues of one shared name are one queue in this process and its workers, until
            `reset_default_graph`; inside of `mpqueue.train.connect`, in all programs that are connected to the server.
        name: Kept as `name`, and named in errors.

    Raises:
        TypeError: A dtype does not exist, or ``capacity``, ``min_after_dequeue`` or ``seed`` is no integer.
        ValueError: The numbers of dtypes, shapes and names differ, or a shape is not fully known.
        InvalidArgumentError: ``min_after_dequeue`` is negative or not below ``capacity``, or the queue of this shared
            name has other dtypes, shapes, capacity, minimum, seed or class.
        FailedPreconditionError: With ``shared_name``, in a worker: its trainer had no queue to share when it started.
        UnavailableError: With ``shared_name``, inside of `mpqueue.train.connect`: the server is gone.

    Follows: ``tf.RandomShuffleQueue``; the order of a seed is our own.
    """

    def __init__(
        self,
        capacity: int,
        min_after_dequeue: int,
        dtypes: Any,
        shapes: Any = None,
        names: Any = None,
        seed: int | None = None,
        shared_name: str | None = None,
        name: str | None = "random_shuffle_queue",
    ) -> None:
        known = as_known_shapes(shapes, len(as_list(dtypes)), "RandomShuffleQueue")
        spec = ElementSpec(dtypes, known, names)
        capacity, minimum = as_integer(capacity, "capacity"), as_integer(min_after_dequeue, "min_after_dequeue")
        if minimum < 0 or 0 <= capacity <= minimum:
            raise InvalidArgumentError(
                None, None, f"min_after_dequeue must be at least 0 and below the capacity {capacity}, got {minimum}"
            )
        seed = None if seed is None else as_integer(seed, "seed")
        name = name or "random_shuffle_queue"
        queue_ref = make_queue("RandomShuffleQueue", name, capacity, spec, shared_name, minimum, seed)
        super().__init__(dtypes, known, names, queue_ref)
        self._name = name
