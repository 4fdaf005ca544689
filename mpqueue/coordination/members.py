"""What a coordinator can wait for, and how it learns that the last of them has ended."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias, runtime_checkable

StopCallback: TypeAlias = Callable[[], object]


@runtime_checkable
class Member(Protocol):
    """A thread, a process, an enqueuer, a loader: whatever runs, and can be waited for.

    One that also has ``request_stop()`` is told of a stop in that way; it must not block there, and frees whoever is
    blocked in it.
    """

    def is_alive(self) -> bool:
        """Whether it has started and not ended."""

    def join(self, timeout: float | None = None) -> Any:
        """Block until it has ended, or for ``timeout`` seconds."""


class Ended:
    """Whether something has ended, and a wait for it: an event with a re-entrant lock.

    The handler of a signal may stop what the thread that it interrupts is just starting.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_set = True

    def is_set(self) -> bool:
        """Return whether it has ended, or has not begun."""
        return self._is_set

    def set(self) -> None:
        """It has ended."""
        with self._changed:
            self._is_set = True
            self._changed.notify_all()

    def clear(self) -> None:
        """It begins."""
        with self._changed:
            self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has ended, or for ``timeout`` seconds; return whether it has."""
        with self._changed:
            return self._changed.wait_for(self.is_set, timeout)


class Stoppable:
    """Mixin that makes a member of what runs from its ``start`` to its ``stop``: an enqueuer, a loader.

    Its class makes an `Ended`, clears it when it starts, and sets it when a stop is through.
    """

    _ended: Ended

    def is_alive(self) -> bool:
        """Whether it was started and not stopped."""
        return not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        """Block until it is stopped and its workers have ended.

        Args:
            timeout: Seconds to wait at most, None for ever. Ask `is_alive` then.
        """
        self._ended.wait(timeout)

    def request_stop(self) -> None:
        """Ask it to stop, and return at once: whoever is blocked in it is freed, its workers end in the background."""
        threading.Thread(target=self.stop, name=f"mpqueue-stop-{type(self).__name__}", daemon=True).start()

    def stop(self) -> None:
        """Stop it; the class's own."""
        raise NotImplementedError


class Ending:
    """Tells a condition when the last of some members has ended.

    A member cannot notify a condition, but it can be joined: so a thread joins one after the other and then notifies.
    It lives as long as they do, also when nobody waits any more; it is a daemon and holds nothing but them.

    Args:
        members: Whom to wait for.
        changed: Is notified, once `is_over` is True.

    Attributes:
        is_over: Whether all have ended, or one could not be joined.
        error: What joining one raised, or None.
    """

    def __init__(self, members: list[Member], changed: threading.Condition) -> None:
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
