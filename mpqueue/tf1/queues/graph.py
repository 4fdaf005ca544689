"""Names of queues and ops, and collections, which TensorFlow keeps in a graph.

All names are in one default graph, until `reset_default_graph` replaces it by an empty one. A name holds a weak
reference: it finds a queue or op as long as another object refers to it. A collection holds strong references.
"""

import functools
import weakref
from typing import Any

from mpqueue.system.signals.locks import RLock
from mpqueue.tf1.queues import registry


class Graph:
    """Names of queues and ops, and collections of objects, such as queue runners to start."""

    def __init__(self) -> None:
        # Reentrant: while a name is created, the garbage collector may run `forget` in the same thread.
        self._lock = RLock()
        self._things: dict[str, weakref.ref[Any]] = {}
        self._names: dict[int, str] = {}  # by id, which is not reused before `forget` removes the entry
        self._next_suffix: dict[str, int] = {}
        self._collections: dict[str, list[Any]] = {}

    def add(self, thing: Any, name: str) -> str:
        """Make ``thing`` findable by name, and return the name.

        An object that has a name keeps it. Otherwise the result is ``name`` if it is unused, or ``name_1``, ``name_2``
        and so on.

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
        """Remove the name of a garbage-collected object."""
        with self._lock:
            del self._things[name], self._names[ident]

    def find(self, name: str) -> Any:
        """Return the queue or op with a name.

        Raises:
            KeyError: The object does not exist or was garbage-collected.
        """
        with self._lock:
            reference = self._things.get(name)
            thing = None if reference is None else reference()
        if thing is None:
            raise KeyError(f"No queue or op named {name!r} in the default graph.")
        return thing

    def add_to_collection(self, collection: str, thing: Any) -> None:
        """Append ``thing`` to a collection, which is created if necessary."""
        with self._lock:
            self._collections.setdefault(collection, []).append(thing)

    def get_collection(self, collection: str) -> list[Any]:
        """Return a copy of a collection; empty if it does not exist."""
        with self._lock:
            return list(self._collections.get(collection, ()))


def _forget(graph: "weakref.ref[Graph]", name: str, ident: int, _gone: object) -> None:
    # A weak reference, so that the graph is in no reference cycle. A cycle is freed only by the garbage collector,
    # which skips objects after `gc.freeze`. Then the objects in its collections would leak: queues, threads, shared
    # memory.
    owner = graph()
    if owner is not None:
        owner.forget(name, ident)


_default = Graph()


def default_graph() -> Graph:
    """Return the graph that currently resolves names."""
    return _default


def reset_default_graph() -> None:
    """Remove all names, shared names and collections. Queues and running threads are not affected.

    Follows: ``tf.compat.v1.reset_default_graph``.
    """
    global _default
    _default = Graph()
    registry.own.reset()
