"""The event loop of a process, in a separate thread: it runs the coroutines of sources.

There is one loop in each worker process, and one in the trainer for everything that it computes itself. A client
session belongs to one loop, so all coroutines of a source must run in the same one. The thread makes the loop
independent of other loops: a program that runs in asyncio, or a notebook, may wait for it.

The loop ends with its last user: leftover tasks of samples are cancelled, and awaited for `_END_S`. In a
forked child the loop does not exist, and a new one is started when it is needed. A child that a coroutine has forked
has only the thread of the loop, and shares its descriptors: it exits when its task returns, raises or awaits.

*Blocked loops.* A call that blocks stops all samples in flight. The thread that waits for a sample notices that: the
loop does not answer within `BLOCKED_S`. It logs the stack of the loop's thread, once for each line of code.
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Coroutine, Generator
from types import FrameType
from typing import Any, TypeVar

from mpqueue.system.processes.exit import leave_as_child
from mpqueue.system.processes.own_process import ProcessMark, make_mark
from mpqueue.system.signals.collected import WhenCollected
from mpqueue.system.signals.deferred import defer_signals
from mpqueue.system.signals.joined_threads import start_thread
from mpqueue.system.signals.locks import Lock
from mpqueue.worker.concurrency import stuck
from mpqueue.worker.concurrency.helper_threads import HelperCall

THREAD_NAME = "mpqueue-event-loop"
LOOK_S = 0.25
_END_S = 1.0
_T = TypeVar("_T")
_LOOPS = ("asyncio", "threading")  # the frames of the user are above the frames of these modules


class EventLoop:
    """A running loop with its thread; it ends when no reference to this object is left.

    Attributes:
        own: The mark of the process that runs it.
        loop: The loop.

    Raises:
        OSError: The thread cannot be started.
    """

    def __init__(self) -> None:
        self.own = make_mark()
        self._answered_at = self._asked_at = 0.0
        self._told: set[tuple[str, int]] = set()
        # A signal handler that raises in between would leave half a loop, or make a running thread look like a failed
        # start.
        with defer_signals():
            self.loop = asyncio.new_event_loop()  # of the policy that `worker_init` may have set
            self.loop.set_task_factory(_task_factory(self.loop.get_task_factory(), self.own))
            # Without a reference to this object: the thread would keep it.
            is_over = threading.Event()
            arguments = self.loop, is_over, self.own
            self._thread = threading.Thread(target=_serve, args=arguments, name=THREAD_NAME, daemon=True)
            try:
                start_thread(self._thread)
            except BaseException:
                self.loop.close()
                raise
            self._end = WhenCollected(self, _end, self.loop, is_over, self.own)

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the loop's thread, soon.

        Raises:
            RuntimeError: This process was forked since, or the loop is closed.
        """
        self.check()
        self.loop.call_soon_threadsafe(function)

    def run(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float | None = None) -> _T:
        """Run a coroutine in the loop, and wait for it.

        Raises:
            TimeoutError: It took too long, and was cancelled.
            BaseException: The error of the coroutine.
        """
        self.check_waiter()
        self.check()
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout_s)
        finally:
            future.cancel()

    def check(self) -> None:
        """Raise an error in a child that was forked since.

        Raises:
            RuntimeError: The loop belongs to its parent.
        """
        if not self.own[0]:
            raise RuntimeError(
                "this process was forked while coroutines of its parent computed samples or elements, and does not "
                "have their event loop: create a new iterator in this process"
            )

    def check_waiter(self) -> None:
        """Raise an error if this is the loop's own thread, which cannot wait for itself.

        Raises:
            RuntimeError: A coroutine waits for other samples.
        """
        if self.is_here:
            raise RuntimeError(
                "a coroutine of a source waits for samples that the same event loop must compute: await their "
                "coroutines, or compute them in a thread by `asyncio.to_thread`"
            )

    def stop(self) -> None:
        """End the loop and its tasks now, and wait for that; for a process that is about to exit."""
        self._end.call()
        self._thread.join(2 * _END_S)

    @property
    def is_here(self) -> bool:
        """True in the loop's thread."""
        return threading.current_thread() is self._thread

    def wait(
        self,
        call: HelperCall,
        awaited: Callable[[], str],
        until: float | None = None,
        again: Callable[[], object] = int,
    ) -> bool:
        """Wait for a call that the loop computes.

        Args:
            call: The call.
            awaited: Describes the call and where it awaits.
            until: A time of `time.monotonic` at which to give up; None for none.
            again: Called now and then.

        Returns:
            False if the call has not ended.

        Raises:
            RuntimeError: The loop waits for itself.
        """
        self.check_waiter()
        began, told = time.monotonic(), ""
        try:
            while True:
                again()
                left_s = LOOK_S if until is None else min(LOOK_S, max(0.0, until - time.monotonic()))
                if call.wait(left_s):
                    return True
                now = time.monotonic()
                if until is not None and now >= until:
                    return False
                self._look()
                if now >= began + stuck.AWAITS_S and told != (text := awaited()):
                    told = text
                    stuck.tell_awaited(text)
        finally:
            if told:
                stuck.tell_awaited("")

    def _look(self) -> None:
        """Notice a loop that is blocked, and report its stack."""
        now = time.monotonic()
        if self._answered_at >= self._asked_at:
            self._asked_at = now
            self.call(self._answer)
        elif now - self._asked_at >= stuck.BLOCKED_S:
            position, shown = _blocked_at(sys._current_frames().get(self._thread.ident or 0))
            if position not in self._told:
                self._told.add(position)
                stuck.tell(stuck.blocked_text(f"{position[0]}:{position[1]}", shown))

    def _answer(self) -> None:
        self._answered_at = time.monotonic()


