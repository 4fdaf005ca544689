"""The start and the end of a loader, an enqueuer or a server, as other threads see and await them."""

import math
import threading
from numbers import Real
from typing import Any


class Ended:
    """An event that is set while something does not run.

    Its lock is re-entrant: the handler of a signal may stop what the thread that it interrupts is just starting.
    """

    def __init__(self) -> None:
        from mpqueue.system.condition import Condition  # 1.3 ms, of which the name of `Loader` needs nothing

        self._changed = Condition()
        self._is_set = True

    def is_set(self) -> bool:
        """Return True if it has ended, or has not begun."""
        return self._is_set

    def set(self) -> None:
        """Note that it has ended, and wake the threads that wait for it."""
        with self._changed:
            self._is_set = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Note that it begins."""
        with self._changed:
            self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has ended, or for ``timeout`` seconds; return True if it has."""
        return self._changed.wait_for(self.is_set, timeout)


class Stoppable:
    """Mixin with which other code waits for a loader or an enqueuer as for a thread, and stops it.

    The class creates an `Ended`, clears it at its start, and sets it at the end of its stop.
    """

    _ended: Ended

    def is_alive(self) -> bool:
        """Return True if it was started and not stopped."""
        return not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        """Block until it is stopped and its workers have ended.

        Args:
            timeout: Seconds to wait at most, None for ever. Ask `is_alive` then.
        """
        self._ended.wait(timeout)

    def request_stop(self) -> None:
        """Ask it to stop, and return at once: blocked threads are freed, and its workers end in the background."""
        threading.Thread(target=self.stop, name=f"mpqueue-stop-{type(self).__name__}", daemon=True).start()

    def stop(self) -> None:
        """Stop it; each class has its own."""
        raise NotImplementedError


def checked_wait(timeout: Any, name: str = "timeout") -> float | None:
    """Return the seconds that a call may wait, or None for no limit; a negative number counts as 0, as in `threading`.

    Raises:
        TypeError: The timeout is not a number.
        ValueError: The timeout is NaN.
    """
    if timeout is None or timeout == math.inf:
        return None
    is_number = isinstance(timeout, Real)
    if not is_number:
        raise TypeError(f"{name} must be a number of seconds or None, got {timeout!r}")
    if timeout != timeout:  # noqa: PLR0124 - not-a-number, of any type
        raise ValueError(f"{name} must be at least 0 seconds, or None to wait for ever; got {timeout!r}")
    return float(min(max(timeout, 0), threading.TIMEOUT_MAX))
