"""Iterators in which a thread is still at work whose enqueuer was stopped.

Nobody waits for a thread at work when its enqueuer stops. Where all threads share one iterator, as they do with a
generator object, another start must wait for it: a generator that is asked by two threads at once raises an error.

    ThreadBackend.stop        leave    a thread is in the iterator, or may be
    that thread, at its end   end
    the first worker thread of another start, or the caller where there are none    await_end, before its first element

So `start` and `stop` never wait, the wait counts into the time that a ``batch_timeout`` allows, and `stop` frees
whoever waits for the element. A thread waits for those only that were there before it, so that no two wait for each
other.
"""

import os
import threading
from typing import Any

_threads: dict[threading.Thread, tuple[Any, threading.Event]] = {}


def leave(thread: threading.Thread, iterator: Any) -> None:
    """Note that a thread of a stopped enqueuer is inside; to be called before it can end."""
    _threads[thread] = iterator, threading.Event()


def end(thread: threading.Thread) -> None:
    """Note that a thread is out of everything."""
    left = _threads.pop(thread, None)
    if left is not None:
        left[1].set()


def await_end(iterator: Any) -> None:
    """Wait until no thread is in this iterator that was left there before."""
    for inside, has_ended in list(_threads.values()):
        if inside is iterator:
            has_ended.wait()


os.register_at_fork(after_in_child=_threads.clear)  # a child has none of them: it would wait for ever
