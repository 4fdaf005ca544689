"""The defaults of each thread: the graphs and sessions whose ``as_default()`` it has entered, innermost last."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final


class _Entered(threading.local):
    def __init__(self) -> None:
        self.graphs: list[Any] = []
        self.sessions: list[Any] = []

    @property
    def graph(self) -> Any:
        """The innermost graph, None if there is none."""
        return self.graphs[-1] if self.graphs else None

    @property
    def session(self) -> Any:
        """The innermost session, None if there is none."""
        return self.sessions[-1] if self.sessions else None

    @contextmanager
    def graph_context(self, graph: Any) -> Iterator[Any]:
        """A context in which ``graph`` is the innermost."""
        self.graphs.append(graph)
        try:
            yield graph
        finally:
            _drop_last(self.graphs, graph)

    @contextmanager
    def session_context(self, session: Any) -> Iterator[Any]:
        """A context in which ``session`` is the innermost."""
        self.sessions.append(session)
        try:
            yield session
        finally:
            _drop_last(self.sessions, session)


def _drop_last(stack: list[Any], item: Any) -> None:
    """Contexts may be left in another order than entered: an InteractiveSession is closed when the user likes."""
    for place in reversed(range(len(stack))):
        if stack[place] is item:
            del stack[place]
            return


entered: Final = _Entered()
