"""Finds the samples in batches of a stream for `Consumer.last`, by calling the functions of the stream in a thread.

The server's loop must not wait for these functions. One thread, started for the first request, answers all of them in
order. The loop sends each answer to its consumer.
"""

from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from mpqueue.system import interrupts
from mpqueue.system.joined_threads import JoinedThread


class Explanations:
    """The requests of the consumers of one server. Only its loop calls `ask`.

    Args:
        deliver: Makes the loop call a function; from any thread.
    """

    def __init__(self, deliver: Callable[[Callable[[], Any]], None]) -> None:
        self._deliver, self._is_closed = deliver, False
        self._questions: SimpleQueue[tuple[Callable[[], Any], Callable[..., Any]] | None] = SimpleQueue()
        self._thread: JoinedThread | None = None

    def ask(self, find: Callable[[], Any], tell: Callable[[Any, BaseException | None], Any]) -> None:
        """Answer a question later.

        Args:
            find: Returns the answer; it is called in the thread.
            tell: The loop calls it with the answer, or with None and the exception.

        Raises:
            LookupError: The system cannot start another thread.
        """
        if self._thread is None:
            thread = JoinedThread(self._run, "mpqueue-explain")
            try:
                thread.start()
            except OSError as error:  # the source is not at fault
                raise LookupError(f"the server cannot find the samples of a batch now: {error}") from error
            self._thread = thread
        self._questions.put((find, tell))

    def _run(self) -> None:
        while (question := self._questions.get()) is not None and not self._is_closed:
            find, tell = question
            try:
                # Functions of a stream may start processes.
                with interrupts.unblock_signals():
                    found, error = find(), None
            except BaseException as raised:  # such as asyncio's CancelledError: the thread must answer all questions
                found, error = None, raised
            self._deliver(partial(tell, found, error))

    def close(self, timeout: float | None = None) -> None:
        """Drop the questions, and wait for the one that is being answered."""
        self._is_closed = True
        self._questions.put(None)
        if self._thread is not None:
            self._thread.join(timeout)
