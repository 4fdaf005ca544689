"""``async for`` over batches: steps that never block, and waits between them in the event loop that runs.

    task                                            `Pollable`: a stream, or an attachment to a server
    ----                                            --------------------------------------------------
    every millisecond: let other tasks run
    step -----------------------------------------> a batch: returned at once
                                                    none yet:
    wait for fileno, timeout_s, or `wake` <-------- readable, or `wake`: a stop, a later loop
    step again ...

*Cancellation.* A task is cancelled at an ``await`` only. Each of them comes before the step that takes a batch, and
none between that step and the loop's body. So a task that is cancelled has taken nothing: the batch stays where it is,
for whoever asks next.

*Fairness.* A batch that is there costs no turn of the event loop: at 50,000 a second a turn for each would double what
a batch costs. After a millisecond without a wait other tasks have their turn, and a cancellation its chance.

*Wake-ups.* A stop closes the descriptors that are waited for, and a closed descriptor ends no wait; a later loop
empties the pipe that was to wake the earlier one. So both wake the tasks themselves.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from mpqueue.system.event_loops import TaskWaiter, checkpoint, make_waiter
from mpqueue.system.living import Living

_TURN_NS = 1_000_000
_NAP_S = 0.01
_clock = time.perf_counter_ns


class Pollable(Protocol):
    """A stream of steps, and what tells when to step again."""

    @property
    def watchers(self) -> "Living[AsyncBatches]":
        """Are woken when it stops, and when it serves another loop from now on."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when a step may give something."""

    def timeout_s(self) -> float | None:
        """Return the seconds after which a step is due although nothing is readable; None: there is no such time."""


class AsyncBatches(AsyncIterator[Any]):
    """The batches of one loop, for ``async for``.

    Any number of tasks of one event loop may share it: each batch goes to one of them, and the end to all.

    Args:
        step: Returns what identifies the next batch, and the batch; nothing (None, or an empty tuple) where it is not
            there yet. Raises StopIteration where there are no more.
        pollable: What is waited for then.
    """

    def __init__(self, step: Callable[[], Sequence[Any] | None], pollable: Pollable) -> None:
        self._step, self._pollable = step, pollable
        self._waiters: set[TaskWaiter] = set()
        self._is_woken = False
        self._turn_at = 0

    async def __anext__(self) -> Any:
        if _clock() >= self._turn_at:
            # Before the step, not behind it: a task that is cancelled here has taken nothing.
            await checkpoint()
            self._turn_at = _clock() + _TURN_NS
        while True:
            # Before the step as well: a stop that comes in the middle of it is not missed by the wait.
            self._is_woken = False
            try:
                found = self._step()
            except StopIteration:
                raise StopAsyncIteration from None
            except StopAsyncIteration as error:  # of the source: it would end the loop without a word
                raise RuntimeError("the source raised StopAsyncIteration in the place of a batch") from error
            if found:
                return found[1]  # and no call before it: see NOTE [ Interrupts ] in mpqueue.engine.pipeline
            await self._wait()
            self._turn_at = _clock() + _TURN_NS

    async def _wait(self) -> None:
        pollable = self._pollable
        if self not in pollable.watchers:
            pollable.watchers.add(self)
            return  # a stop until here has woken nobody: the next step tells of it
        waiter = make_waiter()
        self._waiters.add(waiter)
        try:
            if self._is_woken:  # between the step and the line above
                return
            try:
                fd, timeout_s = pollable.fileno(), pollable.timeout_s()
            except (OSError, ValueError):  # closed right now, by another thread; or there is no epoll
                fd, timeout_s = -1, _NAP_S
            await waiter.wait(fd, timeout_s)
        finally:
            self._waiters.discard(waiter)

    def wake(self) -> None:
        """Have all tasks that wait step again; from any thread, and from a signal handler."""
        self._is_woken = True
        for waiter in tuple(self._waiters):
            waiter.wake()
