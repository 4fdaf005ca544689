"""A pipe that ends another thread's wait; safe inside signal handlers, and after its end."""

import contextlib
import operator
import os
from collections.abc import Iterator
from itertools import repeat

from mpqueue.system import descriptors
from mpqueue.system.interrupts import is_of_handler


class Wakeup:
    """A descriptor to be waited for with others, and the call that makes it readable.

    A number of a closed descriptor is soon used again, by a stranger. So the pipe is closed by whoever leaves last: by
    `close`, or by the last `wake` that had begun before it. There is no lock: a signal handler may call either method
    in the middle of the other.

    Raises:
        OSError: There are no descriptors left.
    """

    def __init__(self) -> None:
        self.fd, write_end = descriptors.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(write_end, False)
        self._target = [write_end]  # where `wake` writes; -1 after `close`
        self._unclosed = [self.fd, write_end]
        self._waking: list[None] = []  # an entry for each `wake` that runs now

    def wake(self) -> None:
        """Make the descriptor readable; from any thread."""
        try:
            # Before the look at the number: from here on `close` leaves it open. No handler strikes before the entry is
            # there: `finally` takes none out that another thread has made.
            self._waking.append(None)
            os.write(self._target[0], b"!")
        except OSError as error:
            if is_of_handler(error):  # a time limit
                raise
            return  # the pipe is full, so it is readable; or it is closed, and no thread waits
        finally:
            self._waking.pop()
            if self._target[0] < 0:
                self._close_unused()

    def prepare(self) -> Iterator[int]:
        """Return an endless iterator of which each item makes the descriptor readable, by one call of C, until `close`.

        Raises:
            OSError: At the item: the pipe is full, and so it is readable; or it is closed.
        """
        return map(os.write, map(operator.getitem, repeat(self._target), repeat(0)), repeat(b"!"))

    def clear(self) -> None:
        """Take the calls in, so that the next wait waits."""
        with contextlib.suppress(BlockingIOError):  # nobody has called
            os.read(self.fd, 4096)

    def close(self) -> None:
        """Close both ends; a `wake` that comes later does nothing. Idempotent."""
        self.fd = self._target[0] = -1
        self._close_unused()

    def _close_unused(self) -> None:
        """Close what is open, unless a `wake` runs: that will close it."""
        while self._unclosed and not self._waking:
            with contextlib.suppress(IndexError):  # another thread was faster
                descriptors.close(self._unclosed.pop())
