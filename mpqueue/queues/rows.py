"""The elements of an example that is a batch of elements."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpqueue.queues.base import QueueBase


def num_rows(queue: "QueueBase", example: Any) -> int:
    """How many elements `enqueue_many` makes of it."""
    return len(queue.element_spec.components(example)[0])


def rows_from(queue: "QueueBase", example: Any, first: int) -> Any:
    """The example without its first elements."""
    rows = [component[first:] for component in queue.element_spec.components(example)]
    return rows if queue.names is None else dict(zip(queue.names, rows, strict=True))
