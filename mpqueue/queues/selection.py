"""A queue that is one of several, chosen anew at each call."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mpqueue.errors import InvalidArgumentError
from mpqueue.values.conversion import Array
from mpqueue.values.dtypes import DType


class QueueRef(Protocol):
    """What a `QueueBase` stands for: the queue itself, or something that leads to it."""

    @property
    def name(self) -> str:
        """The name it was made with."""

    @property
    def dtypes(self) -> list[DType]:
        """Of the components."""

    @property
    def size(self) -> int:
        """Number of elements in it."""

    @property
    def is_closed(self) -> bool:
        """True once a close was processed."""

    def enqueue(self, components: list[Array], timeout: float | None) -> None:
        """Put one element in."""

    def enqueue_many(self, components: list[Array], timeout: float | None) -> None:
        """Put the rows of the components in."""

    def dequeue(self, timeout: float | None) -> list[Any]:
        """Take one element out."""

    def dequeue_many(self, count: int, timeout: float | None, *, takes_fewer: bool) -> list[Array]:
        """Take elements out, stacked."""

    def close(self, cancel_pending_enqueues: bool, timeout: float | None) -> None:
        """Close it."""


class Selection:
    """The queue at an index, looked up at every call.

    Args:
        index: An integer, or a callable that gives one.
        queues: What is chosen from.

    Raises:
        TypeError: ``index`` is neither.
    """

    def __init__(self, index: Any, queues: Sequence[QueueRef]) -> None:
        self._index: Callable[[], Any] = index if callable(index) else lambda: place
        self._queues = queues
        place = None if callable(index) else operator.index(index)

    def _chosen(self) -> QueueRef:
        index = operator.index(self._index())
        if not 0 <= index < len(self._queues):
            raise InvalidArgumentError(None, None, f"index {index} is not one of {len(self._queues)} queues")
        return self._queues[index]

    @property
    def name(self) -> str:
        """There is no name of its own."""
        return "from_list"

    @property
    def dtypes(self) -> list[DType]:
        """Of all queues."""
        return self._queues[0].dtypes

    @property
    def size(self) -> int:
        """Of the chosen queue."""
        return self._chosen().size

    @property
    def is_closed(self) -> bool:
        """Of the chosen queue."""
        return self._chosen().is_closed

    def enqueue(self, components: list[Array], timeout: float | None) -> None:
        """To the chosen queue."""
        self._chosen().enqueue(components, timeout)

    def enqueue_many(self, components: list[Array], timeout: float | None) -> None:
        """To the chosen queue, all rows."""
        self._chosen().enqueue_many(components, timeout)

    def dequeue(self, timeout: float | None) -> list[Any]:
        """From the chosen queue."""
        return self._chosen().dequeue(timeout)

    def dequeue_many(self, count: int, timeout: float | None, *, takes_fewer: bool) -> list[Array]:
        """From the chosen queue, all elements."""
        return self._chosen().dequeue_many(count, timeout, takes_fewer=takes_fewer)

    def close(self, cancel_pending_enqueues: bool, timeout: float | None) -> None:
        """The chosen queue."""
        self._chosen().close(cancel_pending_enqueues, timeout)

    def __repr__(self) -> str:
        return f"one of {len(self._queues)} queues"
