"""Names that find things, and collections: TensorFlow keeps them in a graph, an eager program needs them as well.

Everything lives in one default graph until `reset_default_graph` puts an empty one in its place. Names are held weakly:
a queue or an op is found as long as somebody else refers to it. Collections hold what was added to them.
"""

import functools
import weakref
from typing import Any

from mpqueue.system.locks import RLock
from mpqueue.tf1.queues import registry


class Graph:
    """Names of queues and ops, and collections of objects, such as the queue runners to be started."""

    def __init__(self) -> None:
        self._lock = RLock()  # re-entrant: a thing may be collected, and forgotten, while a name is made
        self._things: dict[str, weakref.ref[Any]] = {}
        self._names: dict[int, str] = {}  # by id, which is no other thing's before this one was forgotten
        self._next_suffix: dict[str, int] = {}
        self._collections: dict[str, list[Any]] = {}

    def add(self, thing: Any, name: str) -> str:
        """Make ``thing`` findable, and return the name that finds it.

        That is the one it got before, or ``name`` if no other thing has it, else ``name_1``, ``name_2`` and so on.

        Follows: ``tf.Graph.unique_name``.
        """
        with self._lock:
            known = self._names.get(id(thing))
            if known is not None:
                return known
            free = name
            while free in self._things:
                suffix = self._next_suffix.get(name, 1)
                self._next_suffix[name] = suffix + 1
                free = f"{name}_{suffix}"
            self._names[id(thing)] = free
            self._things[free] = weakref.ref(thing, functools.partial(_forget, weakref.ref(self), free, id(thing)))
            return free

    def forget(self, name: str, ident: int) -> None:
        """Forget a thing that is gone."""
        with self._lock:
            del self._things[name], self._names[ident]

    def find(self, name: str) -> Any:
        """Return the queue or op of that name.

        Raises:
            KeyError: There is none, or it is not referred to any more.
        """
        with self._lock:
            reference = self._things.get(name)
            thing = None if reference is None else reference()
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


def _forget(graph: "weakref.ref[Graph]", name: str, ident: int, _gone: object) -> None:
    # A graph that referred to itself would wait for the garbage collector, which leaves alone what `gc.freeze` has
    # seen; and all that its collections hold would wait with it: queues, their threads and shared memory.
    found = graph()
    if found is not None:
        found.forget(name, ident)


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
    registry.own.reset()
