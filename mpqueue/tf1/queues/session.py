"""Sessions: what is blocked in one of them is freed by closing it.

A session owns one cancellation scope, and enters it around whatever runs in it. Which session is the default one?

    with session:            this thread's, and that of every thread that has entered none
    session.as_default()     this thread's only: the threads of a queue runner enter their session so
    neither                  a session of the module, open until it is closed explicitly

The second half of the first line is what programs expect that start plain threads inside ``with Session()`` and leave
the block while one of them is blocked in a queue.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Self, TypeVar

from mpqueue.errors import CancelledError
from mpqueue.tf1.coordination.cancellation import CancellationScope, remove_last

T = TypeVar("T")


class SessionClosedError(CancelledError, RuntimeError):
    """A closed session was asked to run something.

    A `RuntimeError` because TensorFlow raises that; a `CancelledError` because the thread of a queue runner cannot know
    whether the close found it inside of its op or between two of them.
    """


class Session:
    """Owns blocked calls and the threads of queue runners: closing it makes them raise `CancelledError`.

    ``with Session() as session:`` makes it the default one of the process and closes it at the end. A closed session
    stays closed. It holds no queues: those live as long as somebody refers to them.

    Follows: ``tf.compat.v1.Session``, where there is no graph: ``run`` calls a callable.
    """

    def __init__(self) -> None:
        self._scope = CancellationScope()

    @property
    def is_closed(self) -> bool:
        """True once `close` was called."""
        return self._scope.is_cancelled

    def run(self, op: Callable[[], T]) -> T:
        """Call ``op`` in this session and return its result.

        Args:
            op: Anything callable without arguments: an enqueue op, a batch, ``queue.dequeue``.

        Raises:
            TypeError: ``op`` is not callable.
            RuntimeError: The session is closed; the error is a `CancelledError` too.
            CancelledError: The session was closed while ``op`` was blocked.
        """
        if not callable(op):
            raise TypeError(f"run takes a callable such as an enqueue op, got {op!r}")
        if self.is_closed:
            raise SessionClosedError(None, None, f"this session is closed and cannot run {op!r}")
        if _of_this_thread.get() is self:
            return op()
        with self.as_default():
            return op()

    def make_callable(self, op: Callable[[], T]) -> Callable[[], T]:
        """Return a callable that does what ``run(op)`` does, for threads that run one op again and again.

        Args:
            op: A callable without arguments, such as an enqueue op.
        """
        return functools.partial(self.run, op)

    @contextmanager
    def as_default(self) -> Iterator[Self]:
        """Inside the ``with`` block it is the default session of this thread; it is not closed at the end."""
        token = _of_this_thread.set(self)
        try:
            with self._scope.active():
                yield self
        finally:
            _of_this_thread.reset(token)

    def close(self) -> None:
        """Make every call that is blocked in this session raise `CancelledError`; a second close does nothing."""
        self._scope.cancel("the session is closed")

    def __enter__(self) -> Self:
        if self.is_closed:
            raise SessionClosedError(None, None, "this session is closed and cannot be entered")
        with ExitStack() as entry:
            entry.enter_context(self.as_default())
            entry.enter_context(self._scope.ambient())
            _of_the_process.append(self)
            entry.callback(remove_last, _of_the_process, self)
            _entries.set((*_entries.get(), entry.pop_all()))
        return self

    def __exit__(self, *_exc_info: object) -> None:
        *outer, entry = _entries.get()
        _entries.set(tuple(outer))
        entry.close()
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'closed' if self.is_closed else 'open'}>"


_of_this_thread: ContextVar[Session | None] = ContextVar("mpqueue_session", default=None)
_entries: ContextVar[tuple[ExitStack, ...]] = ContextVar("mpqueue_session_entries", default=())
_of_the_process: list[Session] = []
_of_the_module = Session()


def get_default_session() -> Session:
    """Return the session in which a call of this thread runs when none is given; never a closed one of the module.

    Follows: ``tf.compat.v1.get_default_session``, which returns None where mpqueue has its session of the module.
    """
    global _of_the_module
    mine = _of_this_thread.get()
    if mine is not None:
        return mine
    if _of_the_process:
        return _of_the_process[-1]
    if _of_the_module.is_closed:
        _of_the_module = Session()
    return _of_the_module
