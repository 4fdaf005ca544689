"""The queue whose elements leave in random order."""

from typing import Any

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.queues.base import QueueBase
from mpqueue.tf1.queues.making import as_integer, make_queue
from mpqueue.tf1.queues.spec import ElementSpec, as_list
from mpqueue.tf1.values.shapes import as_known_shapes


class RandomShuffleQueue(QueueBase):
    """A queue that gives out any of its elements, each as likely as the others, at a cost that does not grow with it.

    What comes out is the caller's own, writable and of the queue's dtypes: from `dequeue` arrays of the element's shape
    (NumPy scalars, ``bytes``), from `dequeue_many` arrays of shape ``(n, *shape)``. Any number of threads and processes
    may use it at once.

    Example:
        All elements, in random order::

            import mpqueue

            queue = mpqueue.RandomShuffleQueue(100, min_after_dequeue=10, dtypes="int32", shapes=[()], seed=1)
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
            `reset_default_graph`; inside of `mpqueue.connect`, in all programs that are connected to the server.
        name: Kept as `name`, and named in errors.

    Raises:
        TypeError: A dtype does not exist, or ``capacity``, ``min_after_dequeue`` or ``seed`` is no integer.
        ValueError: The numbers of dtypes, shapes and names differ, or a shape is not fully known.
        InvalidArgumentError: ``min_after_dequeue`` is negative or not below ``capacity``, or the queue of this shared
            name has other dtypes, shapes, capacity, minimum, seed or class.
        FailedPreconditionError: With ``shared_name``, in a worker: its trainer had no queue to share when it started.
        UnavailableError: With ``shared_name``, inside of `mpqueue.connect`: the server is gone.

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
