"""Functions that are called when an object is collected, even if a signal arrives at the same time.

The callback of a weak reference runs in the thread that dropped the last reference, mostly the main thread. Python
prints an exception that a signal handler raises in it (Ctrl-C), and continues: the interrupt and the rest of the
callback would be lost. So the function runs with signal handlers deferred, and the signals are handled after the
callback, in user code: see `mpqueue.system.signals.deferred.deliver_after_return`.

A signal that is pending when the callback begins may still be lost. The function is then called when the next object is
watched, or when the interpreter exits.
"""

import atexit
import os
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Self

from mpqueue.system.signals import deferred

_live: dict[int, "WhenCollected"] = {}
_is_registered = False


class WhenCollected(weakref.ref[Any]):
    """A weak reference that calls a function once, when its object is collected.

    Args:
        owner: The object.
        function: Called when the object is collected, or when the interpreter exits. It must not refer to the object.
        arguments: Arguments of the function.
        at_exit: Call it when the interpreter exits.
    """

    __slots__ = ("_arguments", "_at_exit", "_function")

    def __new__(cls, owner: Any, _function: Callable[..., object], *_arguments: Any, at_exit: bool = True) -> Self:  # noqa: ARG004
        """Create the reference."""
        return super().__new__(cls, owner, _end)

    def __init__(self, owner: Any, function: Callable[..., object], *arguments: Any, at_exit: bool = True) -> None:
        global _is_registered
        super().__init__(owner, _end)  # type: ignore[call-arg]  # missing in the type stubs
        self._function, self._arguments, self._at_exit = function, arguments, at_exit
        if not _is_registered:
            _is_registered = True
            # Late: exit functions run in reverse order, and those registered before may be needed until then.
            atexit.register(_call_all)
        # Callbacks that an interrupt has broken off.
        _call_reporting([watch for watch in list(_live.values()) if watch() is None])
        # A weak reference that is itself collected first makes no call, so it is kept here.
        _live[id(self)] = self

    def detach(self) -> None:
        """Do not call the function."""
        _live.pop(id(self), None)

    def call(self) -> None:
        """Call the function, unless it was called already."""
        if _live.pop(id(self), None) is not None:
            self._function(*self._arguments)


def _end(watch: WhenCollected) -> None:
    if not _live:
        return  # all were called; when the interpreter exits, the names of this module may be None
    # The last statement: the signals that arrived are pending, and are handled in the caller.
    deferred.deliver_after_return(watch.call)


def _call_all() -> None:
    _call_reporting([watch for watch in list(_live.values()) if watch._at_exit])
    # As `weakref.finalize`: no others are called from here on. Names that they need may be None soon.
    _live.clear()


def _call_reporting(watches: Iterable[WhenCollected]) -> None:
    """Call functions of objects unrelated to the caller: print their errors."""
    for watch in watches:
        try:
            watch.call()
        except Exception:
            sys.excepthook(*sys.exc_info())


# The resources belong to the parent: a child that exits normally must not end its workers.
os.register_at_fork(after_in_child=_live.clear)
