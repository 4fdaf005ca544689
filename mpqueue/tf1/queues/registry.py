"""Queues by their ``shared_name``.

A shared queue exists even without any object that refers to it. So a program can fill the queue in one function and
read it in another.
"""

from collections.abc import Callable

from mpqueue.system.signals.locks import Lock
from mpqueue.tf1.queues.core import QueueCore
from mpqueue.tf1.queues.description import Description, Signature
from mpqueue.tf1.values.conversion import invalid


class Registry:
    """Queues by shared name."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._shared: dict[str, tuple[Signature, QueueCore]] = {}

    def find_or_make(self, description: Description, make: Callable[[], QueueCore]) -> QueueCore:
        """Return the queue with this name, which is created if it does not exist.

        Raises:
            InvalidArgumentError: A queue with this name and another signature exists.
        """
        with self._lock:
            known = self._shared.get(description.shared_name)
            if known is None:
                core = make()
                self._shared[description.shared_name] = description.signature, core
                return core
        for field, expected, got in zip(Signature._fields, known[0], description.signature, strict=True):
            # A request without a seed accepts any seed, as in TensorFlow.
            if got != expected and not (field == "seed" and got is None):
                invalid(
                    f"Shared queue {description.shared_name!r} exists with {field} {expected!r}, got {got!r}. "
                    "Use the same value or another shared_name.",
                )
        return known[1]

    def reset(self) -> None:
        """Remove all names. Existing queue objects remain usable."""
        with self._lock:
            self._shared.clear()

    def cores(self) -> list[QueueCore]:
        """Return all queues that have a shared name."""
        with self._lock:
            return [core for _, core in self._shared.values()]


own = Registry()
"""The shared queues of this process."""
