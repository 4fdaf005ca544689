"""Descriptors that one thread waits for, and what is called when each is ready."""

from collections.abc import Callable
from typing import Any

from mpqueue.transport.poller import READABLE, WRITABLE, close_poller, make_poller


class Handlers:
    """A poller with a function for each descriptor.

    Raises:
        OSError: There are no descriptors left.
    """

    def __init__(self) -> None:
        self._poller = make_poller()
        self._by_fd: dict[int, Callable[[], Any]] = {}

    def watch(self, fd: int, handler: Callable[[], Any]) -> None:
        """Call the handler whenever this descriptor is readable, or at its end."""
        self._by_fd[fd] = handler
        self._poller.register(fd, READABLE)

    def watch_room(self, fd: int, *, is_full: bool) -> None:
        """Call the handler also when there is room again to write, as long as it is full."""
        self._poller.modify(fd, READABLE | WRITABLE if is_full else READABLE)

    def unwatch(self, fd: int) -> None:
        """Wait for it no more; before it is closed."""
        del self._by_fd[fd]
        self._poller.unregister(fd)

    def wait(self, timeout_s: float | None) -> None:
        """Wait, at most so many seconds, and call the handlers of what is ready."""
        for fd, handler in [(fd, self._by_fd.get(fd)) for fd, _ in self._poller.poll(timeout_s)]:
            # Not if a handler before it has closed this one: the number may be another descriptor's by now, which
            # nobody has said to be ready.
            if handler is not None and self._by_fd.get(fd) is handler:
                handler()

    def close(self) -> None:
        """Let go of the poller."""
        close_poller(self._poller)
