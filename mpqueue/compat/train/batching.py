"""Batches of examples, assembled in a queue that a queue runner fills.

Each function makes a queue with the types and shapes of its inputs, an operation per input that enqueues it, and a
queue runner with these; what it returns is dequeued from there.
"""

from collections.abc import Sequence
from typing import Any

from mpqueue.compat.functions.queue_base import QueueBase
from mpqueue.compat.functions.queues import FIFOQueue, PaddingFIFOQueue, RandomShuffleQueue
from mpqueue.compat.functions.scopes import name_scope
from mpqueue.compat.train.examples import Examples
from mpqueue.compat.train.runners import QueueRunner, add_queue_runner


def batch(
    tensors: Any,
    batch_size: Any,
    num_threads: int = 1,
    capacity: int = 32,
    enqueue_many: bool = False,
    shapes: Any = None,
    dynamic_pad: bool = False,
    allow_smaller_final_batch: bool = False,
    shared_name: str | None = None,
    name: str | None = None,
) -> Any:
    """Batches of examples in the order in which they come.

    Args:
        tensors: The components of one example, a list or dict of tensors; sparse ones become one of a rank more.
        batch_size: Examples per batch, an int or an int32 tensor.
        num_threads: Threads that enqueue. More than one mix the order.
        capacity: Most examples that are held in advance.
        enqueue_many: Whether the first axis of the tensors counts examples.
        shapes: Shape of each component of one example, default as the tensors say.
        dynamic_pad: Whether sizes that are not known may vary: they are padded, at the end, to the longest example of
            the batch.
        allow_smaller_final_batch: Whether the examples that are left at the end make a smaller batch, or are dropped.
        shared_name: As for `FIFOQueue`.
        name: Name of the batch.

    Returns: The structure of ``tensors``, with one more axis in front; of a list of one, the bare tensor.

    Raises:
        ValueError: ``tensors`` is empty, a rank is not known, or, without ``dynamic_pad``, a size.
        TypeError: ``tensors`` is a single tensor: put it in a list.

    Follows: ``tf.train.batch``.
    """
    with name_scope(name, "batch") as scope:
        examples = Examples([tensors], enqueue_many=enqueue_many)
        queue = _fifo(examples, capacity, shapes, shared_name, pads=dynamic_pad)
        _fill(queue, examples, num_threads, enqueue_many)
        return _taken(queue, examples, batch_size, scope, takes_fewer=allow_smaller_final_batch)


def batch_join(
    tensors_list: Sequence[Any],
    batch_size: Any,
    capacity: int = 32,
    enqueue_many: bool = False,
    shapes: Any = None,
    dynamic_pad: bool = False,
    allow_smaller_final_batch: bool = False,
    shared_name: str | None = None,
    name: str | None = None,
) -> Any:
    """Batches of the examples of several inputs, each with a thread of its own.

    Args:
        tensors_list: For each input what `batch` takes, all alike.
        batch_size: As for `batch`, as are the others.
        capacity: As there.
        enqueue_many: As there.
        shapes: As there.
        dynamic_pad: As there.
        allow_smaller_final_batch: As there; the end is when all inputs have ended.
        shared_name: As there.
        name: As there.

    Returns: As there.

    Raises:
        ValueError: As there, and where keys, numbers of components or shapes differ.
        TypeError: As there, and where types differ.

    Follows: ``tf.train.batch_join``.
    """
    with name_scope(name, "batch_join") as scope:
        examples = Examples(tensors_list, enqueue_many=enqueue_many)
        queue = _fifo(examples, capacity, shapes, shared_name, pads=dynamic_pad)
        _fill(queue, examples, 1, enqueue_many)
        return _taken(queue, examples, batch_size, scope, takes_fewer=allow_smaller_final_batch)


