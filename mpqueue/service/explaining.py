"""Finds the samples in batches of a stream for `Consumer.last`, by calling the functions of the stream in a thread.

The server's loop must not wait for these functions. One thread answers all requests in order, and exits after the last
one. The loop sends each answer to its consumer.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from mpqueue.system import interrupts
from mpqueue.system.joined_threads import JoinedThread
from mpqueue.system.locks import Lock


class Explanations:
    """The requests of the consumers of one server. Only its loop calls `ask`.

    Attributes:
        deliver: Makes the loop call a function; from any thread.
    """

    deliver: Callable[[Callable[[], Any]], None]

    def __init__(self) -> None:
        self._questions: deque[tuple[Callable[[], Any], Callable[..., Any]]] = deque()
        self._lock = Lock()  # guards the end of the thread against a new question
        self._thread: JoinedThread | None = None

    def ask(self, find: Callable[[], Any], tell: Callable[[Any, BaseException | None], Any]) -> None:
        """Answer a question later.

        Args:
            find: Returns the answer; it is called in the thread.
            tell: The loop calls it with the answer, or with None and the exception.
        """
        with self._lock:
            self._questions.append((find, tell))
            if self._thread is None:
                self._thread = JoinedThread(self._run, "mpqueue-explain")
                try:
                    self._thread.start()
                except BaseException as error:
                    self._thread = None
                    self._questions.clear()
                    raise LookupError(f"the server cannot find the samples of a batch now: {error}") from error

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._questions:
                    self._thread = None
                    return
                find, tell = self._questions.popleft()
            try:
                # Functions of a stream may start processes.
                with interrupts.unblock_signals():
                    found, error = find(), None
            except BaseException as raised:  # such as asyncio's CancelledError: the thread must answer all questions
                found, error = None, raised
            self.deliver(partial(tell, found, error))

    def close(self, timeout: float | None = None) -> None:
        """Drop the questions, and wait for the one that is being answered."""
        with self._lock:
            self._questions.clear()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)
