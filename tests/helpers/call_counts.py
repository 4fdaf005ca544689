"""Counts of calls and instructions: measures of cost that do not depend on the load of the machine."""

import sys


def calls_of(use, *, in_c=False):
    """Return the number of Python function calls that a function makes in this thread.

    Args:
        use: The function to run.
        in_c: Also count calls of C functions.
    """
    events = {"call", "c_call"} if in_c else {"call"}
    count = 0

    def watch(_frame, event, _argument):
        nonlocal count
        count += event in events

    sys.setprofile(watch)
    try:
        use()
    finally:
        sys.setprofile(None)
    return count


def instructions_of(use):
    """Return the number of Python instructions that a function executes in this thread, also in loops without calls."""
    count = 0

    def watch(frame, event, _argument):
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return watch

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 reports instructions only if a frame requests them before
    sys.settrace(watch)
    try:
        use()
    finally:
        sys.settrace(before)
    return count
