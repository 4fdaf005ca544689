"""Members of a coordinator: the threads, processes, enqueuers and loaders that it waits for and stops."""

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from mpqueue.engine.stopping import checked_wait

if TYPE_CHECKING:
    from mpqueue.system.signals.condition import Condition

StopCallback: TypeAlias = Callable[[], object]


class Member(Protocol):
    """A thread, a process, an enqueuer or a loader.

    A coordinator that stops calls ``request_stop()`` of each member that has one. This method must not block; it
    releases the threads that are blocked in the member.
    """

    def is_alive(self) -> bool:
        """Return whether the member was started and has not finished."""

    def join(self, timeout: float | None = None) -> Any:
        """Block until the member has finished, or for ``timeout`` seconds."""


class Ending:
    """Notifies a condition after all members have finished.

    A member can be joined, but it cannot notify a condition. So a daemon thread joins the members one by one, then
    notifies the condition. The thread runs until the last member has finished, even without a waiting caller.

    Args:
        members: The members to wait for.
        changed: The condition to notify once `is_over` is True.

    Attributes:
        is_over: True after all members have finished, or one could not be joined.
        error: The exception that joining a member raised, or None.
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
    """Raise `TypeError` unless ``member`` has the methods of a `Member`."""
    if not all(hasattr(member, name) for name in ("is_alive", "join")):
        raise TypeError(f"A member must have is_alive() and join(timeout), like a thread, got {member!r}.")


def stoppers(members: Iterable[Member]) -> list[StopCallback]:
    """Return ``request_stop`` of each member that has one."""
    return [member.request_stop for member in members if hasattr(member, "request_stop")]


def name_of(member: Member) -> str:
    """Return the name of a member, or its repr if it has no name."""
    return str(getattr(member, "name", None) or repr(member))


def checked_timeout(timeout: Any) -> float | None:
    """Return a timeout in seconds, or None for no limit.

    Raises:
        TypeError: The timeout is not a number.
        ValueError: The timeout is negative or NaN.
    """
    seconds = checked_wait(timeout)
    if seconds is not None and timeout < 0:
        raise ValueError(f"timeout must be at least 0 seconds, or None to wait indefinitely, got {timeout!r}.")
    return seconds
