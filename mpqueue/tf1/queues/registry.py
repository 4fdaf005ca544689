"""Queues that are found again by their ``shared_name``.

A shared queue lives until `reset`, also while no object stands for it, as a resource of a TensorFlow server does: a
program may fill it in one function and read it in another.
"""

from collections.abc import Callable, Collection

from mpqueue.errors import InvalidArgumentError
from mpqueue.system.locks import Lock
from mpqueue.tf1.queues.core import QueueCore
from mpqueue.tf1.queues.description import Description, Signature


class Registry:
    """Queues by container and shared name."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._shared: dict[tuple[str, str], tuple[Signature, QueueCore]] = {}

    def find_or_make(self, wanted: Description, make: Callable[[], QueueCore]) -> QueueCore:
        """The queue of this container and name, made now if there is none.

        Raises:
            InvalidArgumentError: There is a queue of this name with another signature.
        """
        key = wanted.container, wanted.shared_name
        with self._lock:
            known = self._shared.get(key)
            if known is None:
                core = make()
                self._shared[key] = wanted.signature, core
                return core
        for field, expected, got in zip(Signature._fields, known[0], wanted.signature, strict=True):
            if got != expected and not (field == "seed" and got is None):  # who gives none takes any, as in TensorFlow
                raise InvalidArgumentError(
                    None, None, f"the shared queue {wanted.shared_name!r} exists with {field} {expected}, not {got}"
                )
        return known[1]

    def reset(self, containers: Collection[str] = ()) -> None:
        """Forget the names in these containers, without any all names; objects that stand for the queues go on."""
        with self._lock:
            for key in list(self._shared):
                if not containers or key[0] in containers:
                    del self._shared[key]

    def cores(self) -> list[QueueCore]:
        """All queues that have a shared name."""
        with self._lock:
            return [core for _, core in self._shared.values()]


own = Registry()
"""The queues of this process."""
