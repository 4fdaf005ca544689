"""Events and methods with which other threads wait for the end of a loader, an enqueuer or a server."""

import math
import threading
from numbers import Real
from typing import Any


class Ended:
    """An event that is set while its owner is not running.

    Its lock is re-entrant: a signal handler may stop the owner while the interrupted thread is starting it.
    """

    def __init__(self) -> None:
        # Imported here: it takes 1.3 ms, and an import of `Loader` alone does not need it.
        from mpqueue.system.signals.condition import Condition

        self._changed = Condition()
        self._is_set = True

    def is_set(self) -> bool:
        """Return True if the owner is not running."""
        return self._is_set

    def set(self) -> None:
        """Mark the owner as ended, and wake all waiting threads."""
        with self._changed:
            self._is_set = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Mark the owner as started."""
        with self._changed:
            self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the owner stops running, or for ``timeout`` seconds; return False on a timeout."""
        return self._changed.wait_for(self.is_set, timeout)


class Stoppable:
    """A mixin to wait for a loader or an enqueuer as for a thread, and to stop it.

    The class creates an `Ended`, clears it when it starts, and sets it when its stop is complete.
    """

    _ended: Ended

    def is_alive(self) -> bool:
        """Return True if the object was started and not stopped."""
        return not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        """Block until the object is stopped and its workers have exited.

        Args:
            timeout: Maximum time in seconds, or None for no limit. Call `is_alive` afterwards to see whether it ended.

        Raises:
            TypeError: ``timeout`` is not a number.
            ValueError: ``timeout`` is NaN.
        """
        self._ended.wait(checked_wait(timeout))

    def request_stop(self) -> None:
        """Request a stop and return at once: blocked threads are released, and the workers end in the background."""
        threading.Thread(target=self.stop, name=f"mpqueue-stop-{type(self).__name__}", daemon=True).start()

    def stop(self) -> None:
        """Stop the object; implemented by each class."""
        raise NotImplementedError


def checked_wait(timeout: Any, name: str = "timeout") -> float | None:
    """Return the seconds that a call may block, or None for no limit; a negative number counts as 0, as in `threading`.

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
        raise ValueError(f"{name} must be at least 0 seconds, or None to wait indefinitely; got {timeout!r}")
    return float(min(max(timeout, 0), threading.TIMEOUT_MAX))
