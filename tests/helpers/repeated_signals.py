"""A handler of a signal that raises several times in a row, at each check for signals that Python makes."""

import _thread
import os

import mpqueue

_PACKAGE = os.path.dirname(mpqueue.__file__) + os.sep


class Repeated(BaseException):
    """The exception of the handler."""


class Repeating:
    """A signal handler that raises in the package's code, and leaves the same signal pending, a number of times.

    Args:
        num_raised: How often it raises.

    Attributes:
        num_left: How often it will raise.
        num_quiet: How often it was called without raising.
    """

    def __init__(self, num_raised):
        self.num_left, self.num_quiet = num_raised, 0

    def __call__(self, number, frame):
        if not (self.num_left and _is_of_package(frame)):
            self.num_quiet += 1
            return
        self.num_left -= 1
        # In a list, after which Python does not check for signals: the next check is the first one after the raise.
        _ = [*map(_thread.interrupt_main, (number,))]
        raise Repeated


def _is_of_package(frame):
    while frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame is not None
