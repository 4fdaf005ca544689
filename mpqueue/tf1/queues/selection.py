"""The interface of whatever a `QueueBase` stands for, and a queue that is one of several, chosen anew at each call."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mpqueue.errors import InvalidArgumentError
from mpqueue.values.conversion import Array
from mpqueue.values.dtypes import DType


class QueueRef(Protocol):
    """The queue itself (`core.QueueCore`), one in another process (`remote.RemoteQueue`), or a `Selection`.

    A `QueueBase` calls it, in any thread. Components are arrays of the queue's dtypes; a ``timeout`` is whatever the
    user gave, to be checked by `mpqueue.engine.members.checked_timeout`.
    """

    @property
    def name(self) -> str:
        """The name it was made with."""

    @property
    def dtypes(self) -> list[DType]:
        """The dtypes of the components."""

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

    def dequeue(self, timeout: float | None, result: Callable[[list[Any]], Any]) -> Any:
        """Take one element out, and return what ``result`` makes of it; if that is interrupted, it goes back."""

    def dequeue_many(
        self, count: int, timeout: float | None, result: Callable[[list[Any]], Any], *, takes_fewer: bool
    ) -> Any:
        """The same of many elements, stacked."""

    def close(self, cancel_pending_enqueues: bool, timeout: float | None) -> None:
        """Close it."""


class Selection:
    """The queue at an index, looked up at every call.

    Args:
        index: An integer, or a callable that gives one.
        queues: The queues to choose from.

    Raises:
        TypeError: ``index`` is neither.

    Attributes:
        queues: As given.
    """

    def __init__(self, index: Any, queues: Sequence[QueueRef]) -> None:
        self._index: Callable[[], Any] = index if callable(index) else lambda: place
        self.queues = queues
        place = None if callable(index) else operator.index(index)

    def _chosen(self) -> QueueRef:
        index = operator.index(self._index())
        if not 0 <= index < len(self.queues):
            raise InvalidArgumentError(None, None, f"index {index} is not one of {len(self.queues)} queues")
        return self.queues[index]

    @property
    def name(self) -> str:
        """There is no name of its own."""
        return "from_list"

    @property
    def dtypes(self) -> list[DType]:
        """The dtypes of all queues."""
        return self.queues[0].dtypes

    @property
    def size(self) -> int:
        """The size of the chosen queue."""
        return self._chosen().size

    @property
    def is_closed(self) -> bool:
        """True if the chosen queue is closed."""
        return self._chosen().is_closed

    def enqueue(self, components: list[Array], timeout: float | None) -> None:
        """Put one element into the chosen queue."""
        self._chosen().enqueue(components, timeout)

    def enqueue_many(self, components: list[Array], timeout: float | None) -> None:
        """Put all rows into the chosen queue."""
        self._chosen().enqueue_many(components, timeout)

    def dequeue(self, timeout: float | None, result: Callable[[list[Any]], Any]) -> Any:
        """Take one element out of the chosen queue."""
        return self._chosen().dequeue(timeout, result)

    def dequeue_many(
        self, count: int, timeout: float | None, result: Callable[[list[Any]], Any], *, takes_fewer: bool
    ) -> Any:
        """Take all elements out of the chosen queue."""
        return self._chosen().dequeue_many(count, timeout, result, takes_fewer=takes_fewer)

    def close(self, cancel_pending_enqueues: bool, timeout: float | None) -> None:
        """Close the chosen queue."""
        self._chosen().close(cancel_pending_enqueues, timeout)

    def __repr__(self) -> str:
        return f"one of {len(self.queues)} queues"
