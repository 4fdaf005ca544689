"""A pipe that wakes another thread; safe to use inside signal handlers, and after it was closed."""

import contextlib
import operator
import os
from collections.abc import Iterator
from itertools import repeat

from mpqueue.system.descriptors import descriptors


class Wakeup:
    """A descriptor to poll together with others, and a method that makes it readable.

    Raises:
        OSError: No descriptor is left.
    """

    # The number of a closed descriptor is soon reused for another file. So the pipe is closed by `close`, or by the
    # last `wake` that began before it, whichever returns last. It takes no lock: a signal handler may call either
    # method in the middle of the other.

    def __init__(self) -> None:
        self.fd, write_end = descriptors.pipe()
        # `clear` may find the pipe empty, and `wake` may find it full. Neither may block: a signal handler calls
        # `wake`.
        os.set_blocking(self.fd, False)
        os.set_blocking(write_end, False)
        self._target = [write_end]  # the descriptor that `wake` writes to; -1 after `close`
        self._unclosed = [self.fd, write_end]
        self._waking: list[None] = []  # an entry for each `wake` that is running

    def wake(self) -> None:
        """Make the descriptor readable. May be called from any thread."""
        try:
            # Before the number is read: from here on `close` does not close it. No handler can run before the entry is
            # added, so that `finally` does not remove another thread's entry.
            self._waking.append(None)
            os.write(self._target[0], b"!")
        except TimeoutError:  # of the user's alarm: this call may not have written
            raise
        except OSError:
            return  # the pipe is full, so it is readable; or it is closed, and no thread waits
        finally:
            self._waking.pop()
            if self._target[0] < 0:
                self._close_unused()

    def prepare(self) -> Iterator[int]:
        """Return an endless iterator; each item makes the descriptor readable, by one call of C code, until `close`.

        Raises:
            OSError: Raised by the iterator if the pipe is full (and thus readable) or closed.
        """
        return map(os.write, map(operator.getitem, repeat(self._target), repeat(0)), repeat(b"!"))

    def clear(self) -> None:
        """Read all wake-ups, so that the next wait blocks."""
        with contextlib.suppress(BlockingIOError):  # no wake-up to read
            # More wake-ups than that remain in the pipe. They only cause one needless turn of the waiting loop.
            os.read(self.fd, 4096)

    def close(self) -> None:
        """Close both ends; a later `wake` has no effect. Idempotent."""
        # First the number, so that no later `wake` writes to it. Calls that have read it are in `_waking`.
        self.fd = self._target[0] = -1
        self._close_unused()

    def _close_unused(self) -> None:
        """Close the open ends, unless a `wake` is running, which will close them."""
        while self._unclosed and not self._waking:
            with contextlib.suppress(IndexError):  # another thread has just closed it
                descriptors.close(self._unclosed.pop())
