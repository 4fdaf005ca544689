"""The loaders, enqueuers, servers and consumers of this process that are shown by `mpqueue top`."""

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

_YES, _NO = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}


class Shown(Protocol):
    """An object that can be shown."""

    def report(self) -> dict[str, Any]:
        """Return the object's data for JSON; called from any thread, and must not wait for a lock."""


_lock = RLock()  # reentrant: a signal handler may stop a loader while it starts
_shown: "weakref.WeakValueDictionary[int, Shown]" = weakref.WeakValueDictionary()
_window: "Window | None" = None


def is_asked_for() -> bool:
    """Return True if ``MPQUEUE_MONITOR`` requests that all loaders, enqueuers and consumers of this process are shown.

    Raises:
        ValueError: The variable is neither true nor false.
    """
    text = os.environ.get("MPQUEUE_MONITOR", "")
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise ValueError(f"MPQUEUE_MONITOR must be 1 or 0, got {text!r}")


def show(thing: Shown, *, is_quiet: bool = False) -> None:
    """Show an object until `hide`, or until it is collected. A failure is a warning rather than an error.

    Args:
        thing: The object.
        is_quiet: Log no warning on failure, because the user did not request the monitor.
    """
    global _window
    from mpqueue.telemetry.monitor.window import Window  # imports sockets and folders, which most programs do not need

    with defer_signals(), _lock:
        _shown[id(thing)] = thing
        if _window is not None:
            return
        try:
            _window = Window(report)
        except (OSError, ServiceError) as error:
            if not is_quiet:
                warn(f"mpqueue top cannot show process {os.getpid()}: {error}")


def hide(thing: Shown) -> None:
    """Stop showing an object; after the last one, the socket is removed. Idempotent."""
    global _window
    with defer_signals():
        with _lock:
            _shown.pop(id(thing), None)
            window = None
            if not _shown:
                window, _window = _window, None
        if window is not None:  # without the lock, which the window's thread may need
            window.close()


def sweep() -> None:
    """Remove the socket if all shown objects were collected; may be called by a garbage collection."""
    if not any(reference() is not None for reference in _shown.valuerefs()):
        _close()


def report() -> dict[str, Any]:
    """Return the data of all shown objects of this process."""
    # By references, which one call of C code puts into a list: `items` is Python code, during which another thread may
    # add an object. Without the lock: a thread that holds it may wait for our thread, in `sweep` during a collection.
    shown = [thing for reference in _shown.valuerefs() if (thing := reference()) is not None]
    return {
        "version": __version__,
        "pid": os.getpid(),
        "program": " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]]) if sys.argv else "",
        "clock_s": time.monotonic(),
        "shown": [_plain(thing) | {"id": id(thing)} for thing in sorted(shown, key=id)],
    }


def _plain(thing: Shown) -> dict[str, Any]:
    """Return the data of one object, with its statistics as plain data."""
    data = thing.report()
    statistics = data.get("statistics")
    return data if statistics is None else data | {"statistics": statistics.to_dict()}


def _close() -> None:
    global _window
    window, _window = _window, None
    if window is not None:
        window.close()


def _reset_in_child() -> None:
    """Forget the parent's objects and socket in a forked child."""
    global _lock, _window
    _lock, _window = RLock(), None
    _shown.clear()


atexit.register(_close)
os.register_at_fork(after_in_child=_reset_in_child)
