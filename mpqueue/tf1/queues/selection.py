"""The interface of the queue that a `QueueBase` refers to, and a queue that is selected from several at each call."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mpqueue.errors import InvalidArgumentError
from mpqueue.values.conversion import Array
from mpqueue.values.dtypes import DType


class QueueRef(Protocol):
    """The queue itself (`core.QueueCore`), a remote queue (`remote.RemoteQueue`), or a `Selection`.

    `QueueBase` may call it in any thread. Components are arrays of the queue's dtypes. The implementation validates
    ``timeout`` with `mpqueue.tf1.coordination.members.checked_timeout`.
    """

    @property
    def name(self) -> str:
        """Name of the queue."""

    @property
    def dtypes(self) -> list[DType]:
        """Dtypes of the components."""

    @property
    def size(self) -> int:
        """Number of elements in the queue."""

    @property
    def is_closed(self) -> bool:
        """True once the queue is closed."""

    def enqueue(self, components: list[Array], timeout: float | None) -> None:
        """Enqueue one element."""

    def enqueue_many(self, components: list[Array], timeout: float | None) -> None:
        """Enqueue the rows of the components."""

    def dequeue(self, timeout: float | None, result: Callable[[list[Any]], Any]) -> Any:
        """Dequeue one element and return ``result(components)``. If that is interrupted, the element returns."""

    def dequeue_many(
        self, count: int, timeout: float | None, result: Callable[[list[Any]], Any], *, takes_fewer: bool
    ) -> Any:
        """Dequeue several elements, stacked, and return ``result(components)``."""

    def close(self, cancel_pending_enqueues: bool, timeout: float | None) -> None:
        """Close the queue."""


class Selection:
    """The queue at an index, which is evaluated at each call.

    Args:
        index: An integer, or a callable that returns an integer.
        queues: The queues to select from.

    Raises:
        TypeError: ``index`` is neither an integer nor a callable.

    Attributes:
        queues: The queues to select from.
    """

    def __init__(self, index: Any, queues: Sequence[QueueRef]) -> None:
        self._index: Callable[[], Any] = index if callable(index) else lambda: place
        self.queues = queues
        place = None if callable(index) else operator.index(index)

    def _chosen(self) -> QueueRef:
        index = operator.index(self._index())
        if not 0 <= index < len(self.queues):
            raise InvalidArgumentError(None, None, f"Index must be from 0 to {len(self.queues) - 1}, got {index}.")
        return self.queues[index]

    @property
    def name(self) -> str:
        """A fixed name, as in TensorFlow."""
        return "from_list"

    @property
    def dtypes(self) -> list[DType]:
        """Dtypes of all queues."""
        return self.queues[0].dtypes

    @property
    def size(self) -> int:
        """Number of elements in the selected queue."""
        return self._chosen().size

    @property
    def is_closed(self) -> bool:
        """True if the selected queue is closed."""
        return self._chosen().is_closed

    def enqueue(self, components: list[Array], timeout: float | None) -> None:
        """Enqueue one element into the selected queue."""
        self._chosen().enqueue(components, timeout)

    def enqueue_many(self, components: list[Array], timeout: float | None) -> None:
        """Enqueue the rows of the components into the selected queue."""
        self._chosen().enqueue_many(components, timeout)

    def dequeue(self, timeout: float | None, result: Callable[[list[Any]], Any]) -> Any:
        """Dequeue one element from the selected queue."""
        return self._chosen().dequeue(timeout, result)

    def dequeue_many(
        self, count: int, timeout: float | None, result: Callable[[list[Any]], Any], *, takes_fewer: bool
    ) -> Any:
        """Dequeue several elements from the selected queue."""
        return self._chosen().dequeue_many(count, timeout, result, takes_fewer=takes_fewer)

    def close(self, cancel_pending_enqueues: bool, timeout: float | None) -> None:
        """Close the selected queue."""
        self._chosen().close(cancel_pending_enqueues, timeout)

    def __repr__(self) -> str:
        return f"one of {len(self.queues)} queues"
