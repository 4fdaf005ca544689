"""Sessions: closing a session cancels the calls that are blocked in it.

A session owns a cancellation scope and enters it around each call that it runs. The default session is determined by

    with session:            for this thread, and for each thread that has entered no session
    session.as_default()     for this thread only; threads of a queue runner enter their session like this
    neither                  a session of the module, open until it is closed explicitly

Programs that start plain threads inside ``with Session()`` rely on the second half of the first line: leaving the block
must cancel a thread that is blocked in a queue.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Self, TypeVar

from mpqueue.errors import CancelledError
from mpqueue.system.signals.contexts import context_manager
from mpqueue.tf1.coordination.cancellation import CancellationScope, remove_last

T = TypeVar("T")


class SessionClosedError(CancelledError, RuntimeError):
    """Raised by a closed session instead of running an op.

    It is a `RuntimeError` as in TensorFlow. It is also a `CancelledError`, because a thread of a queue runner may find
    the session closed during its op or between two ops, and must handle both cases alike.
    """


class Session:
    """Owner of blocked calls and of queue runner threads. Closing it makes them raise `CancelledError`.

    ``with Session() as session:`` makes it the default session of the process and closes it at the end. A closed
    session cannot be reopened. A session does not own queues.

    Follows: ``tf.compat.v1.Session``, but without a graph: ``run`` calls a callable.
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
            op: A callable without arguments, such as an enqueue op, a batch, or ``queue.dequeue``.

        Raises:
            TypeError: ``op`` is not callable.
            RuntimeError: The session is closed. The error is also a `CancelledError`.
            CancelledError: The session was closed while ``op`` was blocked.
        """
        if not callable(op):
            raise TypeError(f"op must be a callable without arguments, such as an enqueue op, got {op!r}.")
        if self.is_closed:
            raise SessionClosedError(None, None, f"The session is closed and cannot run {op!r}.")
        # Already the default session of this thread: entering it again would only cost time.
        if _of_this_thread.get() is self:
            return op()
        with self.as_default():
            return op()

    def make_callable(self, op: Callable[[], T]) -> Callable[[], T]:
        """Return a callable equivalent to ``run(op)``, for threads that run one op repeatedly.

        Args:
            op: A callable without arguments, such as an enqueue op.
        """
        return functools.partial(self.run, op)

    @context_manager
    def as_default(self) -> Iterator[Self]:
        """Make this session the default of this thread inside the ``with`` block. It is not closed at the end."""
        token = _of_this_thread.set(self)
        try:
            with self._scope.active():
                yield self
        finally:
            _of_this_thread.reset(token)

    def close(self) -> None:
        """Make each call that is blocked in this session raise `CancelledError`. Idempotent."""
        self._scope.cancel("the session is closed")

    def __enter__(self) -> Self:
        if self.is_closed:
            raise SessionClosedError(None, None, "The session is closed and cannot be entered.")
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
    """Return the default session of this thread.

    If the module's own session was closed, it is replaced by a new one.

    Follows: ``tf.compat.v1.get_default_session``, which returns None if no session was entered.
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
