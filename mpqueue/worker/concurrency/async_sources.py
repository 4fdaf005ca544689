"""What an asynchronous source needs in a process: plain iterators, ``worker_init``, and ``aclose``.

A source has a client session, a pool of connections or another object that belongs to the event loop. A coroutine
function as ``worker_init`` runs in this loop, so it may create such objects. Before the process ends, or loads a
new state of the source, the source's open objects are closed in the loop.

This module imports asyncio only when a coroutine runs.
"""

import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpqueue.plan.options.coroutines import is_coroutine_function
from mpqueue.system.log import warn
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.user_code.exception_texts import named_text_of
from mpqueue.worker import context

if TYPE_CHECKING:
    from mpqueue.worker.concurrency.event_loop import EventLoop


def plain_iterable(made: Any) -> Any:
    """Return an iterable; an asynchronous one becomes an iterator over its elements, which runs in the event loop."""
    if not hasattr(type(made), "__aiter__") or hasattr(type(made), "__iter__"):
        return made
    from mpqueue.worker.concurrency.async_iterators import elements_of

    return elements_of(made)


def value_of(made: Any) -> Any:
    """Return the result of a coroutine, which runs in the event loop; any other object is returned itself."""
    if not inspect.iscoroutine(made):
        return made
    from mpqueue.worker.concurrency.event_loop import shared_loop

    return shared_loop().run(made)


def initialise(worker_init: Callable[[], Any] | None) -> "EventLoop | None":
    """Call ``worker_init``, if there is one.

    Returns:
        The event loop that ran a coroutine function, and must be kept; None for a plain function.

    Raises:
        BaseException: The error of the function.
    """
    if worker_init is None:
        return None
    if not is_coroutine_function(worker_init):
        worker_init()
        return None
    from mpqueue.worker.concurrency.event_loop import shared_loop

    init, loop, own = worker_init, shared_loop(), context.of_coroutine()

    async def call() -> None:
        context.enter_coroutine(own)
        await init()

    loop.run(call())
    return loop


def close_in_loop(source: Any) -> None:
    """Close the open objects of a source, if this process has an event loop."""
    loop = _running_loop()
    if loop is None:
        return
    from mpqueue.worker.concurrency import event_loop

    for part in _parts_of(source):
        try:
            loop.run(event_loop.close(part))
        except BaseException as error:
            if is_interrupt(error):
                raise
            text = f"{type(part).__name__}.aclose() raised {named_text_of(error)}"
            warn(text, "Arrays, open files, remote data", "Coroutines")


def close_before_exit(source: Any) -> None:
    """Close the open objects of a source, and end the leftover tasks of its samples."""
    close_in_loop(source)
    loop = _running_loop()
    if loop is not None:
        loop.stop()


def _running_loop() -> "EventLoop | None":
    """Return the event loop of this process, without importing its module if no coroutine has run."""
    event_loop: Any = sys.modules.get("mpqueue.worker.concurrency.event_loop")
    return None if event_loop is None else event_loop.running_loop()


def _parts_of(source: Any) -> list[Any]:
    """Return the objects of the user that a source consists of."""
    parts_of = getattr(type(source), "parts_to_close", None)
    return [getattr(source, "__self__", source)] if parts_of is None else parts_of(source)
