"""Deterministic interleaving with another thread, between two lines of Python code."""

import sys


def meanwhile(act, call):
    """Return the result of a call. Call ``act`` at each traced line of the call and of the functions that it calls."""

    def trace(_frame, _event, _argument):
        sys.settrace(None)  # do not trace `act` itself
        act()
        sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return call()
    finally:
        sys.settrace(before)
