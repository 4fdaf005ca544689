"""Batches of examples, assembled in a queue that a queue runner fills.

Each function creates a queue with the dtypes and static shapes of its sources, an enqueue op per thread, and a queue
runner for these ops, which is added to the collection that `start_queue_runners` starts.
"""

from collections.abc import Sequence
from typing import Any

from mpqueue.tf1.queues.making import as_integer
from mpqueue.tf1.train.batch_op import BatchOp
from mpqueue.tf1.train.examples import as_example_source
from mpqueue.tf1.train.inputs import Arguments, SourceInputs, input_sources
from mpqueue.tf1.train.queue_runner import Workers


def batch(
    tensors: Any,
    batch_size: int,
    num_threads: int = 1,
    capacity: int = 32,
    enqueue_many: bool = False,
    shapes: Any = None,
    dynamic_pad: bool = False,
    allow_smaller_final_batch: bool = False,
    shared_name: str | None = None,
    name: str | None = None,
    *,
    workers: Workers = "thread",
) -> BatchOp:
    """Return an op that dequeues batches of examples, in the order of the input.

    Example:
        Two epochs of three lines, in batches of two. The last batch is smaller::

            import mpqueue

            lines = mpqueue.train.string_input_producer(["a", "b", "c"], num_epochs=2, shuffle=False)
            source = mpqueue.train.Source(lines.dequeue, "string", [()])
            pairs = mpqueue.train.batch([source], batch_size=2, allow_smaller_final_batch=True)
            assert [list(texts) for texts in pairs] == [[b"a", b"b"], [b"c", b"a"], [b"b", b"c"]]

    Args:
        tensors: One example: a `Source` of lists or dicts, or a list or dict of arrays and of Sources of one array
            each. Arrays are the same in every example.
        batch_size: Number of examples per batch. It can exceed ``capacity``; with 0, batches are empty.
        num_threads: Number of threads, or worker processes, that call the sources and enqueue. With more than one, the
            order is not deterministic.
        capacity: Maximum number of prefetched examples. A larger capacity tolerates slow examples, but uses more
            memory.
        enqueue_many: Whether the first dimension of the arrays counts examples.
        shapes: Shape of each component of one example, if the sources do not specify it.
        dynamic_pad: Whether unknown dimensions can vary. They are padded at the end, to the longest example of the
            batch, with 0, False or ``b""``.
        allow_smaller_final_batch: Whether the examples that remain at the end form a smaller batch. Otherwise they are
            dropped.
        shared_name: Queues with the same shared name are one queue in this process and its workers, until
            `reset_default_graph`.
        name: Name of the op, and prefix of the name of its queue.
        workers: "process" calls the sources in worker processes instead of threads, as a `QueueRunner` does. Each
            worker has a copy of the sources. To share work, use sources that read from a queue, such as readers and
            producers. A source with an epoch counter remains in a thread.

    Returns:
        A `BatchOp`, which returns a batch at each call and is iterable. A batch has the structure of ``tensors``; for a
        list with one entry, it is the array itself. The arrays have the shape ``(batch_size, *shape)``, are writable,
        and belong to the caller.

    Raises:
        TypeError: ``tensors`` is a single array or a source of single arrays instead of a list, or a number is not an
            integer.
        ValueError: ``tensors`` is empty; a dtype, a rank, or, without ``dynamic_pad``, a dimension is unknown;
            ``shapes`` has another length or is incompatible; ``batch_size`` is negative, or ``num_threads`` below 1.
    Follows: ``tf.compat.v1.train.batch``.
    """
    sources = [as_example_source(tensors)] * at_least(1, num_threads, "num_threads")
    inputs = SourceInputs(sources, enqueue_many, workers)
    size = at_least(0, batch_size, "batch_size")
    arguments = Arguments(size, capacity, shapes, allow_smaller_final_batch, shared_name, name or "batch")
    return inputs.in_order(arguments, pads=dynamic_pad)


