"""Waiting for many descriptors at once: `select.epoll` where there is one, else `select.poll` behind the same calls."""

import select
from typing import Any

READABLE = select.POLLIN  # the same number as EPOLLIN


class _Poll:
    """`select.poll` with the methods of an epoll: time in seconds, and a `close`."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.register, self.unregister, self.modify = self._poll.register, self._poll.unregister, self._poll.modify

    def poll(self, timeout_s: float | None = None) -> list[tuple[int, int]]:
        """Wait for events, at most so many seconds; None or less than 0: until there is one."""
        return self._poll.poll(None if timeout_s is None or timeout_s < 0 else timeout_s * 1000)

    def close(self) -> None:
        """Nothing to do: it has no descriptor."""


def make_poller() -> Any:
    """Return an object with `register`, `unregister`, `modify`, `poll` (seconds or None) and `close`.

    Raises:
        OSError: There are no descriptors left.
    """
    return select.epoll() if hasattr(select, "epoll") else _Poll()


def is_readable(fd: int) -> bool:
    """Return whether a descriptor has something to read, or is at its end."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
