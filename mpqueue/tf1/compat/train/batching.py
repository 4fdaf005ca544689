"""Batches of examples, assembled in a queue that a queue runner fills.

Each function creates a queue with the types and shapes of its inputs, an enqueue operation per input, and a queue
runner for these operations. It returns tensors dequeued from the queue. The parameters are as in `mpqueue.train`.
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
    """Return batches of examples in the order of the input.

    Args:
        tensors: The components of one example, a list or dict of tensors. In a batch, sparse tensors get an additional
            axis.
        batch_size: Number of examples per batch, an integer or an int32 tensor.
        num_threads: Number of enqueuing threads. With more than one, the order is not deterministic.
        shapes: Shape of each component of one example. If None, the static shapes of the tensors.

    Returns: The structure of ``tensors`` with an additional first axis; for a list with one tensor, the tensor itself.

    Raises:
        ValueError: ``tensors`` is empty, a rank is unknown, or a size is unknown without ``dynamic_pad``.
        TypeError: ``tensors`` is a single tensor instead of a list.
    """
    return _batches([tensors], batch_size, **given)


@public("train.batch_join(...)", scope="batch_join", like=(batching.batch_join, batch))
def batch_join(tensors_list: Sequence[Any], batch_size: Any, **given: Any) -> Any:
    """Return batches of examples from several inputs, each enqueued by its own thread.

    Args:
        tensors_list: One argument of `batch` per input, all with the same structure.
        allow_smaller_final_batch: Whether the examples that remain after the end of all inputs form a smaller batch.

    Raises:
        ValueError: As for `batch`, or the inputs differ in keys, numbers of components or shapes.
        TypeError: As for `batch`, or the inputs differ in types.
    """
    return _batches(tensors_list, batch_size, **given)


@public("train.shuffle_batch(...)", scope="shuffle_batch", like=(batching.shuffle_batch, batch))
def shuffle_batch(tensors: Any, batch_size: Any, **given: Any) -> Any:
    """Return batches of examples in random order. The order for a given seed differs from TensorFlow's.

    Raises:
        ValueError: As for `batch`, or ``capacity`` is not greater than ``min_after_dequeue``.
        TypeError: ``tensors`` is a single tensor instead of a list.
    """
    return _batches([tensors], batch_size, **given)


_JOINED = (batching.shuffle_batch_join, batch, batch_join, shuffle_batch)


@public("train.shuffle_batch_join(...)", scope="shuffle_batch_join", like=_JOINED)
def shuffle_batch_join(tensors_list: Sequence[Any], batch_size: Any, **given: Any) -> Any:
    """Return batches of examples from several inputs in random order, which differs from TensorFlow's for a given seed.

    Raises:
        ValueError: As for `batch_join`, or ``capacity`` is not greater than ``min_after_dequeue``.
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
    """Create the queue, its runner, and the dequeued tensors; ``min_after_dequeue`` is None to keep the order."""
    each_once = [Example(each, many=enqueue_many) for each in tensors_list]
    examples = each_once * batching.at_least(1, num_threads, "num_threads")
    inputs = NodeInputs(examples, many=enqueue_many)
    arguments = Arguments(batch_size, takes_fewer=allow_smaller_final_batch, **others)
    if min_after_dequeue is None:
        return inputs.in_order(arguments, pads=dynamic_pad)
    return inputs.shuffled(arguments, min_after_dequeue, seed)