def batch_join(
    tensors_list: Sequence[Any],
    batch_size: int,
    capacity: int = 32,
    enqueue_many: bool = False,
    shapes: Any = None,
    dynamic_pad: bool = False,
    allow_smaller_final_batch: bool = False,
    shared_name: str | None = None,
    name: str | None = None,
    *,
    workers: Workers = "thread",
) -> BatchOp:
    """Return an op that dequeues batches of examples from several inputs, each enqueued by its own thread.

    Example:
        Two inputs, each enqueued by its own thread into one queue::

            import mpqueue

            small = mpqueue.train.range_input_producer(2, num_epochs=1)
            large = mpqueue.train.range_input_producer(4, num_epochs=1)
            inputs = [[mpqueue.train.Source(queue.dequeue, "int32", [()])] for queue in (small, large)]
            pairs = mpqueue.train.batch_join(inputs, batch_size=2)
            assert sorted(int(number) for batch in pairs for number in batch) == [0, 0, 1, 1, 2, 3]

    Args:
        tensors_list: One example per input, all with the same keys or number of components, dtypes and shapes. Each is
            a `Source` of lists or dicts, or a list or dict of arrays and of Sources of one array each. Arrays are the
            same in every example.
        batch_size: Number of examples per batch. It can exceed ``capacity``; with 0, batches are empty.
        capacity: Maximum number of prefetched examples. A larger capacity tolerates slow examples, but uses more
            memory.
        enqueue_many: Whether the first dimension of the arrays counts examples.
        shapes: Shape of each component of one example, if the sources do not specify it.
        dynamic_pad: Whether unknown dimensions can vary. They are padded at the end, to the longest example of the
            batch, with 0, False or ``b""``.
        allow_smaller_final_batch: Whether the examples that remain after the end of all inputs form a smaller batch.
            Otherwise they are dropped.
        shared_name: Queues with the same shared name are one queue in this process and its workers, until
            `reset_default_graph`.
        name: Name of the op, and prefix of the name of its queue.
        workers: "process" calls the sources in worker processes instead of threads, as a `QueueRunner` does. Each
            worker has a copy of the sources. To share work, use sources that read from a queue, such as readers and
            producers. A source with an epoch counter remains in a thread.

    Returns:
        A `BatchOp`, which returns a batch at each call and is iterable. A batch has the structure of one input; for a
        list with one entry, it is the array itself. The arrays have the shape ``(batch_size, *shape)``, are writable,
        and belong to the caller. The order of the inputs depends on the scheduling of their threads.

    Raises:
        TypeError: An input is a single array or a source of single arrays instead of a list, a number is not an
            integer, or dtypes differ.
        ValueError: There are no inputs, or one is empty; keys, numbers of components or shapes differ; a dtype, a rank,
            or, without ``dynamic_pad``, a dimension is unknown; ``shapes`` has another length or is incompatible;
            ``batch_size`` is negative.
    Follows: ``tf.compat.v1.train.batch_join``.
    """
    inputs = SourceInputs(input_sources(tensors_list), enqueue_many, workers)
    size = at_least(0, batch_size, "batch_size")
    arguments = Arguments(size, capacity, shapes, allow_smaller_final_batch, shared_name, name or "batch")
    return inputs.in_order(arguments, pads=dynamic_pad)


def shuffle_batch(
    tensors: Any,
    batch_size: int,
    capacity: int,
    min_after_dequeue: int,
    num_threads: int = 1,
    seed: int | None = None,
    enqueue_many: bool = False,
    shapes: Any = None,
    allow_smaller_final_batch: bool = False,
    shared_name: str | None = None,
    name: str | None = None,
    *,
    workers: Workers = "thread",
) -> BatchOp:
    """Return an op that dequeues batches of examples in random order.

    Example:
        All numbers of an epoch, in random order::

            import mpqueue

            numbers = mpqueue.train.range_input_producer(6, num_epochs=1, shuffle=False)
            source = mpqueue.train.Source(numbers.dequeue, "int32", [()])
            pairs = mpqueue.train.shuffle_batch([source], batch_size=2, capacity=8, min_after_dequeue=4, seed=1)
            assert sorted(int(number) for batch in pairs for number in batch) == [0, 1, 2, 3, 4, 5]

    Args:
        tensors: One example: a `Source` of lists or dicts, or a list or dict of arrays and of Sources of one array
            each. Arrays are the same in every example.
        batch_size: Number of examples per batch. It can exceed ``capacity``; with 0, batches are empty.
        capacity: Maximum number of prefetched examples; greater than ``min_after_dequeue``.
        min_after_dequeue: Minimum number of examples that remain in the queue after a dequeue, until the input ends. A
            larger number shuffles better, but delays the first batch.
        num_threads: Number of threads, or worker processes, that call the sources and enqueue. With more than one, the
            order is not deterministic.
        seed: Seed for a reproducible order, with one thread.
        enqueue_many: Whether the first dimension of the arrays counts examples.
        shapes: Shape of each component of one example, if the sources do not specify it.
        allow_smaller_final_batch: Whether the examples that remain at the end form a smaller batch. Otherwise they are
            dropped.
        shared_name: Queues with the same shared name are one queue in this process and its workers, until
            `reset_default_graph`.
        name: Name of the op, and prefix of the name of its queue.
        workers: "process" calls the sources in worker processes instead of threads, as a `QueueRunner` does. Each
            worker has a copy of the sources. To share work, use sources that read from a queue, such as readers and
            producers. A source with an epoch counter remains in a thread.

    Returns:
        A `BatchOp`, which returns a batch at each call and is iterable. A batch has the structure of ``tensors``; for a
        list with one entry, it is the array itself. The arrays have the shape ``(batch_size, *shape)``, are writable,
        and belong to the caller.

    Raises:
        TypeError: ``tensors`` is a single array or a source of single arrays instead of a list, or a number is not an
            integer.
        ValueError: ``tensors`` is empty; a dtype or dimension is unknown; ``shapes`` has another length or is
            incompatible; ``batch_size`` is negative, ``num_threads`` below 1, or ``capacity`` not greater than
            ``min_after_dequeue``.

    Follows: ``tf.compat.v1.train.shuffle_batch``; the order for a given seed differs from TensorFlow's.
    """
    sources = [as_example_source(tensors)] * at_least(1, num_threads, "num_threads")
    inputs = SourceInputs(sources, enqueue_many, workers)
    size = at_least(0, batch_size, "batch_size")
    arguments = Arguments(size, capacity, shapes, allow_smaller_final_batch, shared_name, name or "shuffle_batch")
    return inputs.shuffled(arguments, min_after_dequeue, seed)


