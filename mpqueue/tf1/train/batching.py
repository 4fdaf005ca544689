"""Batches of examples, assembled in a queue that a queue runner fills.

Each function makes a queue with the dtypes and static shapes of its sources, an enqueue op per thread, and a queue
runner with these, which is added to the collection that `start_queue_runners` starts.
"""

import operator
from collections.abc import Sequence
from typing import Any

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
    """Return an op that dequeues batches of examples, in the order in which they come.

    Example:
        Two epochs of three lines, in batches of two; the last one is smaller::

            import mpqueue

            lines = mpqueue.train.string_input_producer(["a", "b", "c"], num_epochs=2, shuffle=False)
            source = mpqueue.train.Source(lines.dequeue, "string", [()])
            pairs = mpqueue.train.batch([source], batch_size=2, allow_smaller_final_batch=True)
            assert [list(texts) for texts in pairs] == [[b"a", b"b"], [b"c", b"a"], [b"b", b"c"]]

    Args:
        tensors: One example: a `Source` of lists or dicts; or a list or dict of Sources of one array each, and of
            arrays, which are the same in each example.
        batch_size: Examples per batch. It may exceed ``capacity``; 0 gives empty batches.
        num_threads: Threads, or worker processes, that call the sources and enqueue. More than one mix the order.
        capacity: Most examples that are held in advance. More bridge slow ones, and cost memory.
        enqueue_many: True if the first dimension of the arrays counts examples.
        shapes: Shape of each component of one example, where it is not known from the sources.
        dynamic_pad: True if unknown dimensions may vary: they are padded, at the end, to the longest example of the
            batch, with 0, False or ``b""``.
        allow_smaller_final_batch: True if the examples that are left at the end make a smaller batch; else they are
            dropped.
        shared_name: Queues of one shared name are one queue in this process and its workers, until
            `reset_default_graph`; inside of `mpqueue.train.connect`, in all programs that are connected to the server.
        name: Name of the op, and part of the name of its queue.
        workers: "process" calls the sources in worker processes instead of threads, as a `QueueRunner` does. Each has a
            copy of them; to share work they take it from a queue, by a reader or producer. A source that counts epochs
            stays in a thread.

    Returns:
        A `BatchOp`, which gives a batch at each call, and is iterable. A batch is of the type of ``tensors``, and for a
        list of one the bare array; its arrays have the shape ``(batch_size, *shape)``, are writable, and the caller's
        own.

    Raises:
        TypeError: ``tensors`` is a single array or source of single arrays (put it in a list), or a number is none.
        ValueError: ``tensors`` is empty; a dtype, rank, or, without ``dynamic_pad``, dimension is not known;
            ``shapes`` has another length or disagrees; ``batch_size`` is negative, ``num_threads`` below 1.

    Follows: ``tf.compat.v1.train.batch``.
    """
    sources = [as_example_source(tensors)] * _positive(num_threads, "num_threads")
    inputs = SourceInputs(sources, enqueue_many, workers)
    size = _not_negative(batch_size, "batch_size")
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
    """Return an op that dequeues batches of the examples of several inputs, each with a thread of its own.

    Example:
        Two inputs, each in a thread of its own, in one queue::

            import mpqueue

            small = mpqueue.train.range_input_producer(2, num_epochs=1)
            large = mpqueue.train.range_input_producer(4, num_epochs=1)
            inputs = [[mpqueue.train.Source(queue.dequeue, "int32", [()])] for queue in (small, large)]
            pairs = mpqueue.train.batch_join(inputs, batch_size=2)
            assert sorted(int(number) for batch in pairs for number in batch) == [0, 0, 1, 1, 2, 3]

    Args:
        tensors_list: For each input one example, with the same keys or numbers of components, dtypes and shapes: a
            `Source` of lists or dicts; or a list or dict of Sources of one array each, and of arrays, which are the
            same in each example.
        batch_size: Examples per batch. It may exceed ``capacity``; 0 gives empty batches.
        capacity: Most examples that are held in advance. More bridge slow ones, and cost memory.
        enqueue_many: True if the first dimension of the arrays counts examples.
        shapes: Shape of each component of one example, where it is not known from the sources.
        dynamic_pad: True if unknown dimensions may vary: they are padded, at the end, to the longest example of the
            batch, with 0, False or ``b""``.
        allow_smaller_final_batch: True if the examples that are left at the end make a smaller batch; else they are
            dropped. The end comes when all inputs have ended.
        shared_name: Queues of one shared name are one queue in this process and its workers, until
            `reset_default_graph`; inside of `mpqueue.train.connect`, in all programs that are connected to the server.
        name: Name of the op, and part of the name of its queue.
        workers: "process" calls the sources in worker processes instead of threads, as a `QueueRunner` does. Each has a
            copy of them; to share work they take it from a queue, by a reader or producer. A source that counts epochs
            stays in a thread.

    Returns:
        A `BatchOp`, which gives a batch at each call, and is iterable. A batch is of the type of one input, and for a
        list of one the bare array; its arrays have the shape ``(batch_size, *shape)``, are writable, and the caller's
        own.
        The order among the inputs is that of their threads.

    Raises:
        TypeError: An input is a single array or source of single arrays (put it in a list), a number is none, or dtypes
            differ.
        ValueError: There is no input, or one is empty; keys, numbers of components or shapes differ; a dtype, rank, or,
            without ``dynamic_pad``, dimension is not known; ``shapes`` has another length or disagrees;
            ``batch_size`` is negative.

    Follows: ``tf.compat.v1.train.batch_join``.
    """
    inputs = SourceInputs(input_sources(tensors_list), enqueue_many, workers)
    size = _not_negative(batch_size, "batch_size")
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
        tensors: One example: a `Source` of lists or dicts; or a list or dict of Sources of one array each, and of
            arrays, which are the same in each example.
        batch_size: Examples per batch. It may exceed ``capacity``; 0 gives empty batches.
        capacity: Most examples that are held in advance; more than ``min_after_dequeue``.
        min_after_dequeue: Examples that stay in the queue while the input goes on, so that there is something to
            choose from: more of them shuffle better, fewer are there sooner.
        num_threads: Threads, or worker processes, that call the sources and enqueue. More than one mix the order.
        seed: Makes the order reproducible, with one thread.
        enqueue_many: True if the first dimension of the arrays counts examples.
        shapes: Shape of each component of one example, where it is not known from the sources.
        allow_smaller_final_batch: True if the examples that are left at the end make a smaller batch; else they are
            dropped.
        shared_name: Queues of one shared name are one queue in this process and its workers, until
            `reset_default_graph`; inside of `mpqueue.train.connect`, in all programs that are connected to the server.
        name: Name of the op, and part of the name of its queue.
        workers: "process" calls the sources in worker processes instead of threads, as a `QueueRunner` does. Each has a
            copy of them; to share work they take it from a queue, by a reader or producer. A source that counts epochs
            stays in a thread.

    Returns:
        A `BatchOp`, which gives a batch at each call, and is iterable. A batch is of the type of ``tensors``, and for a
        list of one the bare array; its arrays have the shape ``(batch_size, *shape)``, are writable, and the caller's
        own.

    Raises:
        TypeError: ``tensors`` is a single array or source of single arrays (put it in a list), or a number is
            none.
        ValueError: ``tensors`` is empty; a dtype or dimension is not known; ``shapes`` has another length or disagrees;
            ``batch_size`` is negative, ``num_threads`` below 1, or ``capacity`` not above ``min_after_dequeue``.

    Follows: ``tf.compat.v1.train.shuffle_batch``; the order of a seed is our own.
    """
    sources = [as_example_source(tensors)] * _positive(num_threads, "num_threads")
    inputs = SourceInputs(sources, enqueue_many, workers)
    size = _not_negative(batch_size, "batch_size")
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
    """Return an op that dequeues batches of the examples of several inputs, in random order.

    Example:
        Two inputs, mixed::

            import mpqueue

            small = mpqueue.train.range_input_producer(2, num_epochs=1)
            large = mpqueue.train.range_input_producer(4, num_epochs=1)
            inputs = [[mpqueue.train.Source(queue.dequeue, "int32", [()])] for queue in (small, large)]
            pairs = mpqueue.train.shuffle_batch_join(inputs, batch_size=2, capacity=8, min_after_dequeue=2)
            assert sorted(int(number) for batch in pairs for number in batch) == [0, 0, 1, 1, 2, 3]

    Args:
        tensors_list: For each input one example, with the same keys or numbers of components, dtypes and shapes: a
            `Source` of lists or dicts; or a list or dict of Sources of one array each, and of arrays, which are the
            same in each example.
        batch_size: Examples per batch. It may exceed ``capacity``; 0 gives empty batches.
        capacity: Most examples that are held in advance; more than ``min_after_dequeue``.
        min_after_dequeue: Examples that stay in the queue while the input goes on, so that there is something to choose
            from: more of them shuffle better, fewer are there sooner.
        seed: Makes the order of one input reproducible; several come as their threads run.
        enqueue_many: True if the first dimension of the arrays counts examples.
        shapes: Shape of each component of one example, where it is not known from the sources.
        allow_smaller_final_batch: True if the examples that are left at the end make a smaller batch; else they are
            dropped. The end comes when all inputs have ended.
        shared_name: Queues of one shared name are one queue in this process and its workers, until
            `reset_default_graph`; inside of `mpqueue.train.connect`, in all programs that are connected to the server.
        name: Name of the op, and part of the name of its queue.
        workers: "process" calls the sources in worker processes instead of threads, as a `QueueRunner` does. Each has a
            copy of them; to share work they take it from a queue, by a reader or producer. A source that counts epochs
            stays in a thread.

    Returns:
        A `BatchOp`, which gives a batch at each call, and is iterable. A batch is of the type of one input, and for a
        list of one the bare array; its arrays have the shape ``(batch_size, *shape)``, are writable, and the caller's
        own.

    Raises:
        TypeError: An input is a single array or source of single arrays (put it in a list), a number is none, or dtypes
            differ.
        ValueError: There is no input, or one is empty; keys, numbers of components or shapes differ; a dtype or
            dimension is not known; ``shapes`` has another length or disagrees; ``batch_size`` is negative, or
            ``capacity`` not above ``min_after_dequeue``.

    Follows: ``tf.compat.v1.train.shuffle_batch_join``; the order of a seed is our own.
    """
    inputs = SourceInputs(input_sources(tensors_list), enqueue_many, workers)
    size = _not_negative(batch_size, "batch_size")
    arguments = Arguments(size, capacity, shapes, allow_smaller_final_batch, shared_name, name or "shuffle_batch")
    return inputs.shuffled(arguments, min_after_dequeue, seed)


def _positive(value: int, what: str) -> int:
    if operator.index(value) < 1:
        raise ValueError(f"{what} must be 1 or more, got {value}")
    return operator.index(value)


def _not_negative(value: int, what: str) -> int:
    if operator.index(value) < 0:
        raise ValueError(f"{what} must be 0 or more, got {value}")
    return operator.index(value)
