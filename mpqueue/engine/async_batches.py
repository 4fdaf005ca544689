"""``async for`` over batches: each ``next`` runs in a thread, and the task waits for it in the event loop.

A task that is cancelled leaves its call running. The next ``__anext__`` gets the result of this call, so no batch is
lost or returned twice.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any

_END: Any = object()


class AsyncBatches(AsyncIterator[Any]):
    """The batches of an iterator, for ``async for`` in asyncio.

    Any number of tasks of one event loop may share it. Each batch goes to one task, the end goes to all.

    Args:
        batches: The iterator, which any thread may call.
    """

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches
        self._turn = asyncio.Lock()
        self._call: Future[Any] | None = None  # running, or its task was cancelled before it got the result

    async def __anext__(self) -> Any:
        async with self._turn:
            if self._call is None:
                self._call = Future()
                # A daemon: a program that ends while it waits must not wait for the batch.
                threading.Thread(
                    target=_take, args=(self._batches, self._call), name="mpqueue-next", daemon=True
                ).start()
            loop = asyncio.get_running_loop()
            done = loop.create_future()
            self._call.add_done_callback(lambda _: _wake(loop, done))
            await done  # which is cancelled with the task; the call itself continues
            call, self._call = self._call, None
        try:
            batch = call.result()
        except StopAsyncIteration as error:  # raised by the source: it would end the loop silently
            raise RuntimeError("the source raised StopAsyncIteration instead of returning a batch") from error
        if batch is _END:
            raise StopAsyncIteration
        return batch


def _wake(loop: asyncio.AbstractEventLoop, done: "asyncio.Future[None]") -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, and its task was cancelled
        loop.call_soon_threadsafe(_end, done)


def _end(done: "asyncio.Future[None]") -> None:
    if not done.done():  # otherwise it was cancelled with its task
        done.set_result(None)


def _take(batches: Iterator[Any], call: "Future[Any]") -> None:
    try:
        batch = next(batches, _END)
    except BaseException as error:
        call.set_exception(error)
    else:
        call.set_result(batch)
