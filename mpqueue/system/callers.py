"""The callers of the current function: the line of user code, for warnings, and functions of other libraries."""

import sys
from types import FrameType


def outside_stacklevel() -> int:
    """Return the ``stacklevel`` of the first caller outside of this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "mpqueue":
        frame, level = frame.f_back, level + 1
    return level


def frame_of(function: str, *modules: str) -> FrameType | None:
    """Return the nearest frame of a function of one of these modules among the callers; None: it is not a caller."""
    if sys.modules.keys().isdisjoint(modules):
        return None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == function and frame.f_globals.get("__name__") in modules:
            return frame
        frame = frame.f_back
    return None
