"""Work that is done when nobody holds an object any more, whatever signal comes meanwhile.

The callback of a weak reference runs in the thread in which the last reference went, mostly the main one. What a signal
handler raises in it (Ctrl-C) Python prints and forgets: the interrupt would be lost, and so would be the rest of the
work. So the work is done with signal handlers deferred, and what has come meanwhile is handled after the callback, in
the code of the user: see `mpqueue.system.interrupts.deliver_after_return`. A signal that was pending when the callback
began may still be lost; the work is done with the next object that is made, or when the interpreter ends.
"""

import atexit
import os
import weakref
from collections.abc import Callable
from typing import Any, Self

from mpqueue.system import interrupts

_live: dict[int, "WhenCollected"] = {}
_is_registered = False


class WhenCollected(weakref.ref[Any]):
    """A weak reference to an object, whose end has a function called, once.

    Args:
        owner: The object.
        function: Is called when nobody holds it any more, or when the interpreter ends; must not hold it.
        arguments: Of the function.
    """

    __slots__ = ("_arguments", "_function")

    def __new__(cls, owner: Any, _function: Callable[..., object], *_arguments: Any) -> Self:
        """Make the reference."""
        return super().__new__(cls, owner, _end)

    def __init__(self, owner: Any, function: Callable[..., object], *arguments: Any) -> None:
        global _is_registered
        super().__init__(owner, _end)  # type: ignore[call-arg]  # which the stubs do not know
        self._function, self._arguments = function, arguments
        if not _is_registered:
            _is_registered = True
            atexit.register(_call_all)  # not earlier: what was registered before is needed until then
        for left in [watch for watch in list(_live.values()) if watch() is None]:
            left.call()
        _live[id(self)] = self

    def detach(self) -> None:
        """Call nothing."""
        _live.pop(id(self), None)

    def call(self) -> None:
        """Call the function, if it was not called."""
        if _live.pop(id(self), None) is not None:
            self._function(*self._arguments)


def _end(watch: WhenCollected) -> None:
    if not _live:
        return  # all were called; and at the interpreter's end the names of this module are gone
    interrupts.deliver_after_return(watch.call)  # nothing after this: the signals that came are pending


def _call_all() -> None:
    for watch in list(_live.values()):
        watch.call()


os.register_at_fork(after_in_child=_live.clear)
