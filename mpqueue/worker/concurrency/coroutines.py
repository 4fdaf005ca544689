"""Coroutines in place of helper threads: they compute several samples at once in the event loop of this process.

    worker's thread    starts calls in order, and takes their results in the same order:
    `mpqueue.worker.concurrency.in_order` event loop         runs as many of them as allowed, the oldest first, each in
    a separate task

A running sample that is not needed anymore is cancelled, and awaited. A `CancelledError` of the source itself arrives
as a RuntimeError: in ``async for`` it would look like a cancellation of the trainer.

`Coroutines` has the interface of `mpqueue.worker.concurrency.helper_threads.Helpers`, and
`mpqueue.worker.concurrency.in_order` uses either.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mpqueue.system.processes.own_process import ProcessMark
from mpqueue.telemetry.clock import clock_ns
from mpqueue.worker import context
from mpqueue.worker.concurrency.event_loop import cancelled_error, shared_loop, stack_of
from mpqueue.worker.concurrency.helper_threads import HelperCall
from mpqueue.worker.concurrency.stuck import element_text


class CoroutineCall(HelperCall):
    """A sample that is computed by a task; see `HelperCall`.

    Args:
        function: The coroutine function.
        arguments: Its arguments.
        ended: Called when the call is over, in the loop's thread.
    """

    __slots__ = ("_ended", "_is_cancelled", "_task")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], ended: Callable[[], object]) -> None:
        super().__init__(function, arguments)
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled, self._ended = False, ended

    def begin(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> "asyncio.Task[Any] | None":
        """Create the task in the loop's thread; return None if the call is cancelled."""
        try:
            function, arguments = self._todo.pop()
        except IndexError:
            return None
        self.ns = -clock_ns()
        self._task = task = loop.create_task(function(*arguments), context=context)
        task.add_done_callback(self._end)
        if self._is_cancelled:  # in the meantime
            task.cancel()
        return task

    def _end(self, task: "asyncio.Task[Any]") -> None:
        """Take the result of the task."""
        if task.cancelled():
            self._error = cancelled_error(asyncio.CancelledError())
        else:
            self._error = task.exception()
            if self._error is None:
                self._value = task.result()
        self._task = None  # its coroutine would keep the sample
        self.ns += clock_ns()
        self.is_done = True
        self._done.release()
        self._ended()

    def cancel(self) -> bool:
        """Cancel the call; return False if it runs, see `interrupt`."""
        self._is_cancelled = True
        return super().cancel()

    def interrupt(self) -> None:
        """Cancel the running task; in the loop's thread."""
        if self._task is not None:
            self._task.cancel()

    def stack(self) -> str:
        """Return where the task waits."""
        task = self._task
        return "" if task is None else stack_of(task.get_coro())


class _Waiting:
    """The share of the time of coroutines off the CPU: nearly all of it."""

    waiting_share = 1.0


class Coroutines:
    """A limited number of coroutines that run at once; see `mpqueue.worker.concurrency.helper_threads.Helpers`.

    Args:
        width: Number of coroutines.
        describe: Describes a call by its arguments.

    Attributes:
        width: Number of coroutines.
        clock: The share of their time off the CPU.

    Raises:
        OSError: The thread of the event loop cannot be started.
    """

    clock = _Waiting()

    def __init__(self, width: int, describe: Callable[..., str] = element_text) -> None:
        self.width, self._describe, self._loop = width, describe, shared_loop()
        self._context = contextvars.copy_context()
        self._queue: deque[CoroutineCall] = deque()
        self._num_running = 0
        self._is_due = False  # the loop's thread will look into the queue

    @property
    def own(self) -> ProcessMark:
        """The mark of the process that has the loop."""
        return self._loop.own

    @staticmethod
    def in_context(ask: Callable[[Any], Any], seed: int, epoch: int) -> Callable[[int, Any], Any]:
        """Return a coroutine function that computes a sample with its own context."""
        return context.in_any_task(ask, seed, epoch)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> CoroutineCall:
        """Queue a call of a coroutine function; calls start in this order.

        Raises:
            RuntimeError: The loop belongs to another process.
        """
        call = CoroutineCall(function, arguments, self._next)
        self._queue.append(call)
        # After the append: a task that ends after this line finds the call in the queue.
        if self._num_running < self.width and not self._is_due:
            self._is_due = True
            self._loop.call(self._begin)
        return call

    def check(self) -> None:
        """Raise an error in a child that was forked since.

        Raises:
            RuntimeError: The loop belongs to its parent.
        """
        self._loop.check()

    def wait(self, call: HelperCall, until: float | None = None) -> bool:
        """Wait for a call, at most until a time of `time.monotonic`; return False if it has not ended.

        Raises:
            RuntimeError: The loop waits for itself.
        """
        return self._loop.wait(call, lambda: f"{self._describe(*call.arguments)}\n{call.stack()}", until, self._ask)

    def _ask(self) -> None:
        # An interrupt may have struck in `submit`, before the loop was notified of the queue.
        if self._queue and self._num_running < self.width:
            self._loop.call(self._begin)

    def cancel(self, calls: Sequence[HelperCall]) -> list[HelperCall]:
        """Cancel calls, also the running ones, and return these."""
        running = [call for call in calls if not call.cancel() and not call.is_done]
        if running:
            self._loop.call(partial(_interrupt_all, running))
        return running

    def dismiss(self) -> None:
        """Keep the loop: it ends with its last user."""

    def _begin(self) -> None:
        """Start calls, in the loop's thread."""
        self._is_due = False  # before the queue is read: a later `submit` calls this again
        loop, queue = self._loop.loop, self._queue
        while queue and self._num_running < self.width:
            call = queue.popleft()
            # A copy for each: a sample must not see another sample's context variables.
            task = call.begin(loop, self._context.copy())
            if task is not None:
                self._num_running += 1

    def _next(self) -> None:
        """Start calls after the end of one, in the loop's thread."""
        self._num_running -= 1
        if self._queue:
            self._begin()


def _interrupt_all(calls: list[Any]) -> None:
    for call in calls:
        call.interrupt()
