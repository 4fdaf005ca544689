"""Waits in the running event loop of asyncio or trio.

Neither is imported here: the waiting task's library is imported already. anyio runs on either.

A `TaskWaiter` waits for a descriptor, for a timeout, or for a call of `wake`. It waits for a duplicate of the
descriptor: an event loop has one waiter per number, and several tasks may wait for the same descriptor.
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
        """End the wait, or prevent it from starting. May be called from any thread and from a signal handler."""

    async def wait(self, fd: int, timeout_s: float | None) -> None:
        """Wait until ``fd`` is readable (-1 for none), the timeout expires (None for none), or `wake` is called."""


def make_waiter() -> TaskWaiter:
    """Return a waiter for the running task.

    Raises:
        RuntimeError: The caller is not in a task of asyncio or trio.
    """
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    # asyncio first, and by its task: if trio runs as a guest of asyncio's loop, that loop is running without a task.
    if asyncio is not None and asyncio._get_running_loop() is not None and asyncio.current_task() is not None:
        return AsyncioWaiter(asyncio)
    if trio is not None:
        try:
            return TrioWaiter(trio)
        except RuntimeError:
            pass  # it is imported, but is not running here
    raise RuntimeError("`async for` must be used in a task of asyncio or trio, but no task is running")


async def checkpoint() -> None:
    """Yield to other tasks, and raise if the task is cancelled."""
    waiter = make_waiter()
    waiter.wake()
    await waiter.wait(-1, None)


@contextlib.contextmanager
def _copy_of(fd: int) -> Iterator[int]:
    copy = -1
    try:
        try:
            # trio raises Ctrl-C in the task itself: right after the system call it would lose the duplicate.
            with defer_signals():
                copy = descriptors.above_standard(os.dup(fd)) if fd >= 0 else -1
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            # Another thread's stop has closed it. It has woken the waiter before.
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
            # A future may be set only in the loop's thread. This call also ends the loop's wait for descriptors.
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:
            return  # the loop is closed, and has no waiting tasks

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
        RuntimeError: trio is not running here.
    """

    def __init__(self, trio: Any) -> None:
        self._trio, self._token = trio, trio.lowlevel.current_trio_token()
        self._scope = trio.CancelScope()

    def wake(self) -> None:
        """End the wait; see `TaskWaiter`."""
        try:
            # Idempotent: calls before the next turn of the loop count as one, so its queue does not grow.
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
