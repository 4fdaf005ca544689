"""What another thread does between two lines of Python code, in the order of the test."""

import sys


def meanwhile(act, call):
    """Return what a call returns, amid each line of which, and of what it calls, something is done."""

    def trace(_frame, _event, _argument):
        sys.settrace(None)  # not amid itself
        act()
        sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return call()
    finally:
        sys.settrace(before)
