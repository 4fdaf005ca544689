"""The loaders, enqueuers, servers and consumers of this process that are shown to whoever asks."""

import atexit
import os
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from mpqueue.errors import ServiceError
from mpqueue.system.interrupts import defer_signals
from mpqueue.system.locks import RLock
from mpqueue.system.log import warn
from mpqueue.version import __version__

if TYPE_CHECKING:
    from mpqueue.telemetry.monitor.window import Window

PROTOCOL = 1
_YES, _NO = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}


class Shown(Protocol):
    """An object that is shown."""

    def report(self) -> dict[str, Any]:
        """Return what there is to be seen of it, fit for JSON; from any thread, without a wait for a lock."""
        ...


_lock = RLock()  # a signal handler may stop a loader inside of a start
_shown: "weakref.WeakValueDictionary[int, Shown]" = weakref.WeakValueDictionary()
_window: "Window | None" = None


def is_asked_for() -> bool:
    """Return True if ``MPQUEUE_MONITOR`` asks for all loaders, enqueuers and consumers of this process to be shown.

    Raises:
        ValueError: It says neither yes nor no.
    """
    text = os.environ.get("MPQUEUE_MONITOR", "")
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise ValueError(f"MPQUEUE_MONITOR must be 1 or 0, got {text!r}")


def show(thing: Shown, *, is_quiet: bool = False) -> None:
    """Show an object until `hide`, or its end. A failure is a warning, and no error: training goes on unseen.

    Args:
        thing: It.
        is_quiet: Say nothing of a failure: the user has not asked.
    """
    global _window
    from mpqueue.telemetry.monitor.window import Window  # with what sockets and folders need: most are never shown

    with defer_signals(), _lock:
        _shown[id(thing)] = thing
        if _window is not None:
            return
        try:
            _window = Window(report)
        except (OSError, ServiceError) as error:
            if not is_quiet:
                warn(f"mpqueue top will not see process {os.getpid()}: {error}")


def hide(thing: Shown) -> None:
    """Show an object no more; after the last one the socket is gone. Idempotent."""
    global _window
    with defer_signals():
        with _lock:
            _shown.pop(id(thing), None)
            window = None
            if not _shown:
                window, _window = _window, None
        if window is not None:  # without the lock: its thread may want it
            window.close()


def sweep() -> None:
    """Remove the socket if what was shown is gone, without a `hide`; may be called by a garbage collection."""
    if not any(reference() is not None for reference in _shown.valuerefs()):
        _close()


def report() -> dict[str, Any]:
    """Return what runs in this process."""
    # By references, of which one call of C makes a list: `items` is Python code, amid which another thread may show one
    # more. Not with the lock: who holds it may come to `sweep` in a garbage collection, and wait there for our thread.
    shown = [thing for reference in _shown.valuerefs() if (thing := reference()) is not None]
    return {
        "protocol": PROTOCOL,
        "version": __version__,
        "pid": os.getpid(),
        "program": " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]]) if sys.argv else "",
        "clock_s": time.monotonic(),
        "shown": [_plain(thing) | {"id": id(thing)} for thing in sorted(shown, key=id)],
    }


def _plain(thing: Shown) -> dict[str, Any]:
    """Return the report of one object, its statistics as plain data."""
    found = thing.report()
    statistics = found.get("statistics")
    return found if statistics is None else found | {"statistics": statistics.to_dict()}


def _close() -> None:
    global _window
    window, _window = _window, None
    if window is not None:
        window.close()


def _begin_anew() -> None:
    """In a forked child: what the parent shows is the parent's."""
    global _lock, _window
    _lock, _window = RLock(), None
    _shown.clear()


atexit.register(_close)
os.register_at_fork(after_in_child=_begin_anew)
