"""The elements of asynchronous generators and iterables, one by one, for code that reads plain iterators.

A task in the event loop runs the iterable from beginning to end: a generator may hold a timeout or a task group
over several elements, which belong to one task. Each element has the context of the thread that requests it.
"""

import asyncio
from collections.abc import AsyncIterable, Iterator
from functools import partial
from typing import Any

from mpqueue.system.processes.exit import leave_as_child
from mpqueue.system.processes.own_process import ProcessMark
from mpqueue.system.signals.collected import WhenCollected
from mpqueue.system.user_code.object_walk import title_of
from mpqueue.worker import context
from mpqueue.worker.concurrency.event_loop import cancelled_error, shared_loop, stack_of
from mpqueue.worker.concurrency.helper_threads import HelperCall

_END = object()


class _Request(HelperCall):
    """A request for the next element."""

    __slots__ = ("own",)

    def __init__(self) -> None:
        super().__init__(iter, ())
        self.own = context.of_coroutine()

    def answer(self, value: Any, error: BaseException | None = None) -> None:
        """Wake the thread that waits."""
        self._value, self._error = value, error
        self.is_done = True
        self._done.release()


class AsyncElements(Iterator[Any]):
    """An iterator over an asynchronous iterable; only one thread may use it.

    Args:
        iterable: The iterable.
    """

    def __init__(self, iterable: AsyncIterable[Any]) -> None:
        self._made, self._loop = iterable, shared_loop()
        self._requests: asyncio.Queue[_Request | None] = asyncio.Queue()
        self._has_begun = self._is_over = False
        self._task: asyncio.Task[None] | None = None
        # Without it, the task would keep the generator after the lane is closed.
        self._end = WhenCollected(self, _close, self._loop, self._requests, at_exit=False)

    def __next__(self) -> Any:
        if self._is_over:
            raise StopIteration
        loop, request = self._loop, _Request()
        loop.check_waiter()
        loop.call(partial(self._ask, request) if self._has_begun else partial(self._begin, request))
        self._has_begun = True
        loop.wait(request, self._awaited)
        context.leave_coroutine(request.own)
        value = request.result()
        if value is _END:
            self._is_over = True
            raise StopIteration
        return value

    def _awaited(self) -> str:
        # Of a generator; another iterable shows its stack only in its task.
        at = self._made if self._task is None or hasattr(self._made, "ag_frame") else self._task.get_coro()
        return f"the next element of {title_of(self._made)}\n{stack_of(at)}"

    def _begin(self, request: _Request) -> None:
        self._requests.put_nowait(request)
        loop = asyncio.get_running_loop()
        self._task = task = loop.create_task(_drive(self._made, self._requests, self._loop.own))
        # The loop refers to its tasks weakly.
        _running.add(task)
        task.add_done_callback(_running.discard)

    def _ask(self, request: _Request) -> None:
        self._requests.put_nowait(request)


class StatefulElements(AsyncElements):
    """As `AsyncElements`, of an iterable that saves and restores its position by torch's convention."""

    def state_dict(self) -> Any:
        """Return the position."""
        made: Any = self._made
        return made.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Restore the position."""
        made: Any = self._made
        made.load_state_dict(state)


_running: set["asyncio.Task[None]"] = set()


def elements_of(iterable: AsyncIterable[Any]) -> AsyncElements:
    """Return an iterator over an asynchronous iterable."""
    has_state = hasattr(iterable, "state_dict") and hasattr(iterable, "load_state_dict")
    return StatefulElements(iterable) if has_state else AsyncElements(iterable)


async def _drive(iterable: AsyncIterable[Any], requests: "asyncio.Queue[_Request | None]", own: ProcessMark) -> None:
    iterator = aiter(iterable)
    try:
        while (request := await requests.get()) is not None:
            context.enter_coroutine(request.own)
            value: Any = None
            error: BaseException | None = None
            try:
                value = await anext(iterator)
            except StopAsyncIteration:
                value = _END
            except asyncio.CancelledError as raised:
                error = cancelled_error(raised)
            except BaseException as raised:
                error = raised
            if not own[0]:
                leave_as_child(error)
            request.answer(value, error)
            del request, value, error  # an idle task would keep the element
    finally:
        if hasattr(iterator, "aclose"):
            await iterator.aclose()


def _close(loop: Any, requests: "asyncio.Queue[_Request | None]") -> None:
    if loop.own[0]:
        loop.call(partial(requests.put_nowait, None))
