"""Waiting in the event loop that runs: asyncio's, or trio's.

Neither is imported here: a task of one of them waits, so it is there already. anyio runs on either.

A `TaskWaiter` waits for a descriptor, for a time, or until somebody wakes it, whichever comes first. It waits for a
copy of the descriptor, because an event loop knows one waiter of each number; so any number of tasks may wait for one.
"""

import contextlib
import errno
import math
import os
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from mpqueue.system import descriptors
from mpqueue.system.interrupts import defer_signals


class TaskWaiter(Protocol):
    """One wait of one task."""

    def wake(self) -> None:
        """End the wait, or have it not begin; from any thread, and from a signal handler."""

    async def wait(self, fd: int, timeout_s: float | None) -> None:
        """Wait until ``fd`` is readable (-1: there is none), the seconds are over (None: never), or `wake`."""


def make_waiter() -> TaskWaiter:
    """Return a waiter for the task that runs.

    Raises:
        RuntimeError: No task of asyncio or trio runs here.
    """
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    # First asyncio, and by its task: where trio is a guest of asyncio's loop, that one runs too, but no task of it.
    if asyncio is not None and asyncio._get_running_loop() is not None and asyncio.current_task() is not None:
        return AsyncioWaiter(asyncio)
    if trio is not None:
        try:
            return TrioWaiter(trio)
        except RuntimeError:
            pass  # it is imported, and does not run here
    raise RuntimeError("`async for` waits in a task of asyncio or trio, and none runs here")


async def checkpoint() -> None:
    """Let other tasks run, and be cancelled if that was asked for."""
    waiter = make_waiter()
    waiter.wake()
    await waiter.wait(-1, None)


@contextlib.contextmanager
def _copy_of(fd: int) -> Iterator[int]:
    copy = -1
    try:
        try:
            # What a handler raises behind the system call would lose the copy: trio raises Ctrl-C in the task itself.
            with defer_signals():
                copy = descriptors.above_standard(os.dup(fd)) if fd >= 0 else -1
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            # It was closed by a stop in another thread, which has woken the waiter before.
        yield copy
    finally:
        if copy >= 0:
            os.close(copy)


class AsyncioWaiter:
    """A `TaskWaiter` of asyncio.

    Args:
        asyncio: The module.
    """

    def __init__(self, asyncio: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = self._loop.create_future()

    def _end(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    def wake(self) -> None:
        """End the wait; see `TaskWaiter`."""
        try:
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:
            return  # the loop was closed: nobody waits in it

    async def wait(self, fd: int, timeout_s: float | None) -> None:
        """Wait; see `TaskWaiter`."""
        with _copy_of(fd) as copy:
            timer = None if timeout_s is None else self._loop.call_later(timeout_s, self._end)
            try:
                if copy >= 0:
                    self._loop.add_reader(copy, self._end)
                await self._woken
            finally:
                if timer is not None:
                    timer.cancel()
                if copy >= 0:
                    self._loop.remove_reader(copy)


class TrioWaiter:
    """A `TaskWaiter` of trio.

    Args:
        trio: The module.

    Raises:
        RuntimeError: It does not run here.
    """

    def __init__(self, trio: Any) -> None:
        self._trio, self._token = trio, trio.lowlevel.current_trio_token()
        self._scope = trio.CancelScope()

    def wake(self) -> None:
        """End the wait; see `TaskWaiter`."""
        try:
            self._token.run_sync_soon(self._scope.cancel, idempotent=True)
        except self._trio.RunFinishedError:
            return

    async def wait(self, fd: int, timeout_s: float | None) -> None:
        """Wait; see `TaskWaiter`."""
        self._scope.deadline = math.inf if timeout_s is None else self._trio.current_time() + timeout_s
        with _copy_of(fd) as copy, self._scope:
            if copy < 0:
                await self._trio.sleep_forever()
            await self._trio.lowlevel.wait_readable(copy)
