"""Iterators that threads of a stopped enqueuer still use.

Stopping an enqueuer does not wait for its running threads. If all threads share one iterator, such as a generator
object, the next start must wait for them: a generator that two threads call at once raises an error.

=========================  =================================================================================
Function                   Called by
=========================  =================================================================================
`leave`                    ``ThreadBackend.stop``, for each thread that may be inside the iterator
`end`                      that thread, when it returns
`await_end`                the first worker thread of the next start, or the caller if it has no threads,
                           before the first element
=========================  =================================================================================

So `start` and `stop` never wait. The wait counts towards ``batch_timeout``, and `stop` unblocks a consumer that
waits for the element.
"""

import os
import threading
from typing import Any

_threads: dict[threading.Thread, tuple[Any, threading.Event]] = {}


def leave(thread: threading.Thread, iterator: Any) -> None:
    """Register a thread of a stopped enqueuer as active in an iterator.

    Call this before the thread can call `end`.
    """
    _threads[thread] = iterator, threading.Event()


def end(thread: threading.Thread) -> None:
    """Unregister a thread that has returned from its iterator."""
    left = _threads.pop(thread, None)
    if left is not None:
        left[1].set()


def await_end(iterator: Any) -> None:
    """Wait until no thread that is registered now uses this iterator."""
    for inside, has_ended in list(_threads.values()):
        if inside is iterator:
            # A snapshot: a thread waits only for threads that were registered before it, so no two wait for each other.
            has_ended.wait()


# These threads do not exist in a child process, which would otherwise wait for them forever.
os.register_at_fork(after_in_child=_threads.clear)
