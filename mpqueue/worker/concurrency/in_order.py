"""Samples in flight: calls that helper threads or coroutines compute at once, with results in order.

At most `AHEAD` calls for each thread or coroutine are started and not taken. When all calls of a batch are started,
the calls of the next batches follow, if known and within the same limit. Otherwise all threads would wait for the
slowest call of each batch. Measured with samples that wait for 20 ms (median, some for 130 ms), next to a busy program:
956 samples/s instead of 489, with two workers of 16 threads.

No call outlives its batch. After an error, calls that have not started are cancelled, and running ones must end
before the error is raised. So no user code runs when an epoch ends. An interrupt of the waiting thread itself (Ctrl-C,
if the caller is the worker) is not delayed: the helpers are abandoned, end after their calls, and the next batch gets
new ones.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from mpqueue.plan.options.batching import AHEAD
from mpqueue.telemetry.clock import clock_ns
from mpqueue.worker.concurrency.helper_threads import HelperCall
from mpqueue.worker.concurrency.stuck import SampleHung

if TYPE_CHECKING:
    from mpqueue.worker.concurrency.coroutines import Coroutines  # imports asyncio
    from mpqueue.worker.concurrency.helper_threads import Helpers

Helping: TypeAlias = "Helpers | Coroutines"
# Grants of later batches arrive in the meantime. A look into the pipe takes three system calls, so it is worthwhile
# only occasionally.
_TAKEN_BETWEEN = 16


class CallWindow:
    """The calls that are started and not taken, of a batch and of those after it.

    Attributes:
        count: Their number.
        last: The calls to start next belong to these.
        pause: Number of calls to be taken before the next look for a later batch.
    """

    __slots__ = ("count", "last", "pause")

    def __init__(self) -> None:
        self.count = self.pause = 0
        self.last: InOrder | None = None


class InOrder:
    """Several calls with results in order; a context manager. Its exit ends all of them.

    Args:
        helpers: The threads or coroutines.
        call: The function to call.
        arguments: The arguments of each call.
        window: The calls of earlier batches are in the same window; None: there are none.
        timeout_s: Maximum time for all calls, for coroutines; None for none.

    Attributes:
        helpers: The threads or coroutines.
        find_next: Called when all calls are started: returns the next ones, or None if they are not known yet.
        is_given_up: An interrupt of this thread while it waited has left running calls: the helpers must not be used
            again.
        is_over: The exit is complete.
        beside_ns: Nanoseconds that helpers spent on the taken calls, minus the waiting time of this thread:
            the duration of the calls beyond the time of this thread.
    """

    def __init__(
        self, helpers: Helping, call: Callable[..., Any], arguments: Iterable[tuple[Any, ...]],
        window: CallWindow | None = None, timeout_s: float | None = None,
    ) -> None:  # fmt: skip
        self.helpers, self._call, self._arguments = helpers, call, iter(arguments)
        self._window, self._timeout_s, self._until = window or CallWindow(), timeout_s, 0.0
        self.find_next: Callable[[], InOrder | None] | None = None
        self._pending: deque[HelperCall] = deque()
        self.is_given_up = self.is_over = False
        self.beside_ns = 0

    def next(self) -> Any:
        """Return the next result.

        Raises:
            IndexError: All results were taken.
            SampleHung: The time is over.
            BaseException: The error of the call.
        """
        return self._take().result()

    def __getitem__(self, _index: object) -> Any:
        """Return the next result, as if this were the source of the samples."""
        return self.next()

    def take(self) -> Callable[[], Any]:
        """Wait for the next result; return a function that returns it, or raises the error of its call.

        Raises:
            IndexError: All results were taken.
            SampleHung: The time is over.
        """
        return self._take().result

    def _fill(self) -> None:
        """Start calls, of this batch or the next ones, while the window has room."""
        window, most = self._window, AHEAD * self.helpers.width
        while window.count < most:
            calls = window.last or self
            arguments = next(calls._arguments, None)
            if arguments is not None:
                # `arguments` is an iterator, so no call is submitted twice.
                calls._pending.append(self.helpers.submit(calls._call, *arguments))
                window.count += 1
                continue
            if calls.find_next is None or window.pause > 0:
                return
            following = calls.find_next()
            if following is None:
                window.pause = _TAKEN_BETWEEN
                return
            window.last = following

    def _take(self) -> HelperCall:
        if self._timeout_s is not None and not self._until:
            self._until = time.monotonic() + self._timeout_s  # now it is the turn of this batch
        self._fill()
        # The oldest call: results are taken in the order of the calls, whichever finishes first.
        call = self._pending[0]
        # Kept in `_pending` while waiting: after an interrupt, `__exit__` must still find the call.
        if not self._wait(call, self._until or None):
            position, index = call.arguments[:2]
            raise SampleHung(position, index, self._timeout_s or 0.0, call.stack())
        self.beside_ns += call.ns
        self._window.count -= 1
        self._window.pause -= 1
        return self._pending.popleft()

    def _wait(self, call: HelperCall, until: float | None = None) -> bool:
        if call.is_done:
            return True
        self.helpers.check()
        # Until the wait is over: an exception of the wait itself does not belong to the call.
        self.is_given_up = True
        started = clock_ns()
        has_ended = self.helpers.wait(call, until)
        self.beside_ns -= clock_ns() - started
        self.is_given_up = False
        return has_ended

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Cancelled ones can no longer start. The others run user code, which must end before the batch does.
        # All are cancelled before the first wait: in the meantime, helpers would start the next ones.
        at_work = list(self.helpers.cancel(self._pending))
        while at_work and not self.is_given_up:
            self._wait(at_work.pop())
        self._window.count -= len(self._pending)
        self._pending.clear()
        if self._window.last is self:
            self._window.last = None
        self.find_next = None  # the iterator of the next calls holds these
        self.is_over = True
