"""Batches that a worker could pickle and this process cannot unpickle: errors at their places, and no interrupts.

To rebuild a batch runs code of the user (a ``__setstate__``, the import of a module), which may raise; and so may the
handler of a signal, in the middle of it. The first is the batch's own error: it comes once, and the stream goes on
behind it. The second is an interrupt: the batch is kept, or computed again. Nothing about an exception tells which it
is. So what has raised is done once more, with signal handlers deferred: what raises the same again has raised it by
itself.
"""

from collections.abc import Callable
from typing import Any

from mpqueue.engine.outcomes import Unreadable
from mpqueue.memory.layout import ReadSpec, Spec
from mpqueue.system.interrupts import defer_signals


def unreadable(error: Exception, again: Callable[[], object]) -> Unreadable:
    """Return what is to be raised for an error in unpickling.

    Args:
        error: What was raised.
        again: Does once more what has raised it.

    Raises:
        Exception: The error itself, if the handler of a signal has raised it.
    """
    with defer_signals():
        try:
            again()
        except Exception as own:
            own.__traceback__ = None  # code that keeps its error would keep the batch with the frames
            if type(own) is type(error):
                return Unreadable(error)
    raise error


class LateSpec(ReadSpec):
    """Takes the place of a spec that could not be unpickled: each batch of it is tried anew, and unreadable.

    Args:
        load: Unpickles the spec.
    """

    def __init__(self, load: Callable[[], Spec]) -> None:
        self._load = load

    def __getattr__(self, name: str) -> Any:
        """Return an attribute that `ReadSpec` has: all of them need the spec.

        Raises:
            Unreadable: The spec still cannot be unpickled.
        """
        try:
            spec = self._load()
        except Exception as error:
            raise unreadable(error, self._load) from error
        return getattr(ReadSpec(spec), name)
