"""What TensorFlow keeps in a graph and an eager program needs all the same: names that find things, and collections.

Everything lives in one default graph until `reset_default_graph` puts an empty one in its place. Names are held weakly:
a queue or an op is found as long as somebody else refers to it. Collections hold what was added to them.
"""

import threading
import weakref
from typing import Any

from mpqueue.queues import registry


class Graph:
    """Names of queues and ops, and collections of objects, such as the queue runners to be started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._things: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self._next_suffix: dict[str, int] = {}
        self._collections: dict[str, list[Any]] = {}

    def add(self, thing: Any, name: str) -> str:
        """Make ``thing`` findable, and return the name that finds it.

        That is ``name`` if no other thing has it, else ``name_1``, ``name_2`` and so on.

        Follows: ``tf.Graph.unique_name``.
        """
        with self._lock:
            free = name
            while self._things.get(free, thing) is not thing:
                suffix = self._next_suffix.get(name, 1)
                self._next_suffix[name] = suffix + 1
                free = f"{name}_{suffix}"
            self._things[free] = thing
            return free

    def find(self, name: str) -> Any:
        """Return the queue or op of that name.

        Raises:
            KeyError: There is none, or it is not referred to any more.
        """
        with self._lock:
            thing = self._things.get(name)
        if thing is None:
            raise KeyError(f"no queue or op is named {name!r} in the default graph")
        return thing

    def add_to_collection(self, collection: str, thing: Any) -> None:
        """Append ``thing`` to a collection, which is made if it is new."""
        with self._lock:
            self._collections.setdefault(collection, []).append(thing)

    def get_collection(self, collection: str) -> list[Any]:
        """Return a copy of a collection, empty if nothing was ever added to it."""
        with self._lock:
            return list(self._collections.get(collection, ()))


_default = Graph()


def default_graph() -> Graph:
    """Return the graph in which names are looked up now."""
    return _default


def reset_default_graph() -> None:
    """Forget all names, shared names and collections; queues, and threads that run, are not touched.

    Follows: ``tf.compat.v1.reset_default_graph``.
    """
    global _default
    _default = Graph()
    registry.reset()
