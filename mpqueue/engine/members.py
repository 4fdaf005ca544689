"""Members of a coordinator: all that runs and can be waited for, the wait for the last of them, and for how long."""

import math
import threading
from collections.abc import Callable, Iterable
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from mpqueue.system.condition import Condition

StopCallback: TypeAlias = Callable[[], object]


@runtime_checkable
class Member(Protocol):
    """A thread, a process, an enqueuer or a loader.

    A coordinator that stops calls the ``request_stop()`` of each member that has one. It must not block; it frees the
    threads that are blocked in the member.
    """

    def is_alive(self) -> bool:
        """Return True if it has started and not ended."""

    def join(self, timeout: float | None = None) -> Any:
        """Block until it has ended, or for ``timeout`` seconds."""


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
    """Mixin that makes a member of an enqueuer or a loader, which runs from its ``start`` to its ``stop``.

    Its class makes an `Ended`, clears it when it starts, and sets it when a stop is through.
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


class Ending:
    """Notifies a condition when the last of some members has ended.

    A member cannot notify a condition, but it can be joined. So a thread joins one member after the other, and then
    notifies. It lives as long as they do, also when nobody waits any more; it is a daemon and holds nothing else.

    Args:
        members: The members to wait for.
        changed: The condition to notify, once `is_over` is True.

    Attributes:
        is_over: True when all have ended, or one could not be joined.
        error: The exception that joining one raised, or None.
    """

    def __init__(self, members: list[Member], changed: "Condition") -> None:
        self._members, self._changed = members, changed
        self.error: BaseException | None = None
        self.is_over = not any(member.is_alive() for member in members)
        if not self.is_over:
            threading.Thread(target=self._wait, name="mpqueue-coordinator-join", daemon=True).start()

    def _wait(self) -> None:
        try:
            for member in self._members:
                if member.is_alive():  # a thread that was never started cannot be joined
                    member.join()
        except BaseException as error:
            self.error = error
        finally:
            with self._changed:
                self.is_over = True
                self._changed.notify_all()


def check_member(member: object) -> None:
    """Raise `TypeError` unless ``member`` can be waited for."""
    if not isinstance(member, Member):
        raise TypeError(f"a coordinator waits for what has is_alive() and join(timeout), like a thread; got {member!r}")


def stoppers(members: Iterable[Member]) -> list[StopCallback]:
    """Return the ``request_stop`` of those that have one."""
    return [member.request_stop for member in members if hasattr(member, "request_stop")]


def name_of(member: Member) -> str:
    """Return its name, or its repr if it has none."""
    return str(getattr(member, "name", None) or repr(member))


def checked_timeout(timeout: Any) -> float | None:
    """Seconds that a call may wait, None for ever.

    Raises:
        TypeError: It is no number.
        ValueError: It is negative, or not a number.
    """
    seconds = checked_wait(timeout)
    if seconds is not None and timeout < 0:
        raise ValueError(f"timeout must be at least 0 seconds, or None to wait for ever; got {timeout!r}")
    return seconds


def checked_wait(timeout: Any, name: str = "timeout") -> float | None:
    """The same where less than no time is none, as for the threads of Python: what is left until a deadline.

    Raises:
        TypeError: It is no number.
        ValueError: It is not a number.
    """
    if timeout is None or timeout == math.inf:
        return None
    is_number = isinstance(timeout, Real)
    if not is_number:
        raise TypeError(f"{name} must be a number of seconds or None, got {timeout!r}")
    if timeout != timeout:  # noqa: PLR0124 - not-a-number, of any type
        raise ValueError(f"{name} must be at least 0 seconds, or None to wait for ever; got {timeout!r}")
    return float(min(max(timeout, 0), threading.TIMEOUT_MAX))
