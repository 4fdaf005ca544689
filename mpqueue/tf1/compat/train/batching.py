"""Batches of examples, assembled in a queue that a queue runner fills.

Each function makes a queue with the types and shapes of its inputs, an operation per input that enqueues it, and a
queue runner with these; what it returns is dequeued from there. The parameters are those of `mpqueue.train`.
"""

from collections.abc import Sequence
from typing import Any

from mpqueue.tf1.compat.functions.declare import public
from mpqueue.tf1.compat.functions.queues import FIFOQueue
from mpqueue.tf1.compat.train.examples import Example, NodeInputs
from mpqueue.tf1.train import batching
from mpqueue.tf1.train.inputs import Arguments


@public("train.batch(...)", scope="batch", like=(batching.batch, FIFOQueue))
def batch(tensors: Any, batch_size: Any, **given: Any) -> Any:
    """Return batches of examples in the order in which they come.

    Args:
        tensors: The components of one example, a list or dict of tensors; sparse ones become one of a rank more.
        batch_size: Examples per batch, an int or an int32 tensor.
        num_threads: Threads that enqueue. More than one mix the order.
        shapes: Shape of each component of one example, default as the tensors say.

    Returns: The structure of ``tensors``, with one more axis in front; of a list of one, the bare tensor.

    Raises:
        ValueError: ``tensors`` is empty, a rank is not known, or, without ``dynamic_pad``, a size.
        TypeError: ``tensors`` is a single tensor: put it in a list.
    """
    return _batches([tensors], batch_size, **given)


@public("train.batch_join(...)", scope="batch_join", like=(batching.batch_join, batch))
def batch_join(tensors_list: Sequence[Any], batch_size: Any, **given: Any) -> Any:
    """Return batches of the examples of several inputs, each with a thread of its own.

    Args:
        tensors_list: For each input what `batch` takes, all alike.
        allow_smaller_final_batch: True if the examples that are left when all inputs have ended make a smaller batch.

    Raises:
        ValueError: As for `batch`, and where keys, numbers of components or shapes differ.
        TypeError: As for `batch`, and where types differ.
    """
    return _batches(tensors_list, batch_size, **given)


@public("train.shuffle_batch(...)", scope="shuffle_batch", like=(batching.shuffle_batch, batch))
def shuffle_batch(tensors: Any, batch_size: Any, **given: Any) -> Any:
    """Return batches of examples in random order; that of a seed is not TensorFlow's.

    Raises:
        ValueError: As for `batch`, and where ``capacity`` is not above ``min_after_dequeue``.
        TypeError: ``tensors`` is a single tensor: put it in a list.
    """
    return _batches([tensors], batch_size, **given)


_JOINED = (batching.shuffle_batch_join, batch, batch_join, shuffle_batch)


@public("train.shuffle_batch_join(...)", scope="shuffle_batch_join", like=_JOINED)
def shuffle_batch_join(tensors_list: Sequence[Any], batch_size: Any, **given: Any) -> Any:
    """Return batches of the examples of several inputs in random order; that of a seed is not TensorFlow's.

    Raises:
        ValueError: As for `batch_join`, and where ``capacity`` is not above ``min_after_dequeue``.
        TypeError: As for `batch_join`.
    """
    return _batches(tensors_list, batch_size, **given)


def _batches(
    tensors_list: Sequence[Any],
    batch_size: Any,
    *,
    num_threads: int = 1,
    enqueue_many: bool,
    dynamic_pad: bool = False,
    min_after_dequeue: int | None = None,
    seed: int | None = None,
    allow_smaller_final_batch: bool,
    **others: Any,
) -> Any:
    """Make the queue, its runner, and what is dequeued; ``min_after_dequeue`` is None where the order is kept."""
    examples = [Example(each, many=enqueue_many) for each in tensors_list] * num_threads
    inputs = NodeInputs(examples, many=enqueue_many)
    arguments = Arguments(batch_size, takes_fewer=allow_smaller_final_batch, **others)
    if min_after_dequeue is None:
        return inputs.in_order(arguments, pads=dynamic_pad)
    return inputs.shuffled(arguments, min_after_dequeue, seed)
