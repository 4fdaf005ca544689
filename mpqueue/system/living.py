"""Sets of objects that end with these, gone through while other threads add to them.

No `weakref.WeakSet`: that is gone through by Python code, in which another thread may have its turn, and an object that
this adds is a RuntimeError. And its callbacks are Python code, in which an interrupt is lost, see
`mpqueue.system.collected`.
"""

import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Living(Generic[T]):
    """A set that keeps nothing alive; any thread may call anything."""

    def __init__(self) -> None:
        self._references: set[weakref.ref[T]] = set()

    def add(self, thing: T) -> None:
        """Add an object, until its end."""
        self._references.add(weakref.ref(thing, self._references.discard))

    def clear(self) -> None:
        """Take all out."""
        self._references.clear()

    def __contains__(self, thing: T) -> bool:
        return weakref.ref(thing) in self._references

    def __iter__(self) -> Iterator[T]:
        # A copy, in one call of C: what is added meanwhile, or finalized by a garbage collection, changes the set.
        found = [reference() for reference in self._references.copy()]
        return (thing for thing in found if thing is not None)

    def __bool__(self) -> bool:
        return any(True for _ in self)
