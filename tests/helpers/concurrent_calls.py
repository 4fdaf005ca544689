"""Calls at the same time, each in its own thread."""

import threading
from concurrent.futures import ThreadPoolExecutor

from helpers.deadlock import DEADLOCK_S


def in_threads(*calls):
    """Call functions at the same time, each in its own thread; return their results, or raise an error of a call."""
    together = threading.Barrier(len(calls))

    def begin(call):
        together.wait(DEADLOCK_S)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls, timeout=DEADLOCK_S))
