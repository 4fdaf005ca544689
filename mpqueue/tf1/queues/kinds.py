"""The queue classes: FIFO, FIFO with padding, and random order."""

from typing import Any

from mpqueue.tf1.queues.base import QueueBase
from mpqueue.tf1.queues.making import as_integer, make_queue
from mpqueue.tf1.queues.spec import ElementSpec, as_list
from mpqueue.tf1.values.conversion import invalid
from mpqueue.tf1.values.shapes import as_known_shapes, as_shapes


class FIFOQueue(QueueBase):
    """A first-in, first-out queue.

    `dequeue` returns arrays of the element's shape (NumPy scalars, ``bytes``), `dequeue_many` arrays of shape
    ``(n, *shape)``. The arrays are writable, have the queue's dtypes, and belong to the caller. Any number of threads
    and processes may use the queue at the same time.

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
        capacity: Maximum number of elements. 0: each enqueue blocks. Negative: unbounded.
        dtypes: A list of dtypes, one for each component, or a single dtype: a NumPy dtype, or ``"string"``.
        shapes: A list of fully known shapes, one for each component, or a single shape. None: each element may have
            any shape, and elements can only be dequeued one by one.
        names: A list of names, one for each component. Then elements are dicts.
        shared_name: Queues with the same shared name are one queue in this process and its workers, until
            `reset_default_graph`.
        name: Name of this object, also in error messages.

    Raises:
        TypeError: A dtype does not exist, ``capacity`` is not an integer, or ``shared_name`` is not a string.
        ValueError: The numbers of dtypes, shapes and names differ, or a shape is not fully known.
        InvalidArgumentError: The queue with this shared name has other dtypes, shapes, capacity or class.
        FailedPreconditionError: With ``shared_name`` in a worker: the trainer had no queue to share when it started.

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
    """A FIFO queue that pads elements of different sizes when it stacks them.

    `dequeue_many` and `dequeue_up_to` pad the end of each unknown dimension to the longest element of the batch:
    numbers with 0, booleans with False, strings with ``b""``. `dequeue` does not pad. The arrays are writable, have the
    queue's dtypes, and belong to the caller. Any number of threads and processes may use the queue at the same time.

    Example:
        Vectors of different lengths in one batch::

            import mpqueue

            queue = mpqueue.train.PaddingFIFOQueue(10, "int32", shapes=[[None]])
            queue.enqueue([[1, 2, 3]])
            queue.enqueue([[4]])
            assert queue.dequeue_many(2).tolist() == [[1, 2, 3], [4, 0, 0]]

    Args:
        capacity: Maximum number of elements. 0: each enqueue blocks. Negative: unbounded.
        dtypes: A list of dtypes, one for each component, or a single dtype: a NumPy dtype, or ``"string"``.
        shapes: A list of shapes, one for each component. Use None for dimensions that vary; the rank must be known. A
            single, fully known shape is accepted instead of a list of one.
        names: A list of names, one for each component. Then elements are dicts.
        shared_name: Queues with the same shared name are one queue in this process and its workers, until
            `reset_default_graph`.
        name: Name of this object, also in error messages.

    Raises:
        TypeError: A dtype does not exist, ``capacity`` is not an integer, or ``shared_name`` is not a string.
        ValueError: The numbers of dtypes, shapes and names differ, or a rank is unknown.
        InvalidArgumentError: The queue with this shared name has other dtypes, shapes, capacity or class.
        FailedPreconditionError: With ``shared_name`` in a worker: the trainer had no queue to share when it started.

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
            raise ValueError(
                "PaddingFIFOQueue requires shapes: give one for each component, with None where it varies."
            )
        # A list of None would be read as one shape. A caller who means "unknown shapes" would not get an error.
        if isinstance(shapes, list | tuple) and None in shapes:
            raise ValueError(
                f"PaddingFIFOQueue requires the rank of each component, got the shapes {shapes}. Give one shape for "
                "each component, such as [[None]] for a vector of any length."
            )
        known = as_shapes(shapes, len(as_list(dtypes)))
        spec = ElementSpec(dtypes, known, names)
        name = name or "padding_fifo_queue"
        queue_ref = make_queue("PaddingFIFOQueue", name, capacity, spec, shared_name)
        super().__init__(dtypes, known, names, queue_ref)
        self._name = name


class RandomShuffleQueue(QueueBase):
    """A queue that dequeues elements in random order, in constant time per element.

    `dequeue` returns arrays of the element's shape (NumPy scalars, ``bytes``), `dequeue_many` arrays of shape
    ``(n, *shape)``. The arrays are writable, have the queue's dtypes, and belong to the caller. Any number of threads
    and processes may use the queue at the same time.

    Example:
        All elements, in random order::

            import mpqueue

            queue = mpqueue.train.RandomShuffleQueue(100, min_after_dequeue=10, dtypes="int32", shapes=[()], seed=1)
            queue.enqueue_many([range(20)])
            queue.close()
            assert sorted(queue.dequeue_many(20).tolist()) == list(range(20))

    Args:
        capacity: Maximum number of elements. Negative: unbounded.
        min_after_dequeue: Minimum number of elements in the queue until it is closed. A larger number shuffles better;
            a smaller one returns the first element sooner. Must be at least 0 and less than ``capacity``.
        dtypes: A list of dtypes, one for each component, or a single dtype: a NumPy dtype, or ``"string"``.
        shapes: A list of fully known shapes, one for each component, or a single shape. None: each element may have
            any shape, and elements can only be dequeued one by one.
        names: A list of names, one for each component. Then elements are dicts.
        seed: Makes the order a function of the sequence of calls. None: a different order each time.
        shared_name: Queues with the same shared name are one queue in this process and its workers, until
            `reset_default_graph`.
        name: Name of this object, also in error messages.

    Raises:
        TypeError: A dtype does not exist, ``capacity``, ``min_after_dequeue`` or ``seed`` is not an integer, or
            ``shared_name`` is not a string.
        ValueError: The numbers of dtypes, shapes and names differ, or a shape is not fully known.
        InvalidArgumentError: ``min_after_dequeue`` is negative or not less than ``capacity``, or the queue with this
            shared name has other dtypes, shapes, capacity, minimum, seed or class.
        FailedPreconditionError: With ``shared_name`` in a worker: the trainer had no queue to share when it started.

    Follows: ``tf.RandomShuffleQueue``, but a seed yields a different order than in TensorFlow.
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
            invalid(f"min_after_dequeue must be at least 0 and less than capacity={capacity}, got {minimum}.")
        seed = None if seed is None else as_integer(seed, "seed")
        name = name or "random_shuffle_queue"
        queue_ref = make_queue("RandomShuffleQueue", name, capacity, spec, shared_name, minimum, seed)
        super().__init__(dtypes, known, names, queue_ref)
        self._name = name
