"""Sets of weakly referenced objects, which can be iterated over while other threads add to them.

Not `weakref.WeakSet`: its iteration is Python code, during which another thread may add an object, which raises a
RuntimeError. Its callbacks are Python code, too, see `mpqueue.system.signals.collected`.
"""

import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Living(Generic[T]):
    """A set of weak references; all methods may be called from any thread."""

    def __init__(self) -> None:
        self._references: set[weakref.ref[T]] = set()

    def add(self, thing: T) -> None:
        """Add an object until it is collected."""
        self._references.add(weakref.ref(thing, self._references.discard))

    def discard(self, thing: T) -> None:
        """Remove an object if it is present."""
        self._references.discard(weakref.ref(thing))

    def clear(self) -> None:
        """Remove all objects."""
        self._references.clear()

    def __contains__(self, thing: T) -> bool:
        return weakref.ref(thing) in self._references

    def __iter__(self) -> Iterator[T]:
        # A copy, in one call of C code: other threads and garbage collections change the set.
        things = [reference() for reference in self._references.copy()]
        return (thing for thing in things if thing is not None)

    def __bool__(self) -> bool:
        return any(True for _ in self)