def _blocked_at(frame: FrameType | None) -> tuple[tuple[str, int], str]:
    """Return the file and line of the coroutine that runs, and its stack."""
    position, frames = ("the source", 0), traceback.StackSummary()
    for each, line in () if frame is None else traceback.walk_stack(frame):  # from the innermost frame outwards
        package = each.f_globals.get("__name__", "").partition(".")[0]
        if package in _LOOPS:
            break
        if package != "mpqueue":
            position = each.f_code.co_filename, line
            frames.append(traceback.FrameSummary(*position, each.f_code.co_name))
    return position, "".join(traceback.StackSummary.from_list(frames[::-1]).format())


class _WithoutChildren(Coroutine[Any, Any, Any]):
    """A coroutine that ends a child which one of its steps has forked.

    Args:
        coroutine: The coroutine.
        own: The mark of the process that runs it.
    """

    __slots__ = ("_coroutine", "_own")

    def __init__(self, coroutine: Any, own: ProcessMark) -> None:
        self._coroutine, self._own = coroutine, own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)  # such as `cr_frame`, for debuggers and `asyncio.Task.get_stack`

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._coroutine.__await__())

    def send(self, value: Any) -> Any:
        """Run the next step."""
        return self._step(self._coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        """Run the next step, which begins with an exception."""
        return self._step(self._coroutine.throw, *error)

    def close(self) -> None:
        """Close the coroutine."""
        self._coroutine.close()

    def _step(self, run: Callable[..., Any], *arguments: Any) -> Any:
        own = self._own
        if not own[0]:  # a callback has forked, and the child runs other tasks after it
            leave_as_child()
        try:
            awaited = run(*arguments)
        except StopIteration:
            if not own[0]:
                leave_as_child()
            raise
        except BaseException as error:
            if not own[0]:
                leave_as_child(error)
            raise
        if not own[0]:
            leave_as_child(RuntimeError("a child that a coroutine has forked cannot await: it has no event loop"))
        return awaited


def _task_factory(make: Any, own: ProcessMark) -> Any:
    """Return a task factory like ``make`` (None: asyncio's default) whose tasks end children that they fork."""

    def create(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        coroutine = _WithoutChildren(coroutine, own)
        return asyncio.Task(coroutine, loop=loop, **options) if make is None else make(loop, coroutine, **options)

    return create


def stack_of(at: Any) -> str:
    """Return where a coroutine or an asynchronous generator awaits, without the frames of this package."""
    frames = traceback.StackSummary()
    # A coroutine shows only its own frame. Each refers to the one that it awaits.
    while (frame := getattr(at, "cr_frame", None) or getattr(at, "ag_frame", None)) is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] != "mpqueue":
            frames.append(traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        at = getattr(at, "cr_await", None) or getattr(at, "ag_await", None)
    return "".join(frames.format())


def _serve(loop: asyncio.AbstractEventLoop, is_over: threading.Event, own: ProcessMark) -> None:
    """Run the loop until it ends; the main function of its thread."""
    # Signals are not blocked: processes that user code starts here would inherit that, and could not be ended.
    asyncio.set_event_loop(loop)
    try:
        while not is_over.is_set():
            # Again, if user code has stopped it. A SystemExit or KeyboardInterrupt of a task leaves the loop, too; the
            # waiting thread receives it as the error of its sample.
            with contextlib.suppress(BaseException):
                loop.run_forever()
            if not own[0]:
                leave_as_child()
        with contextlib.suppress(BaseException):  # of tasks without a waiting caller
            loop.run_until_complete(_leave(loop))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _leave(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the leftover tasks of samples, and wait for them."""
    left = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_END_S)
    await loop.shutdown_asyncgens()
    # The threads of `asyncio.to_thread`. A call that hangs must not keep this thread.
    await asyncio.wait_for(loop.shutdown_default_executor(), _END_S)


def _end(loop: asyncio.AbstractEventLoop, is_over: threading.Event, own: Any) -> None:
    if own[0]:  # a child has neither the thread nor its own copy of the loop's descriptors
        is_over.set()
        with contextlib.suppress(RuntimeError):  # closed
            loop.call_soon_threadsafe(loop.stop)


_shared: "weakref.ref[EventLoop] | None" = None
_lock = Lock()


def _enter_child() -> None:
    global _lock
    _lock = Lock()  # another thread of the parent may have held it
    loop = None if _shared is None else _shared()
    if loop is not None and loop.is_here:
        loop.loop.stop()  # forked by a callback instead of a task


os.register_at_fork(after_in_child=_enter_child)


def shared_loop() -> EventLoop:
    """Return the loop of this process, which ends with its last user.

    Raises:
        OSError: Its thread cannot be started.
    """
    global _shared
    with _lock:
        loop = running_loop()
        if loop is None:
            loop = EventLoop()
            _shared = weakref.ref(loop)
    return loop


def running_loop() -> EventLoop | None:
    """Return the loop of this process; None: it has no loop."""
    loop = None if _shared is None else _shared()
    return loop if loop is not None and loop.own[0] else None


def cancelled_error(cause: BaseException) -> RuntimeError:
    """Return the error for a `CancelledError` of the source, which would look like a cancellation of the trainer."""
    error = RuntimeError("the source raised CancelledError: a task that it awaited, or its own, was cancelled")
    error.__cause__ = cause
    return error


async def close(source: Any) -> None:
    """Close the open objects of a source: by its own ``aclose``, or the ``aclose`` of each attribute."""
    if hasattr(type(source), "aclose"):
        await source.aclose()
        return
    for value in list(getattr(source, "__dict__", {}).values()):
        if hasattr(type(value), "aclose"):
            await value.aclose()
