"""A pipe that ends another thread's wait; safe inside signal handlers, and after its end."""

import contextlib
import os
from collections.abc import Iterator
from itertools import repeat

from mpqueue.system import descriptors


class Wakeup:
    """A descriptor to be waited for with others, and the call that makes it readable.

    Raises:
        OSError: There are no descriptors left.
    """

    def __init__(self) -> None:
        self.fd, self._write = descriptors.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write, False)

    def wake(self) -> None:
        """Make the descriptor readable; from any thread."""
        try:
            os.write(self._write, b"!")
        except OSError:
            return  # full: it wakes as it is; closed: nobody waits

    def prepare(self) -> Iterator[int]:
        """Return an endless iterator of which each item makes the descriptor readable, by one call of C, until `close`.

        Raises:
            OSError: At the item: the pipe is full, and so it is readable.
        """
        return map(os.write, repeat(self._write), repeat(b"!"))

    def clear(self) -> None:
        """Take the calls in, so that the next wait waits."""
        with contextlib.suppress(BlockingIOError):  # nobody has called
            os.read(self.fd, 4096)

    def close(self) -> None:
        """Close both ends; a `wake` that comes later does nothing."""
        ends = self.fd, self._write
        self.fd = self._write = -1  # a late `wake` must not write to a stranger that gets the number
        for fd in ends:
            descriptors.close(fd)