def shuffle_batch_join(
    tensors_list: Sequence[Any],
    batch_size: int,
    capacity: int,
    min_after_dequeue: int,
    seed: int | None = None,
    enqueue_many: bool = False,
    shapes: Any = None,
    allow_smaller_final_batch: bool = False,
    shared_name: str | None = None,
    name: str | None = None,
    *,
    workers: Workers = "thread",
) -> BatchOp:
    """Return an op that dequeues batches of examples from several inputs, in random order.

    Example:
        Two inputs, shuffled together::

            import mpqueue

            small = mpqueue.train.range_input_producer(2, num_epochs=1)
            large = mpqueue.train.range_input_producer(4, num_epochs=1)
            inputs = [[mpqueue.train.Source(queue.dequeue, "int32", [()])] for queue in (small, large)]
            pairs = mpqueue.train.shuffle_batch_join(inputs, batch_size=2, capacity=8, min_after_dequeue=2)
            assert sorted(int(number) for batch in pairs for number in batch) == [0, 0, 1, 1, 2, 3]

    Args:
        tensors_list: One example per input, all with the same keys or number of components, dtypes and shapes. Each is
            a `Source` of lists or dicts, or a list or dict of arrays and of Sources of one array each. Arrays are the
            same in every example.
        batch_size: Number of examples per batch. It can exceed ``capacity``; with 0, batches are empty.
        capacity: Maximum number of prefetched examples; greater than ``min_after_dequeue``.
        min_after_dequeue: Minimum number of examples that remain in the queue after a dequeue, until the input ends. A
            larger number shuffles better, but delays the first batch.
        seed: Seed for a reproducible order with one input. With several, the order depends on the threads.
        enqueue_many: Whether the first dimension of the arrays counts examples.
        shapes: Shape of each component of one example, if the sources do not specify it.
        allow_smaller_final_batch: Whether the examples that remain after the end of all inputs form a smaller batch.
            Otherwise they are dropped.
        shared_name: Queues with the same shared name are one queue in this process and its workers, until
            `reset_default_graph`.
        name: Name of the op, and prefix of the name of its queue.
        workers: "process" calls the sources in worker processes instead of threads, as a `QueueRunner` does. Each
            worker has a copy of the sources. To share work, use sources that read from a queue, such as readers and
            producers. A source with an epoch counter remains in a thread.

    Returns:
        A `BatchOp`, which returns a batch at each call and is iterable. A batch has the structure of one input; for a
        list with one entry, it is the array itself. The arrays have the shape ``(batch_size, *shape)``, are writable,
        and belong to the caller.

    Raises:
        TypeError: An input is a single array or a source of single arrays instead of a list, a number is not an
            integer, or dtypes differ.
        ValueError: There are no inputs, or one is empty; keys, numbers of components or shapes differ; a dtype or
            dimension is unknown; ``shapes`` has another length or is incompatible; ``batch_size`` is negative, or
            ``capacity`` not greater than ``min_after_dequeue``.

    Follows: ``tf.compat.v1.train.shuffle_batch_join``; the order for a given seed differs from TensorFlow's.
    """
    inputs = SourceInputs(input_sources(tensors_list), enqueue_many, workers)
    size = at_least(0, batch_size, "batch_size")
    arguments = Arguments(size, capacity, shapes, allow_smaller_final_batch, shared_name, name or "shuffle_batch")
    return inputs.shuffled(arguments, min_after_dequeue, seed)


def at_least(least: int, value: int, what: str) -> int:
    """Return ``value`` as an ``int``.

    Raises:
        TypeError: The value is not an integer.
        ValueError: The value is below ``least``.
    """
    number = as_integer(value, what)
    if number < least:
        raise ValueError(f"{what} must be {least} or more, got {value}")
    return number
