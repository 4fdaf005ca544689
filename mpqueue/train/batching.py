"""Batches of examples, assembled in a queue that a queue runner fills.

Each function makes a queue with the dtypes and static shapes of its sources, an enqueue op per thread, and a queue
runner with these, which is added to the collection that `start_queue_runners` starts.
"""

import operator
from collections.abc import Sequence
from typing import Any

from mpqueue.train.batch_op import BatchOp
from mpqueue.train.examples import as_example_source
from mpqueue.train.inputs import Arguments, SourceInputs, input_sources
from mpqueue.train.queue_runner import Workers


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
        shared_name: See `FIFOQueue`.
        name: Name of the op, and part of the name of its queue.
        workers: "process" calls the sources in worker processes, see `QueueRunner`. Each has a copy of them; to share
            work they take it from a queue, by a reader or producer. A source that counts epochs stays in a thread.

    Returns:
        A `BatchOp`. A batch is of the type of ``tensors``, and for a list of one the bare array; its arrays have the
        shape ``(batch_size, *shape)``, are writable, and the caller's own.

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

    Args:
        tensors_list: For each input an argument of `batch`, with the same keys or numbers of components, dtypes and
            shapes.
        batch_size: See `batch`.
        capacity: See `batch`.
        enqueue_many: See `batch`.
        shapes: See `batch`.
        dynamic_pad: See `batch`.
        allow_smaller_final_batch: See `batch`; the end comes when all inputs have ended.
        shared_name: See `batch`.
        name: See `batch`.
        workers: See `batch`.

    Returns:
        A `BatchOp`, see `batch`. The order among the inputs is that of their threads.

    Raises:
        TypeError: See `batch`; or dtypes differ.
        ValueError: See `batch`; or keys, numbers of components or shapes differ.

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

    Args:
        tensors: See `batch`.
        batch_size: See `batch`.
        capacity: Most examples that are held in advance; more than ``min_after_dequeue``.
        min_after_dequeue: Examples that stay in the queue while the input goes on, so that there is something to
            choose from: more of them shuffle better, fewer are there sooner.
        num_threads: See `batch`.
        seed: Makes the order reproducible, with one thread.
        enqueue_many: See `batch`.
        shapes: See `batch`.
        allow_smaller_final_batch: See `batch`.
        shared_name: See `batch`.
        name: See `batch`.
        workers: See `batch`.

    Returns:
        A `BatchOp`, see `batch`.

    Raises:
        TypeError: See `batch`.
        ValueError: See `batch`; or ``capacity`` is not above ``min_after_dequeue``.

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

    Args:
        tensors_list: See `batch_join`.
        batch_size: See `batch`.
        capacity: See `shuffle_batch`.
        min_after_dequeue: See `shuffle_batch`.
        seed: See `shuffle_batch`.
        enqueue_many: See `batch`.
        shapes: See `batch`.
        allow_smaller_final_batch: See `batch_join`.
        shared_name: See `batch`.
        name: See `batch`.
        workers: See `batch`.

    Returns:
        A `BatchOp`, see `batch`.

    Raises:
        TypeError: See `batch_join`.
        ValueError: See `batch_join` and `shuffle_batch`.

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
