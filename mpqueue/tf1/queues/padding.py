"""The queue that pads elements of different sizes to one batch."""

from typing import Any

from mpqueue.tf1.queues.base import QueueBase
from mpqueue.tf1.queues.making import make_queue
from mpqueue.tf1.queues.spec import ElementSpec, as_list
from mpqueue.tf1.values.shapes import as_shapes


class PaddingFIFOQueue(QueueBase):
    """A FIFO queue whose elements may differ in size along unknown dimensions, and are padded when they are stacked.

    `dequeue_many` and `dequeue_up_to` fill every unknown dimension at its end up to the longest element of the batch:
    numbers with 0, booleans with False, text with ``b""``. `dequeue` gives the bare element. What comes out is the
    caller's own, writable and of the queue's dtypes. Any number of threads and processes may use it at once.

    Example:
        Vectors of different lengths in one batch::

            import mpqueue

            queue = mpqueue.PaddingFIFOQueue(10, "int32", shapes=[[None]])
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
            `reset_default_graph`; inside of `mpqueue.connect`, in all programs that are connected to the server.
        name: Kept as `name`, and named in errors.

    Raises:
        TypeError: A dtype does not exist, or ``capacity`` is no integer.
        ValueError: The numbers of dtypes, shapes and names differ, or a rank is unknown.
        InvalidArgumentError: The queue of this shared name has other dtypes, shapes, capacity or class.
        FailedPreconditionError: With ``shared_name``, in a worker: its trainer had no queue to share when it started.
        UnavailableError: With ``shared_name``, inside of `mpqueue.connect`: the server is gone.

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
