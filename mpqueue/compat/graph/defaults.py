"""The defaults of each thread: the graphs and sessions whose ``as_default()`` it has entered, innermost last."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final


class _Entered(threading.local):
    def __init__(self) -> None:
        self._things: list[Any] = []

    @property
    def innermost(self) -> Any:
        """The thing that was entered last and not left, None if there is none."""
        return self._things[-1] if self._things else None

    @contextmanager
    def context(self, thing: Any) -> Iterator[Any]:
        """A context in which ``thing`` is the innermost."""
        self._things.append(thing)
        try:
            yield thing
        finally:
            # They may be left in another order than entered: an InteractiveSession is closed when the user likes.
            for place in reversed(range(len(self._things))):
                if self._things[place] is thing:
                    del self._things[place]
                    break


graphs: Final = _Entered()
sessions: Final = _Entered()
