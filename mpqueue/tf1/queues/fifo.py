"""The queue whose elements leave in the order in which they came."""

from typing import Any

from mpqueue.tf1.queues.base import QueueBase
from mpqueue.tf1.queues.making import make_queue
from mpqueue.tf1.queues.spec import ElementSpec, as_list
from mpqueue.tf1.values.shapes import as_known_shapes


class FIFOQueue(QueueBase):
    """A queue that gives its elements out in the order in which they were put in.

    What comes out is the caller's own, writable and of the queue's dtypes: from `dequeue` arrays of the element's shape
    (NumPy scalars, ``bytes``), from `dequeue_many` arrays of shape ``(n, *shape)``. Any number of threads and processes
    may use it at once.

    Example:
        Elements of two components, filled by a thread::

            import threading
            import mpqueue

            queue = mpqueue.FIFOQueue(10, ["float32", "int32"], shapes=[(2,), ()])

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
            `reset_default_graph`; inside of `mpqueue.connect`, in all programs that are connected to the server.
        name: Kept as `name`, and named in errors.

    Raises:
        TypeError: A dtype does not exist, or ``capacity`` is no integer.
        ValueError: The numbers of dtypes, shapes and names differ, or a shape is not fully known.
        InvalidArgumentError: The queue of this shared name has other dtypes, shapes, capacity or class.
        FailedPreconditionError: With ``shared_name``, in a worker: its trainer had no queue to share when it started.
        UnavailableError: With ``shared_name``, inside of `mpqueue.connect`: the server is gone.

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
