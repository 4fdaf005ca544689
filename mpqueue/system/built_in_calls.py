"""Calls of built-in functions when an object is collected, which no signal handler can interrupt.

The callback of `weakref.finalize` is Python code. A signal handler that raises in it interrupts it: Python prints the
exception and continues, so the interrupt and the rest of the callback are lost. Here the callback and all that it calls
are C code. Functions of Python need `mpqueue.system.collected`.
"""

import operator
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Self

_call: Callable[[Callable[[], object]], object] = operator.call
_watches: dict[int, "BuiltInCalls"] = {}


class BuiltInCalls(weakref.ref[Any]):
    """A weak reference that calls built-in functions once, when its object is collected.

    Args:
        owner: The object.
        functions: Built-in functions without arguments, such as a `partial` of one. They must not refer to the object.

    Attributes:
        call: A function that calls them now, unless they were called already.
    """

    __slots__ = ("call",)

    call: Callable[[], object]

    def __new__(cls, owner: Any, *_functions: Callable[[], object]) -> Self:
        """Create the reference."""
        return super().__new__(cls, owner, operator.methodcaller("call"))

    def __init__(self, owner: Any, *functions: Callable[[], object]) -> None:
        super().__init__(owner, operator.methodcaller("call"))  # type: ignore[call-arg]  # missing in the type stubs
        # An iterator, so that a second call finds no function left. A `deque` exhausts it in C code.
        last: Callable[[], object] = partial(_watches.pop, id(self), None)
        calls: map[object] = map(_call, (*functions, last))
        self.call = partial(deque, calls, 0)
        _watches[id(self)] = self  # a weak reference that is itself collected first calls nothing
