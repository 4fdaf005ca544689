"""The line of user code that led to the current call, for warnings."""

import sys


def outside_stacklevel() -> int:
    """Return the ``stacklevel`` of the first caller outside of this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "mpqueue":
        frame, level = frame.f_back, level + 1
    return level