def shuffle_batch(
    tensors: Any,
    batch_size: Any,
    capacity: int,
    min_after_dequeue: int,
    num_threads: int = 1,
    seed: int | None = None,
    enqueue_many: bool = False,
    shapes: Any = None,
    allow_smaller_final_batch: bool = False,
    shared_name: str | None = None,
    name: str | None = None,
) -> Any:
    """Batches of examples in random order.

    Args:
        tensors: As for `batch`, as are those that are not explained here.
        batch_size: As there.
        capacity: Most examples that are held in advance; more than ``min_after_dequeue``.
        min_after_dequeue: Examples that stay in the queue while the input goes on, so that there is something to choose
            from.
        num_threads: As there.
        seed: Makes the order the same in every session, with one thread.
        enqueue_many: As there.
        shapes: As there.
        allow_smaller_final_batch: As there.
        shared_name: As there.
        name: As there.

    Returns: As there.

    Raises:
        ValueError: As there, and where ``capacity`` is not above ``min_after_dequeue``.
        TypeError: As there.

    Follows: ``tf.train.shuffle_batch``; the order of a seed is our own.
    """
    with name_scope(name, "shuffle_batch") as scope:
        examples = Examples([tensors], enqueue_many=enqueue_many)
        queue = _shuffling(examples, capacity, min_after_dequeue, seed, shapes, shared_name)
        _fill(queue, examples, num_threads, enqueue_many)
        return _taken(queue, examples, batch_size, scope, takes_fewer=allow_smaller_final_batch)


def shuffle_batch_join(
    tensors_list: Sequence[Any],
    batch_size: Any,
    capacity: int,
    min_after_dequeue: int,
    seed: int | None = None,
    enqueue_many: bool = False,
    shapes: Any = None,
    allow_smaller_final_batch: bool = False,
    shared_name: str | None = None,
    name: str | None = None,
) -> Any:
    """Batches of the examples of several inputs in random order.

    Args:
        tensors_list: As for `batch_join`.
        batch_size: As for `shuffle_batch`, as are the others.
        capacity: As there.
        min_after_dequeue: As there.
        seed: As there.
        enqueue_many: As there.
        shapes: As there.
        allow_smaller_final_batch: As for `batch_join`.
        shared_name: As there.
        name: As there.

    Returns: As for `batch`.

    Raises:
        ValueError: As for `batch_join` and `shuffle_batch`.
        TypeError: As for `batch_join`.

    Follows: ``tf.train.shuffle_batch_join``; the order of a seed is our own.
    """
    with name_scope(name, "shuffle_batch_join") as scope:
        examples = Examples(tensors_list, enqueue_many=enqueue_many)
        queue = _shuffling(examples, capacity, min_after_dequeue, seed, shapes, shared_name)
        _fill(queue, examples, 1, enqueue_many)
        return _taken(queue, examples, batch_size, scope, takes_fewer=allow_smaller_final_batch)


def _fifo(examples: Examples, capacity: int, shapes: Any, shared_name: str | None, *, pads: bool) -> QueueBase:
    make = PaddingFIFOQueue if pads else FIFOQueue
    return make(capacity, examples.dtypes, examples.shapes(shapes), shared_name=shared_name)


def _shuffling(
    examples: Examples, capacity: int, min_after_dequeue: int, seed: int | None, shapes: Any, shared_name: str | None
) -> QueueBase:
    if capacity <= min_after_dequeue:
        raise ValueError(f"capacity must be above min_after_dequeue, {min_after_dequeue}; got {capacity}")
    kinds = (examples.dtypes, examples.shapes(shapes))
    return RandomShuffleQueue(capacity, min_after_dequeue, *kinds, seed=seed, shared_name=shared_name)


def _fill(queue: QueueBase, examples: Examples, num_threads: int, enqueue_many: bool) -> None:
    enqueue = queue.enqueue_many if enqueue_many else queue.enqueue
    add_queue_runner(QueueRunner(queue, [enqueue(each) for each in examples.inputs] * num_threads))


def _taken(queue: QueueBase, examples: Examples, batch_size: Any, name: str, *, takes_fewer: bool) -> Any:
    dequeue = queue.dequeue_up_to if takes_fewer else queue.dequeue_many
    return examples.batch_of(dequeue(batch_size, name=name))
