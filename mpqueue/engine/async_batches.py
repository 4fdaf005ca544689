"""``async for`` over batches: non-blocking steps, and waits in the running event loop between them.

    task                                            `Pollable`: a stream, or an attachment to a server
    ----                                            --------------------------------------------------
    every millisecond: yield to other tasks
    step -----------------------------------------> a batch: returned at once
                                                    no batch yet:
    wait for fileno, timeout_s, or `wake` <-------- readable, or `wake`: a stop, a later loop
    step again ...

A task can only be cancelled at an ``await``. A cancelled task has not taken a batch: the batch goes to the next caller.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from mpqueue.system.event_loops import TaskWaiter, checkpoint, make_waiter
from mpqueue.system.interrupts import not_of_handler
from mpqueue.system.living import Living

_TURN_NS = 1_000_000
_NAP_S = 0.01
_clock = time.perf_counter_ns


class Pollable(Protocol):
    """A stream that is read in steps, and the events after which to step again."""

    @property
    def watchers(self) -> "Living[AsyncBatches]":
        """The objects to wake when the stream stops, and when it starts to serve another loop."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when a step may return a batch."""

    def timeout_s(self) -> float | None:
        """Return the seconds after which a step is due without a readable descriptor, or None for no limit."""


class AsyncBatches(AsyncIterator[Any]):
    """The batches of one loop, for ``async for``.

    Any number of tasks of one event loop may share the iterator. Each batch goes to one task, the end goes to all.

    Args:
        step: Returns a tuple of an identifier and the next batch, or a false value (None, or an empty tuple) if no
            batch is ready. Raises StopIteration at the end.
        pollable: The stream to wait for if no batch is ready.
    """

    def __init__(self, step: Callable[[], Sequence[Any] | None], pollable: Pollable) -> None:
        self._step, self._pollable = step, pollable
        self._waiters: set[TaskWaiter] = set()
        self._is_woken = False
        self._turn_at = 0

    async def __anext__(self) -> Any:
        # Yield to other tasks only once per millisecond: at 50,000 batches a second, a turn of the event loop per batch
        # would double the cost of a batch.
        if _clock() >= self._turn_at:
            # Each ``await`` precedes the step that takes a batch; none follows between that step and the loop's body.
            # So a task that is cancelled here has not taken a batch.
            await checkpoint()
            self._turn_at = _clock() + _TURN_NS
        while True:
            # Reset before the step: otherwise the wait would miss a stop that happens during the step.
            self._is_woken = False
            try:
                step = self._step()
            except StopIteration:
                raise StopAsyncIteration from None
            except StopAsyncIteration as error:  # raised by the source: it would end the loop silently
                raise RuntimeError("the source raised StopAsyncIteration instead of returning a batch") from error
            if step:
                # No call before this return: an interrupt after it would lose the batch. See NOTE [ Interrupts ] in
                # mpqueue.engine.pipeline.
                return step[1]
            await self._wait()
            # The task has just waited, so other tasks had their turn.
            self._turn_at = _clock() + _TURN_NS

    async def _wait(self) -> None:
        pollable = self._pollable
        # Register before waiting, and step again: a stop before the registration did not wake this object.
        if self not in pollable.watchers:
            pollable.watchers.add(self)
            return
        waiter = make_waiter()
        # `wake` must reach the task directly. A stop closes the descriptors, and closing a descriptor does not end a
        # wait for it; a later loop drains the pipe that would have woken the earlier one.
        self._waiters.add(waiter)
        try:
            if self._is_woken:  # a `wake` between the step and the line above did not see the waiter
                return
            try:
                fd, timeout_s = pollable.fileno(), pollable.timeout_s()
            except not_of_handler(OSError, ValueError):
                # Another thread has just closed the stream, or epoll is unavailable.
                fd, timeout_s = -1, _NAP_S
            await waiter.wait(fd, timeout_s)
        finally:
            self._waiters.discard(waiter)

    def wake(self) -> None:
        """Make all waiting tasks step again. May be called from any thread and from a signal handler."""
        self._is_woken = True
        for waiter in tuple(self._waiters):
            waiter.wake()
