"""Batches of examples, assembled in a queue that a queue runner fills.

Each function makes a queue with the types and shapes of its inputs, an operation per input that enqueues it, and a
queue runner with these; what it returns is dequeued from there.
"""

from collections.abc import Sequence
from typing import Any

from mpqueue.compat.functions.declare import public
from mpqueue.compat.train.examples import Example, NodeInputs
from mpqueue.train import batching
from mpqueue.train.inputs import Arguments


@public("train.batch", scope="batch", like=batching.batch)
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
    name: str = "",
) -> Any:
    """Return batches of examples in the order in which they come.

    Args:
        tensors: The components of one example, a list or dict of tensors; sparse ones become one of a rank more.
        batch_size: Examples per batch, an int or an int32 tensor.
        num_threads: Threads that enqueue. More than one mix the order.
        enqueue_many: Whether the first axis of the tensors counts examples.
        shapes: Shape of each component of one example, default as the tensors say.

    Returns: The structure of ``tensors``, with one more axis in front; of a list of one, the bare tensor.

    Raises:
        ValueError: ``tensors`` is empty, a rank is not known, or, without ``dynamic_pad``, a size.
        TypeError: ``tensors`` is a single tensor: put it in a list.
    """
    inputs = NodeInputs([Example(tensors, many=enqueue_many)] * num_threads, many=enqueue_many)
    arguments = Arguments(batch_size, capacity, shapes, allow_smaller_final_batch, shared_name, name)
    return inputs.in_order(arguments, pads=dynamic_pad)


@public("train.batch_join", scope="batch_join", like=batch)
def batch_join(
    tensors_list: Sequence[Any],
    batch_size: Any,
    capacity: int = 32,
    enqueue_many: bool = False,
    shapes: Any = None,
    dynamic_pad: bool = False,
    allow_smaller_final_batch: bool = False,
    shared_name: str | None = None,
    name: str = "",
) -> Any:
    """Return batches of the examples of several inputs, each with a thread of its own.

    Args:
        tensors_list: For each input what `batch` takes, all alike.
        allow_smaller_final_batch: Whether the examples that are left when all inputs have ended make a smaller batch.

    Raises:
        ValueError: As for `batch`, and where keys, numbers of components or shapes differ.
        TypeError: As for `batch`, and where types differ.
    """
    inputs = NodeInputs([Example(each, many=enqueue_many) for each in tensors_list], many=enqueue_many)
    arguments = Arguments(batch_size, capacity, shapes, allow_smaller_final_batch, shared_name, name)
    return inputs.in_order(arguments, pads=dynamic_pad)


@public("train.shuffle_batch", scope="shuffle_batch", like=batch)
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
    name: str = "",
) -> Any:
    """Return batches of examples in random order; that of a seed is not TensorFlow's.

    Args:
        capacity: Most examples that are held in advance; more than ``min_after_dequeue``.
        min_after_dequeue: Examples that stay in the queue while the input goes on, so that there is something to choose
            from.
        seed: Makes the order the same in every session, with one thread.

    Raises:
        ValueError: As for `batch`, and where ``capacity`` is not above ``min_after_dequeue``.
        TypeError: ``tensors`` is a single tensor: put it in a list.
    """
    inputs = NodeInputs([Example(tensors, many=enqueue_many)] * num_threads, many=enqueue_many)
    arguments = Arguments(batch_size, capacity, shapes, allow_smaller_final_batch, shared_name, name)
    return inputs.shuffled(arguments, min_after_dequeue, seed)


@public("train.shuffle_batch_join", scope="shuffle_batch_join", like=shuffle_batch)
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
    name: str = "",
) -> Any:
    """Return batches of the examples of several inputs in random order; that of a seed is not TensorFlow's.

    Args:
        tensors_list: For each input what `batch` takes, all alike.
        allow_smaller_final_batch: Whether the examples that are left when all inputs have ended make a smaller batch.

    Raises:
        ValueError: As for `batch_join`, and where ``capacity`` is not above ``min_after_dequeue``.
        TypeError: As for `batch_join`.
    """
    inputs = NodeInputs([Example(each, many=enqueue_many) for each in tensors_list], many=enqueue_many)
    arguments = Arguments(batch_size, capacity, shapes, allow_smaller_final_batch, shared_name, name)
    return inputs.shuffled(arguments, min_after_dequeue, seed)
